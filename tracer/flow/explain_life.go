// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"time"
)

// life is a socket or a connection as its records tell it, from one run of looptrace or from several.
type life struct {
	records []*Record
	from    time.Time // zero: before anybody watched
	until   time.Time // zero: no end was seen
	live    bool      // the look at the live state has it
	// gone: no end was seen, and it is over: it was not there when tracing began anew, or at the look.
	gone bool
	seen time.Time // the last that is known of it
	run  int       // the last run of looptrace that told of it
}

func (l *life) add(r *Record) {
	l.records = append(l.records, r)
	l.seen = r.Time
	l.gone = false
}

func (l *life) open() bool { return l.until.IsZero() }

// at says whether it was there at a moment, as far as is known.
func (l *life) at(from, to time.Time) bool {
	if l.since().After(to) {
		return false
	}
	if l.gone {
		return !l.seen.Before(from)
	}
	return l.open() || !l.until.Before(from)
}

// since is from when on it is known to have been there.
func (l *life) since() time.Time {
	if l.from.IsZero() {
		return l.records[0].Time
	}
	return l.from
}

// end is when it was over, or was last heard of.
func (l *life) end() time.Time {
	if l.open() {
		return l.seen
	}
	return l.until
}

func (l *life) first(event string) *Record {
	i := slices.IndexFunc(l.records, func(r *Record) bool { return r.Event == event })
	if i < 0 {
		return nil
	}
	return l.records[i]
}

// hold is the life of a socket that holds a port.
type hold struct {
	life
	netns uint32
	proto uint16
	addr  netip.Addr
	port  uint16
	v6    bool  // IPv6 only
	heir  Actor // who has it at the look, where that is no process that a record before names

	dialled []*talk // it is the client\'s end of these
}

// latest is the record that says most about who holds it: of listen(), else of bind().
func (h *hold) latest() *Record {
	for _, event := range []string{"listen", "bind", "release"} {
		if r := h.first(event); r != nil {
			return r
		}
	}
	return h.records[0]
}

func (h *hold) who() Actor {
	if h.heir.Known() {
		return h.heir
	}
	if a := h.latest().Sock.Process; a.Known() {
		return a
	}
	for _, r := range h.records {
		if r.Sock.Process.Known() {
			return r.Sock.Process
		}
	}
	return Actor{}
}

// last is who let go of it; who closed last is not always who listened.
func (h *hold) last() Actor {
	if r := h.first("release"); r != nil && r.Sock.Process.Known() {
		return r.Sock.Process
	}
	return h.who()
}

func (h *hold) listens() bool { return h.first("listen") != nil }

// asked is the bind that tells how the port was got; nil: nobody saw it.
func (h *hold) asked() *Record {
	for _, r := range h.records {
		if r.Event == "bind" && !r.Preexisting {
			return r
		}
	}
	return nil
}

// lives puts records together again.
type lives struct {
	holds   []*hold
	talks   []*talk
	sockID  map[uint64]*hold // open ones
	connID  map[uint64]*talk
	watched time.Time // the last that is known of the run
	run     int       // ids are of one
	watches []Watch
	lost    time.Time // when the store lost something last
}

// observe takes the records in order.
func (l *lives) observe(r *Record) {
	switch {
	case r.Start != nil:
		l.interrupt(r.Time)
	case r.Lost != nil:
		l.lost = r.Time
	case r.Errno != 0 && r.Event != "close":
		return
	case r.Sock != nil:
		l.socket(r)
	case r.Conn != nil:
		l.connection(r)
	}
	l.watched = r.Time
}

// interrupt: from one run of looptrace to the next, nobody watched. What is still there is told of again, by
// another id.
func (l *lives) interrupt(next time.Time) {
	for i := range l.watches[:max(len(l.watches)-1, 0)] {
		if w := &l.watches[i]; l.watches[i+1].From.Equal(next) && w.Until.After(l.watched) && !w.Until.After(next) {
			l.watched = w.Until // by records of other ports
		}
	}
	l.miss(l.watched)
	l.nextRun()
}

// miss: what is open was last heard of then.
func (l *lives) miss(watched time.Time) {
	for _, h := range l.holds {
		h.miss(watched)
	}
	for _, d := range l.talks {
		d.miss(watched)
	}
}

func (l *lives) nextRun() {
	l.run++
	clear(l.sockID)
	clear(l.connID)
}

func (l *life) miss(watched time.Time) {
	if l.open() && !l.gone {
		l.gone = true
		if watched.After(l.seen) {
			l.seen = watched
		}
	}
}

func (l *lives) socket(r *Record) {
	h := l.sockID[r.ID]
	if h == nil && r.Preexisting {
		h = l.sameSocket(r)
	}
	if h == nil || r.Event == "bind" && !r.Preexisting {
		h = &hold{}
		l.holds = append(l.holds, h)
		switch {
		case r.Preexisting:
		case r.Event != "release":
			h.from = r.Time
		case r.Sock.Held >= 0:
			h.from = r.Time.Add(-r.Sock.Held)
		}
	}
	h.netns, h.proto = r.Netns, r.Proto
	if r.HasPort {
		h.port = r.Port
	}
	if r.Sock.Address.IsValid() {
		h.addr = r.Sock.Address
	}
	h.v6 = h.v6 || r.Sock.V6Only
	h.add(r)
	h.run = l.run
	if r.Event == "release" {
		h.until = r.Time
		delete(l.sockID, r.ID)
		return
	}
	l.sockID[r.ID] = h
}

// sameSocket finds the socket that an earlier run told of: on the same address, held by the same process.
func (l *lives) sameSocket(r *Record) *hold {
	for _, h := range slices.Backward(l.holds) {
		if h.run != l.run && h.open() && h.netns == r.Netns && h.proto == r.Proto && h.port == r.Port && h.addr == r.Sock.Address &&
			samePlace(h.who(), r.Sock.Process) {
			return h
		}
	}
	return nil
}

// startSlack is how far the same process's start may differ: events have it exactly, /proc to a clock tick.
const startSlack = 20 * time.Millisecond

// samePlace says whether two records name the same process, or one of its group where several share a socket.
func samePlace(a, b Actor) bool {
	if !a.Known() || !b.Known() {
		return a.Known() == b.Known()
	}
	if sameProcess(a.P, b.P) {
		return true
	}
	among := func(list []Actor, p *Process) bool {
		return slices.ContainsFunc(list, func(h Actor) bool { return h.Known() && sameProcess(h.P, p) })
	}
	return among(b.Holders, a.P) || among(a.Holders, b.P)
}

func sameProcess(a, b *Process) bool {
	return a.PID == b.PID && (a.Created.IsZero() || b.Created.IsZero() || a.Created.Sub(b.Created).Abs() <= startSlack)
}
