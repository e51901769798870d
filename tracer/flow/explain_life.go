// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
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
	v6    bool // IPv6 only
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

// talk is the life of a connection.
type talk struct {
	life
	netns          uint32
	proto          uint16
	client, server netip.AddrPort
}

// ends gives both ends with the fullest names that the records have.
func (d *talk) ends() (client, server End) {
	for _, r := range d.records {
		client, server = fuller(client, r.Conn.Client), fuller(server, r.Conn.Server)
	}
	return client, server
}

func fuller(have, more End) End {
	// Who accepted is known better than who only listened.
	if !have.Process.Known() || more.Process.Known() && more.Process.P.PID != have.Process.P.PID {
		holders := have.Holders
		have = more
		if !have.Process.Known() && len(have.Holders) == 0 {
			have.Holders = holders
		}
	}
	return have
}

func (d *talk) closed() *Record { return d.first("close") }

func (d *talk) self() bool {
	r := d.first("connect")
	return r != nil && r.Conn.Self
}

// taken says whether a process accepted it, as far as is known.
func (d *talk) taken() bool {
	if c := d.closed(); c != nil {
		return c.Conn.Accepted || d.proto != TCP
	}
	return true
}

// lives puts records together again.
type lives struct {
	holds   []*hold
	talks   []*talk
	sockID  map[uint64]*hold // open ones
	connID  map[uint64]*talk
	watched time.Time // the last that is known of the run
	run     int       // ids are of one
}

// observe takes the records in order.
func (l *lives) observe(r *Record) {
	switch {
	case r.Start != nil:
		l.interrupt()
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
func (l *lives) interrupt() {
	for _, h := range l.holds {
		h.miss(l.watched)
	}
	for _, d := range l.talks {
		d.miss(l.watched)
	}
	l.nextRun()
}

func (l *lives) nextRun() {
	l.run++
	clear(l.sockID)
	clear(l.connID)
}

func (l *life) miss(watched time.Time) {
	if l.open() && !l.gone {
		l.gone, l.seen = true, watched
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

func (l *lives) connection(r *Record) {
	client := netip.AddrPortFrom(r.Conn.Client.Address, r.Conn.Client.Port)
	server := netip.AddrPortFrom(r.Conn.Server.Address, r.Conn.Server.Port)
	d := l.connID[r.ID]
	if d == nil && r.Preexisting {
		i := slices.IndexFunc(l.talks, func(d *talk) bool {
			return d.run != l.run && d.open() && d.netns == r.Netns && d.proto == r.Proto && d.client == client && d.server == server
		})
		if i >= 0 {
			d = l.talks[i]
		}
	}
	if d == nil {
		d = &talk{netns: r.Netns, proto: r.Proto, client: client, server: server}
		l.talks = append(l.talks, d)
		d.from = began(r)
	}
	d.add(r)
	d.run = l.run
	if r.Event == "close" {
		d.until = r.Time
		delete(l.connID, r.ID)
		return
	}
	l.connID[r.ID] = d
}

// began is when a connection that this record is the first of came to be; zero: before anybody watched.
func began(r *Record) time.Time {
	switch {
	case r.Preexisting:
		return time.Time{}
	case r.Conn.Duration > 0:
		return r.Time.Add(-r.Conn.Duration)
	default:
		return r.Time
	}
}

// gather puts together what the store has, and then what the look at the live state has of the same.
func (x *explainer) gather() {
	q := x.q
	l := &lives{sockID: map[uint64]*hold{}, connID: map[uint64]*talk{}}
	past := slices.Clone(q.Past)
	slices.SortStableFunc(past, inOrder)
	for _, r := range past {
		l.observe(r)
		switch {
		case r.Summary != nil:
			if slices.ContainsFunc(q.Targets, func(t Target) bool { return t.Port == r.Port }) {
				x.summaries = append(x.summaries, r)
			}
		case r.Errno != 0 && r.Event != "close" && (r.Sock != nil || r.Conn != nil) && x.concerns(r):
			x.failed = append(x.failed, r)
		}
	}
	slices.Reverse(x.failed)
	l.nextRun()
	if q.Looked {
		l.look(q.Live)
	}
	x.choose(l)
}

// look marks what the look at the live state has, and as gone what it has not.
func (l *lives) look(live []*Record) {
	live = slices.Clone(live)
	slices.SortStableFunc(live, inOrder)
	for _, r := range live {
		l.observe(r)
		if h := l.sockID[r.ID]; r.Sock != nil && h != nil {
			h.live = true
		}
		if d := l.connID[r.ID]; r.Conn != nil && d != nil {
			d.live = true
		}
	}
	for _, h := range l.holds {
		h.gone = h.gone || h.open() && !h.live
	}
	for _, d := range l.talks {
		d.gone = d.gone || d.open() && !d.live
	}
}

// choose keeps the lives that the target is about.
func (x *explainer) choose(l *lives) {
	from, to := x.moment()
	for _, h := range l.holds {
		switch {
		case !slices.ContainsFunc(x.q.Targets, func(t Target) bool { return t.Port == h.port }):
		case x.reaches(h):
			sortIn(&x.holds, h, &h.life, from, to)
		case h.at(from, to) && (x.q.OfPast() || !x.q.Looked || h.live):
			x.elsewhere = append(x.elsewhere, h)
		}
	}
	for _, d := range l.talks {
		if x.asClient(d) || x.asServer(d) {
			sortIn(&x.talks, d, &d.life, from, to)
		}
	}
}

// moment is what was asked about.
func (x *explainer) moment() (from, to time.Time) {
	if x.q.OfPast() {
		return x.q.At, x.q.AtEnd
	}
	return x.q.Now, x.q.Now
}

func sortIn[L any](p *placed[L], l L, life *life, from, to time.Time) {
	switch {
	case life.at(from, to):
		p.now = append(p.now, l)
	case life.since().After(to):
		p.after = append(p.after, l)
	default:
		p.before = append(p.before, l)
	}
}

// arrange brings the lives into order: those of who asks first.
func (x *explainer) arrange() {
	own := func(netns uint32) int {
		if netns == x.q.Host.Netns {
			return 0
		}
		return 1
	}
	sortPlaced(&x.holds, func(h *hold) *life { return &h.life }, func(a, b *hold) int {
		return cmp.Or(cmp.Compare(own(a.netns), own(b.netns)), cmp.Compare(specific(a), specific(b)), inOrder(a.latest(), b.latest()))
	})
	sortPlaced(&x.talks, func(d *talk) *life { return &d.life }, func(a, b *talk) int {
		return cmp.Or(cmp.Compare(own(a.netns), own(b.netns)), inOrder(a.records[0], b.records[0]))
	})
	slices.SortStableFunc(x.elsewhere, func(a, b *hold) int {
		return cmp.Or(cmp.Compare(own(a.netns), own(b.netns)), a.addr.Compare(b.addr), inOrder(a.latest(), b.latest()))
	})
	if since := x.q.Since; !since.IsZero() {
		x.holds.before = slices.DeleteFunc(x.holds.before, func(h *hold) bool { return h.end().Before(since) })
		x.talks.before = slices.DeleteFunc(x.talks.before, func(d *talk) bool { return d.end().Before(since) })
		x.failed = slices.DeleteFunc(x.failed, func(r *Record) bool { return r.Time.Before(since) })
		x.summaries = slices.DeleteFunc(x.summaries, func(r *Record) bool { return r.Summary.Last.Before(since) })
	}
	if !x.q.OfPast() {
		x.stillWaiting()
		x.waiting = slices.DeleteFunc(x.waiting, func(w Holder) bool {
			return !slices.ContainsFunc(x.q.Targets, func(t Target) bool { return t.Port == w.Port && (!t.Addr.IsValid() || t.Addr == w.Address) })
		})
		slices.SortStableFunc(x.waiting, func(a, b Holder) int {
			return cmp.Or(cmp.Compare(b.Expires, a.Expires), a.Address.Compare(b.Address), a.Peer.Compare(b.Peer))
		})
	}
}

// stillWaiting adds to the TIME_WAITs of the look those that a failed bind told of and that are not over. Who
// listens on the port by now did not mind.
func (x *explainer) stillWaiting() {
	x.waiting = slices.Clone(x.q.Waiting)
	if len(x.holds.now) > 0 {
		return
	}
	for _, r := range x.failed { // the last first
		if r.Sock == nil || r.Sock.Holder == nil || r.Sock.Holder.Kind != HolderTimeWait {
			continue
		}
		w := *r.Sock.Holder
		w.Expires -= x.q.Now.Sub(r.Time)
		if w.Expires > 0 && !slices.ContainsFunc(x.waiting, func(o Holder) bool { return o.Address == w.Address && o.Port == w.Port }) {
			x.waiting = append(x.waiting, w)
		}
	}
}

func sortPlaced[L any](p *placed[L], life func(L) *life, order func(a, b L) int) {
	slices.SortStableFunc(p.now, order)
	slices.SortStableFunc(p.before, func(a, b L) int { return cmp.Or(life(b).end().Compare(life(a).end()), order(a, b)) })
	slices.SortStableFunc(p.after, func(a, b L) int { return cmp.Or(life(a).since().Compare(life(b).since()), order(a, b)) })
}

// specific sorts listeners as the kernel chooses them: the address itself before a wildcard, and of those
// IPv4's before one of both families.
func specific(h *hold) int {
	switch {
	case !h.addr.IsUnspecified():
		return 0
	case h.addr.Is4():
		return 1
	default:
		return 2
	}
}

// concerns says whether a record has an end that the target names.
func (x *explainer) concerns(r *Record) bool {
	var buf [2]endpoint
	ends := r.endpoints(buf[:0])
	return slices.ContainsFunc(x.q.Targets, func(t Target) bool { return matchTarget(t, ends) })
}

func (x *explainer) reaches(h *hold) bool {
	return slices.ContainsFunc(x.q.Targets, func(t Target) bool {
		return t.Port == h.port && (!t.Addr.IsValid() || serves(h.addr, h.v6, t.Addr))
	})
}

func named(targets []Target, end netip.AddrPort) bool {
	return slices.ContainsFunc(targets, func(t Target) bool {
		return t.Port == end.Port() && (!t.Addr.IsValid() || t.Addr == end.Addr())
	})
}

func (x *explainer) asClient(d *talk) bool { return named(x.q.Targets, d.client) }
func (x *explainer) asServer(d *talk) bool { return named(x.q.Targets, d.server) }
