// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"slices"
	"time"
)

// failures says what was refused or in use, by program and cause, the last first.
func (x *explainer) failures() {
	var refused, inUse, other visitors
	for _, r := range x.failed {
		switch {
		case r.Conn != nil && !slices.ContainsFunc(x.q.Targets, func(t Target) bool { return t.Port == r.Conn.Server.Port }):
			// As a client's: it failed to reach another port.
			other.of(fmt.Sprint(r.Errno, x.placeKey(r, r.Conn.Client.Process))).met(r.Conn.Client.Process, r, r.Time, r.Time, 1)
		case r.Conn != nil && r.Errno == econnrefused:
			refused.of(x.placeKey(r, r.Conn.Client.Process)).met(r.Conn.Client.Process, r, r.Time, r.Time, 1)
		case r.Conn != nil:
			other.of(fmt.Sprint(r.Errno, x.placeKey(r, r.Conn.Client.Process))).met(r.Conn.Client.Process, r, r.Time, r.Time, 1)
		case r.Errno == eaddrinuse:
			key := x.placeKey(r, r.Sock.Process)
			if h := r.Sock.Holder; h != nil {
				key = fmt.Sprint(key, h.Kind, programKey(h.Process))
			}
			inUse.of(key).met(r.Sock.Process, r, r.Time, r.Time, 1)
		default:
			other.of(fmt.Sprint(r.Errno, x.placeKey(r, r.Sock.Process))).met(r.Sock.Process, r, r.Time, r.Time, 1)
		}
	}
	for _, r := range x.summaries {
		switch r.Errno {
		case 0:
		case econnrefused:
			refused.summary(x, r)
		default:
			other.summary(x, r)
		}
	}
	x.tell(refused.ordered(), FindRefused)
	x.tell(inUse.ordered(), FindInUse)
	x.tell(other.ordered(), FindFailed)
	x.taken()
}

// takenWithin is how long ago a program may have had a port for it to be told that another took it since:
// what picks a free port and then uses it does so within seconds.
const takenWithin = time.Minute

// taken finds the race of who picks a free port by binding it, lets go, and binds it again: who came between?
func (x *explainer) taken() {
	for _, r := range x.failed {
		if r.Sock == nil || r.Errno != eaddrinuse || r.Sock.Holder == nil || !r.Sock.Process.Known() {
			continue
		}
		h := r.Sock.Holder
		for _, b := range x.allHolds() {
			if b.open() || b.netns != r.Netns || b.proto != r.Proto || b.until.After(r.Time) || r.Time.Sub(b.until) > takenWithin || !related(b.who(), r.Sock.Process) {
				continue
			}
			if h.Since.Before(b.until) || h.Since.After(r.Time) {
				continue // it held the port all along, or it is not known since when
			}
			x.say(Finding{
				Kind: FindTaken, Process: h.Process, Record: r, Other: b.records[len(b.records)-1],
				From: b.until, Until: r.Time, Level: Warn, Target: Target{h.Address, h.Port}, Every: h.Since.Sub(b.until), Why: h.Kind,
			})
			return
		}
	}
}

func (x *explainer) allHolds() []*hold {
	return slices.Concat(x.holds.before, x.holds.now, x.holds.after)
}

// related says whether two records are of one program: the same process, or parent and child, or children of one.
func related(a, b Actor) bool {
	if !a.Known() || !b.Known() {
		return false
	}
	return sameProcess(a.P, b.P) || a.P.PID == b.P.ParentPID || b.P.PID == a.P.ParentPID ||
		a.P.ParentPID == b.P.ParentPID && a.P.ParentPID > 1
}
