// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
)

// odd says what is not as people think it is.
func (x *explainer) odd() {
	x.localhost()
	x.shadowed()
	x.others()
	for _, h := range x.holds.now {
		if h.proto == TCP && !h.listens() {
			x.say(Finding{Kind: FindNotListening, Level: Warn, Process: h.who(), Record: h.latest(), Target: Target{h.addr, h.port}, From: h.from, Then: x.q.OfPast()})
		}
	}
	for _, d := range slices.Concat(x.talks.now, x.talks.before) {
		if d.self() {
			client, _ := d.ends()
			f := Finding{Kind: FindSelf, Level: Warn, Process: client.Process, Record: d.records[0], From: d.from, Until: d.until, Target: Target{d.server.Addr(), d.server.Port()}}
			for _, h := range x.sources {
				if slices.Contains(h.dialled, d) {
					f.Other = h.asked()
				}
			}
			x.say(f)
			break
		}
	}
	x.unaccepted()
	if !x.said(FindTimeWait) && len(x.waiting) > 0 {
		w := x.waiting[0]
		x.say(Finding{
			Kind: FindTimeWait, Process: w.Process, Target: Target{w.Address, w.Port}, From: w.Since,
			Until: x.q.Now.Add(w.Expires), Count: uint64(len(x.waiting)), Why: "besides",
		})
	}
	x.owners()
}

// localhost: a name of two addresses may be two servers.
func (x *explainer) localhost() {
	var first *hold
	for _, t := range x.dialled() {
		h := x.takes(t)
		switch {
		case h == nil:
		case first == nil:
			first = h
		case h != first && h.netns == first.netns:
			x.say(Finding{
				Kind: FindLocalhost, Level: Warn, Process: h.who(), Record: h.latest(), Other: first.latest(), Target: t, Then: x.q.OfPast(),
			})
			return
		}
	}
}

// dialled is the addresses that the target stands for: of a bare port, those of localhost.
func (x *explainer) dialled() (list []Target) {
	for _, t := range x.q.Targets {
		if t.Addr.IsValid() {
			list = append(list, t)
			continue
		}
		list = append(list, Target{netip.AddrFrom4([4]byte{127, 0, 0, 1}), t.Port}, Target{netip.IPv6Loopback(), t.Port})
	}
	return list
}

// takes is the listener that takes a connection to the target, in the namespace of who asks.
func (x *explainer) takes(t Target) *hold {
	for _, h := range x.holds.now { // they are sorted by how specific they are
		if x.here(h.netns) && h.listens() && h.proto == TCP && h.port == t.Port && serves(h.addr, h.v6, t.Addr) {
			return h
		}
	}
	return nil
}

// shadowed: of several listeners that an address matches, the kernel takes the most specific one.
func (x *explainer) shadowed() {
	told := map[[2]*hold]bool{}
	for _, t := range x.served() {
		var first *hold
		for _, h := range x.holds.now {
			if !h.listens() || h.proto != TCP || h.port != t.Port || !serves(h.addr, h.v6, t.Addr) {
				continue
			}
			switch {
			case first == nil:
				first = h
			case h.netns == first.netns && specific(h) > specific(first) && !told[[2]*hold{h, first}]:
				told[[2]*hold{h, first}] = true
				x.say(Finding{
					Kind: FindShadowed, Level: Warn, Process: h.who(), Record: h.latest(), Other: first.latest(),
					Target: t, Then: x.q.OfPast(),
				})
			}
		}
	}
}

// served is dialled, and of a bare port each address that somebody listens on.
func (x *explainer) served() []Target {
	list := x.dialled()
	for _, h := range x.holds.now {
		if t := (Target{h.addr, h.port}); slices.Contains(x.q.Targets, Target{Port: h.port}) && !h.addr.IsUnspecified() && !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	return list
}

// others: the same port of another address, family or namespace is another server's.
func (x *explainer) others() {
	seen := 0
	for _, h := range x.holds.now {
		if h.listens() && h.netns != x.q.Host.Netns && x.q.Host.Netns != 0 {
			x.say(Finding{Kind: FindElsewhere, Process: h.who(), Record: h.latest(), Target: Target{h.addr, h.port}, Why: "netns", Then: x.q.OfPast()})
		}
	}
	for _, h := range x.elsewhere {
		if !h.listens() || seen == maxBefore {
			continue
		}
		seen++
		f := Finding{Kind: FindElsewhere, Process: h.who(), Record: h.latest(), Target: Target{h.addr, h.port}, Why: "address", Then: x.q.OfPast()}
		switch {
		case h.netns != x.q.Host.Netns && x.q.Host.Netns != 0:
			f.Why = "netns"
		case x.q.Targets[0].Addr.IsValid() && h.addr.Is4() != x.q.Targets[0].Addr.Is4():
			f.Why = "family"
		}
		x.say(f)
	}
}

// unaccepted counts connections that were made, and that no process ever took, or none has taken yet.
func (x *explainer) unaccepted() {
	var over, wait visitor
	for _, d := range slices.Concat(x.talks.before, x.talks.now) {
		if !x.asServer(d) || d.self() {
			continue
		}
		client, _ := d.ends()
		switch c := d.closed(); {
		case c != nil && !d.taken():
			over.met(client.Process, c, c.Time, c.Time, 1)
		case x.waits(d):
			wait.met(client.Process, d.first("connect"), d.from, d.from, 1)
		}
	}
	for _, p := range []*visitor{&wait, &over} {
		if len(p.visits) == 0 {
			continue
		}
		f := p.finding(FindUnaccepted)
		if f.Level, f.Every, f.Ancestor = Warn, 0, (Ancestor{}); p == &wait {
			f.Why = UnacceptedYet
		}
		x.say(f)
	}
}

// UnacceptedYet is Finding.Why of FindUnaccepted where the connections are open, and wait.
const UnacceptedYet = "waiting"

// waits says whether a connection is open and no process has accepted it yet: a recorder that told of it goes on, and
// would have told of that.
func (x *explainer) waits(d *talk) bool {
	q := x.q
	if q.OfPast() || len(q.Watches) == 0 || d.proto != TCP || !d.open() || d.gone || q.Looked && !d.live {
		return false
	}
	watch := q.Watches[len(q.Watches)-1]
	connect := d.first("connect")
	if !watch.Goes || connect == nil || connect.Preexisting || d.from.Before(watch.From) || d.first("accept") != nil {
		return false
	}
	return d.from.After(x.lost) && d.from.Before(q.Now.Add(-storeDelay)) && !x.filters(watch, "event")
}

// filters says whether a recorder was told to keep some things only. Where its start is forgotten, it may have been.
func (x *explainer) filters(watch Watch, flag string) bool {
	i := slices.IndexFunc(x.q.Past, func(r *Record) bool { return r.Start != nil && r.Time.Equal(watch.From) })
	return i < 0 || x.q.Past[i].Start.Filters[flag] != nil
}

// owners: a port out of the range that the kernel picks from is somebody else's at each run.
func (x *explainer) owners() {
	programs := map[string]bool{}
	picked := 0
	for _, h := range x.allHolds() {
		if asked := h.asked(); asked != nil && asked.Sock.Ephemeral {
			picked++
			programs[programKey(h.who())] = true
		}
	}
	const several = 3
	if len(programs) >= several {
		x.say(Finding{Kind: FindOwners, Level: Warn, Count: uint64(len(programs))})
		return
	}
	for _, h := range x.holds.now {
		if asked := h.asked(); asked != nil && asked.Sock.Ephemeral && h.listens() {
			x.say(Finding{Kind: FindPicked, Process: h.who(), Record: asked, Target: Target{h.addr, h.port}})
			return
		}
	}
}
