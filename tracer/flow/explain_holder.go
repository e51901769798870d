// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

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
