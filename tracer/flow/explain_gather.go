// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// gather puts together what the store has, and then what the look at the live state has of the same.
func (x *explainer) gather() {
	q := x.q
	l := &lives{sockID: map[uint64]*hold{}, connID: map[uint64]*talk{}, watches: q.Watches}
	past := slices.Clone(q.Past)
	slices.SortStableFunc(past, inOrder)
	for _, r := range past {
		l.observe(r)
		switch {
		case r.Summary != nil:
			if named(q.Targets, netip.AddrPortFrom(r.Summary.Address, r.Port)) {
				x.summaries = append(x.summaries, r)
			}
		case r.Errno != 0 && r.Event != "close" && (r.Sock != nil || r.Conn != nil) && x.concerns(r):
			x.failed = append(x.failed, r)
		}
	}
	slices.Reverse(x.failed)
	l.nextRun()
	if q.Looked {
		l.look(q.Live, q.Now)
	}
	if _, to := x.moment(); q.OfPast() && len(q.Watches) > 0 {
		if last := q.Watches[len(q.Watches)-1]; !last.Goes && last.Until.Before(to) {
			l.miss(last.Until)
		}
	}
	x.lost = l.lost
	x.choose(l)
}

// look marks what the look at the live state has, and as gone what it has not.
func (l *lives) look(live []*Record, now time.Time) {
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
	l.inherited(now)
	heard := time.Time{} // what is gone was there as long as somebody watched
	if n := len(l.watches); n > 0 && !l.watches[n-1].Goes {
		heard = l.watches[n-1].Until
	}
	for _, h := range l.holds {
		if !h.live {
			h.miss(heard)
		}
	}
	for _, d := range l.talks {
		if !d.live && !l.unlisted(d) {
			d.miss(heard)
		}
	}
}

// unlisted: the kernel has no list of UDP's flows, but a recorder that goes on has told of each end.
func (l *lives) unlisted(d *talk) bool {
	return d.proto == UDP && d.run == l.run-1 && len(l.watches) > 0 && l.watches[len(l.watches)-1].Goes
}

// choose keeps the lives that the target is about.
func (x *explainer) choose(l *lives) {
	from, to := x.moment()
	for _, h := range l.holds {
		switch {
		case !slices.ContainsFunc(x.q.Targets, func(t Target) bool { return t.Port == h.port }):
		case x.isSource(h, l) && !(h.at(from, to) && !slices.ContainsFunc(h.dialled, func(d *talk) bool { return d.at(from, to) })):
			x.sources = append(x.sources, h)
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

// isSource says whether a socket is a client's, which dialled from it, and which nobody dialled.
func (x *explainer) isSource(h *hold, l *lives) bool {
	return slices.ContainsFunc(h.dialled, x.asClient) && !slices.ContainsFunc(l.talks, h.serves)
}

// serves says whether a connection was made to it.
func (h *hold) serves(d *talk) bool {
	return d.netns == h.netns && d.proto == h.proto && d.server.Port() == h.port && !d.self() && serves(h.addr, h.v6, d.server.Addr())
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
	for i := range x.waiting {
		if w := &x.waiting[i]; !w.Process.Known() {
			w.Process = x.closer(w)
		}
	}
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

// closer is who had the end of a connection that is in TIME_WAIT now: the kernel does not keep it, the store does.
func (x *explainer) closer(w *Holder) Actor {
	d, asClient := x.waited(w)
	if d == nil {
		return Actor{}
	}
	client, server := d.ends()
	if asClient {
		return client.Process
	}
	return server.Process
}

// waited is the connection that is in TIME_WAIT, and whether its client's end is; nil: the store does not have it.
func (x *explainer) waited(w *Holder) (d *talk, asClient bool) {
	local := netip.AddrPortFrom(w.Address, w.Port)
	for _, d := range x.talks.before { // the last first
		switch {
		case d.netns != x.q.Host.Netns:
		case d.server == local && d.client == w.Peer:
			return d, false
		case d.client == local && d.server == w.Peer:
			return d, true
		}
	}
	return nil, false
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
