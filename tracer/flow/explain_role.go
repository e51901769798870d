// SPDX-License-Identifier: Apache-2.0

package flow

import "slices"

// role says first what people get wrong first: whether it is a server's port or a client's.
func (x *explainer) role() {
	said := len(x.out.Findings)
	for i, h := range x.holds.now {
		if i == maxHolders {
			x.say(Finding{Kind: FindServer, Why: "more", Count: uint64(len(x.holds.now) - maxHolders), Target: x.q.Targets[0], Then: x.q.OfPast()})
			break
		}
		kind := FindBound
		if h.listens() || x.serverOfUDP(h) {
			kind = FindServer
		}
		x.say(x.roleOf(kind, &h.life, h.who(), h.latest(), Target{h.addr, h.port}))
	}
	clients := 0
	for _, d := range x.talks.now {
		if x.asClient(d) {
			if clients++; clients <= maxVisitors {
				x.client(FindClient, d)
			}
		}
	}
	if clients == 0 && !x.heldHere() {
		x.closedConnection()
	}
	if clients == 0 && len(x.holds.now) == 0 {
		x.orphan()
	}
	if len(x.out.Findings) == said {
		x.nobody()
	}
	x.reused()
}

// serverOfUDP says whether a socket of UDP, which knows no listen(), is a server's: it asked for its port, or was dialled.
func (x *explainer) serverOfUDP(h *hold) bool {
	if h.proto != UDP {
		return false
	}
	asked := h.asked()
	return asked != nil && asked.Sock.HasRequested && asked.Sock.Requested.Port() != 0 && len(h.dialled) == 0 ||
		slices.ContainsFunc(slices.Concat(x.talks.now, x.talks.before, x.talks.after), h.serves)
}

func (x *explainer) roleOf(kind string, l *life, who Actor, r *Record, t Target) Finding {
	return Finding{Kind: kind, Process: who, Record: r, Target: t, Then: x.q.OfPast(), From: l.from, Until: l.until}
}

// client says whose source port it is, or was, and what that dialled.
func (x *explainer) client(kind string, d *talk) {
	client, server := d.ends()
	f := x.roleOf(kind, &d.life, client.Process, d.records[0], Target{d.client.Addr(), d.client.Port()})
	f.Other = d.records[len(d.records)-1]
	if server.Process.Known() {
		f.Other = recordOf(d, func(r *Record) bool { return r.Conn.Server.Process.Known() })
	}
	if c := d.closed(); c != nil && c.Conn.HasBytes {
		f.HasBytes, f.C2S, f.S2C = true, c.Conn.C2S, c.Conn.S2C
	}
	if p := client.Process.P; p != nil && len(p.Ancestors) > 0 {
		f.Ancestor = p.Ancestors[0]
	}
	x.say(f)
}

func recordOf(d *talk, ok func(*Record) bool) *Record {
	for _, r := range slices.Backward(d.records) {
		if ok(r) {
			return r
		}
	}
	return d.records[0]
}

// heldHere says whether a socket of the namespace of who asks has the port: one of another keeps nobody out here.
func (x *explainer) heldHere() bool {
	return slices.ContainsFunc(x.holds.now, func(h *hold) bool { return x.here(h.netns) })
}

// closedConnection: nobody listens here, but a TIME_WAIT keeps others out. Of a client's end, who it was comes first.
func (x *explainer) closedConnection() {
	for _, w := range x.waiting[:min(len(x.waiting), 1)] {
		if d, asClient := x.waited(&w); asClient {
			x.client(FindClient, d)
			x.out.Findings[len(x.out.Findings)-1].Then = true
		}
		x.say(Finding{
			Kind: FindTimeWait, Process: w.Process, Target: Target{w.Address, w.Port}, From: w.Since,
			Until: x.q.Now.Add(w.Expires), Count: uint64(len(x.waiting)),
		})
	}
}

// orphan: nobody listens, but a connection is left that does.
func (x *explainer) orphan() {
	for _, d := range x.talks.now {
		client, server := d.ends()
		x.say(Finding{
			Kind: FindConnection, Process: server.Process, Record: d.records[0], From: d.from, Until: d.until,
			Target: Target{d.server.Addr(), d.server.Port()}, Then: x.q.OfPast(), Ancestor: nearest(client.Process),
		})
		return
	}
}

func nearest(a Actor) Ancestor {
	if a.Known() && len(a.P.Ancestors) > 0 {
		return a.P.Ancestors[0]
	}
	return Ancestor{}
}

// nobody tells of the last who had it, in whichever role.
func (x *explainer) nobody() {
	f := Finding{Kind: FindNobody, Then: x.q.OfPast(), Target: x.q.Targets[0]}
	h, d := x.lastHold(), x.lastDialled()
	if h != nil && d != nil { // who had it here, and of those the last
		byHold := h.end().Compare(d.end()) >= 0
		if here := x.here(h.netns); here != x.here(d.netns) {
			byHold = here
		}
		if byHold {
			d = nil
		} else {
			h = nil
		}
	}
	switch {
	case h != nil:
		f.Process, f.Record, f.From, f.Until, f.Unseen, f.Why = h.last(), h.latest(), h.from, h.end(), h.open(), FindBound
		if h.listens() {
			f.Why = FindServer
		}
	case d != nil:
		client, _ := d.ends()
		f.Process, f.Record, f.From, f.Until, f.Unseen, f.Why = client.Process, d.records[0], d.from, d.end(), d.open(), FindClient
	}
	x.say(f)
	if d != nil {
		x.client(FindClient, d)
		x.out.Findings[len(x.out.Findings)-1].Then = true
	}
}

// lastHold is the last socket that had the port, in the namespace of who asks if there was one.
func (x *explainer) lastHold() *hold {
	for _, h := range x.former() {
		return h
	}
	return nil
}

// former is who had the port, those in the namespace of who asks first, and of those the last first.
func (x *explainer) former() []*hold {
	var here, elsewhere []*hold
	for _, h := range x.holds.before {
		if x.here(h.netns) {
			here = append(here, h)
		} else {
			elsewhere = append(elsewhere, h)
		}
	}
	return append(here, elsewhere...)
}

// lastDialled is likewise the last connection whose source port it was.
func (x *explainer) lastDialled() (last *talk) {
	for _, d := range x.talks.before { // the last first
		switch {
		case !x.asClient(d):
		case x.here(d.netns):
			return d
		case last == nil:
			last = d
		}
	}
	return last
}

// reused: a source port is anybody's soon after.
func (x *explainer) reused() {
	if !x.q.OfPast() {
		return
	}
	told := 0
	for _, d := range x.talks.after {
		if x.asClient(d) && told < maxBefore {
			told++
			x.client(FindReused, d)
		}
	}
	for _, h := range x.holds.after[:min(len(x.holds.after), maxBefore)] {
		x.say(x.roleOf(FindReused, &h.life, h.who(), h.latest(), Target{h.addr, h.port}))
	}
}
