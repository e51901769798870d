// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

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

// address says what the number tells by itself, and a namespace's range.
func (x *explainer) address() {
	t := x.q.Targets[0]
	x.say(Finding{Kind: FindAddress, Target: t, Why: x.q.Host.Service})
}

// InRange says whether the kernel picks this port by itself, where the range is known.
func (h *Host) InRange(port uint16) (in, known bool) {
	return h.Low <= port && port <= h.High, h.High != 0
}

// holder says how the port was got, who can reach it, and whether that is to be expected.
func (x *explainer) holder(h *hold) {
	who := h.who()
	r := h.latest()
	target := Target{h.addr, h.port}
	x.say(Finding{
		Kind: FindHolder, Process: who, Record: r, Other: h.asked(), Target: target, From: h.from, Until: h.until, Then: x.q.OfPast(),
		Unseen: h.from.IsZero() && !x.q.Remembers.IsZero() && slices.Contains(x.q.Live, h.records[0]), // somebody may have watched
	})
	told := slices.ContainsFunc(x.out.Findings, func(f Finding) bool { // of another socket of the same process
		return f.Kind == FindProcess && who.Known() && sameProcess(f.Process.P, who.P)
	})
	if who.Known() && !told {
		x.say(Finding{Kind: FindProcess, Process: who, Record: r})
	}
	reach := Finding{Kind: FindReach, Process: who, Record: r, Target: target, Then: x.q.OfPast()}
	if !h.addr.IsLoopback() {
		reach.Why = "network"
		if asked := h.asked(); asked != nil && asked.Sock.Ephemeral && (h.listens() || x.serverOfUDP(h)) {
			reach.Level = Warn
		}
	}
	if h.listens() || h.proto == UDP {
		x.say(reach)
	}
	if !who.Known() || told {
		return
	}
	starter := who
	if asked := h.asked(); h.heir.Known() && asked != nil && asked.Sock.Process.Known() {
		starter = asked.Sock.Process // whose parents its own were: by now init is
	}
	x.say(x.origin(starter))
	if f := x.acquaintance(h, who); f.Why != "" {
		x.say(f)
	}
}

// Who started a process: Finding.Why of FindOrigin.
const (
	OriginTerminal  = "terminal"  // a process above it is above who asks, too: Ancestor
	OriginContainer = "container" // it is in one
	OriginUnit      = "unit"      // a unit of systemd did
	OriginSession   = "session"   // something of a login or desktop session of its user did
	OriginOtherUser = "other_user"
	OriginOwn       = "own" // who asks is its user, and it is nothing of the above
	OriginNowhere   = "nowhere"
)

func (x *explainer) origin(who Actor) Finding {
	p := who.P
	f := Finding{Kind: FindOrigin, Process: who, Ancestor: nearest(who)}
	above, shared := x.sharedAncestor(p)
	switch {
	case shared:
		f.Why, f.Ancestor = OriginTerminal, above
	case p.Container.ID != "":
		f.Why = OriginContainer
	case strings.HasSuffix(p.Unit, ".service") && !strings.HasPrefix(p.Unit, "user@"):
		f.Why = OriginUnit
	case p.Unit != "":
		f.Why = OriginSession
	case p.ParentPID == 1 && len(p.Ancestors) <= 1:
		f.Why = OriginNowhere
	case p.UID != x.q.Host.UID:
		f.Why = OriginOtherUser
	default:
		f.Why = OriginOwn
	}
	return f
}

// sharedAncestor finds the nearest process above both p and who asks. Init is above everybody. A pid that is
// used again is younger than what was below the first.
func (x *explainer) sharedAncestor(p *Process) (Ancestor, bool) {
	for _, a := range p.Ancestors {
		for i := range x.q.Host.Session {
			s := &x.q.Host.Session[i]
			if a.PID != 1 && a.PID == s.PID && !s.Created.After(p.Created) {
				return a, true
			}
		}
	}
	return Ancestor{}, false
}

// acquaintance says whether the program was seen before: on this port, or at all.
func (x *explainer) acquaintance(h *hold, who Actor) Finding {
	f := Finding{Kind: FindSeen, Process: who, From: x.q.Remembers}
	for _, b := range x.holds.before {
		if b.netns != h.netns || b.open() && b.addr == h.addr { // the last may be this socket, which another process had then
			continue
		}
		if sameProgram(b.who(), who) && !sameProcess(b.who().P, who.P) && !sameProcess(b.last().P, who.P) {
			f.Count++
			f.From = b.end()
			if !b.from.IsZero() {
				f.From = b.from
			}
		}
	}
	if f.Count > 0 {
		f.Why = "port"
		return f
	}
	began := who.P.Created
	if began.IsZero() {
		began = h.since()
	}
	first, ok := x.q.FirstSeen[who.P.ExePath]
	switch {
	case who.P.ExePath == "" || x.q.Remembers.IsZero():
	case ok && first.Before(began.Add(-startSlack)):
		f.Why, f.From = "machine", first
	case x.q.Remembers.Before(began.Add(-acquainted)):
		f.Why = "first"
	}
	return f
}

// acquainted is how long the store has to remember before it may call a program new: in its first hour, every program is.
const acquainted = time.Hour

func sameProgram(a, b Actor) bool {
	if !a.Known() || !b.Known() {
		return false
	}
	if a.P.ExePath != "" && b.P.ExePath != "" && a.P.ExePath != b.P.ExePath {
		return false
	}
	return a.P.Name() == b.P.Name()
}

// before lists who had the port, the last first.
func (x *explainer) before() {
	told := 0
	for _, h := range x.former() {
		if told == maxBefore {
			break
		}
		told++
		x.say(Finding{
			Kind: FindBefore, Process: h.last(), Record: h.records[len(h.records)-1], From: h.from, Until: h.end(),
			Target: Target{h.addr, h.port}, Count: uint64(len(x.holds.before)), Then: h.open(),
		})
	}
}

func (x *explainer) said(kind string) bool {
	return slices.ContainsFunc(x.out.Findings, func(f Finding) bool { return f.Kind == kind })
}

// target of a connection's server, as a command takes it.
func serverTarget(r *Record) string {
	return netip.AddrPortFrom(r.Conn.Server.Address, r.Conn.Server.Port).String()
}
