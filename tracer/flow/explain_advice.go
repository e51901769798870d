// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"regexp"
	"strings"
)

// What to do: Finding.Why of FindAdvice.
const (
	AdviceFree    = "free"    // stop who holds it
	AdviceWait    = "wait"    // it is free by itself, Until
	AdviceStart   = "start"   // start what listened there
	AdviceLook    = "look"    // ask about the other end
	AdviceExposed = "exposed" // let it listen on loopback only
	AdviceFamily  = "family"  // give the address in place of the name
	AdviceRecord  = "record"  // have the next one recorded
)

// advice gives the exact command for what was found.
func (x *explainer) advice() {
	if x.q.OfPast() {
		x.lookOn()
		return
	}
	x.free()
	x.start()
	x.lookOn()
	for _, f := range x.out.Findings {
		if f.Kind == FindReach && f.Level == Warn {
			x.say(Finding{Kind: FindAdvice, Why: AdviceExposed, Process: f.Process, Record: f.Record, Target: f.Target})
			break
		}
	}
	for _, f := range x.out.Findings {
		if f.Kind == FindElsewhere && f.Why == "family" || f.Kind == FindLocalhost {
			x.say(Finding{Kind: FindAdvice, Why: AdviceFamily, Record: f.Record, Target: f.Target})
			break
		}
	}
	if x.q.Remembers.IsZero() {
		x.say(Finding{Kind: FindAdvice, Why: AdviceRecord, Command: "sudo looptrace record"})
	}
}

// free says how to get the port. Only of what is there now: a pid of the past is another's.
func (x *explainer) free() {
	if len(x.waiting) > 0 && len(x.holds.now) > 0 && !x.heldHere() { // who has it elsewhere is not in the way
		x.say(Finding{Kind: FindAdvice, Why: AdviceWait, Until: x.q.Now.Add(x.waiting[0].Expires)})
		return
	}
	x.stopAll()
	if len(x.holds.now) > 0 {
		return
	}
	for _, d := range x.talks.now {
		if !d.live {
			continue
		}
		client, server := d.ends()
		who := server.Process
		if x.asClient(d) {
			who = client.Process
		}
		if f := x.stop(who, d.records[0]); f.Command != "" {
			x.say(f)
			return
		}
	}
	if len(x.waiting) > 0 {
		x.say(Finding{Kind: FindAdvice, Why: AdviceWait, Until: x.q.Now.Add(x.waiting[0].Expires)})
	}
}

// stopAll says how to end who has the port, where who asks is. To end one of several frees nothing yet: Count is how many
// have it.
func (x *explainer) stopAll() {
	var list []Finding
	commands := map[string]bool{}
	unknown := 0
	for _, h := range x.holds.now {
		if !h.live || x.heldHere() && !x.here(h.netns) {
			continue
		}
		who := h.who()
		f := x.stop(who, h.latest())
		switch {
		case f.Command == "":
			unknown++
		case !commands[f.Command]:
			commands[f.Command] = true
			list = append(list, f)
		}
		for _, o := range who.Holders { // whom who stands for
			if c := x.stop(o, nil).Command; c != "" {
				commands[c] = true
			}
		}
	}
	for _, f := range list[:min(len(list), maxHolders)] {
		if n := len(commands) + unknown; n > 1 {
			f.Count = uint64(n)
		}
		x.say(f)
	}
}

func (x *explainer) stop(who Actor, r *Record) Finding {
	f := Finding{Kind: FindAdvice, Why: AdviceFree, Process: who, Record: r}
	if who.Known() {
		f.Command = x.stopCommand(who.P)
	}
	return f
}

// plainName is a name that a shell takes as it is. systemd escapes with a backslash, which quotes keep.
var plainName = regexp.MustCompile(`^[A-Za-z0-9@_.:\\-]+$`)

func (x *explainer) stopCommand(p *Process) string {
	sudo := ""
	if p.UID != x.q.Host.UID {
		sudo = "sudo "
	}
	c := p.Container
	switch {
	case (c.Runtime == "docker" || c.Runtime == "podman") && plainName.MatchString(c.ID):
		name := c.ID[:min(len(c.ID), 12)]
		if plainName.MatchString(c.Name) {
			name = c.Name
		}
		return c.Runtime + " stop " + name
	case strings.HasSuffix(p.Unit, ".service") && !strings.HasPrefix(p.Unit, "user@") && plainName.MatchString(p.Unit) && c.ID == "":
		return "sudo systemctl stop " + quote(p.Unit)
	case p.PID > 1:
		return fmt.Sprintf("%skill %d", sudo, p.PID)
	default:
		return ""
	}
}

func quote(s string) string {
	if strings.Contains(s, `\`) {
		return "'" + s + "'"
	}
	return s
}

// start says how what is missing was started the last time.
func (x *explainer) start() {
	last := x.lastHold()
	if len(x.holds.now) > 0 || !x.said(FindRefused) || last == nil || !x.here(last.netns) {
		return
	}
	who := last.who()
	if !who.Known() {
		return
	}
	f := Finding{Kind: FindAdvice, Why: AdviceStart, Process: who, Record: last.latest()}
	if u := who.P.Unit; strings.HasSuffix(u, ".service") && !strings.HasPrefix(u, "user@") && plainName.MatchString(u) {
		f.Command = "sudo systemctl start " + quote(u)
	}
	x.say(f)
}

// lookOn: of a client's port, the other end is what to ask about next.
func (x *explainer) lookOn() {
	for _, f := range x.out.Findings {
		if f.Kind == FindClient && f.Record != nil && f.Record.Conn != nil && !f.Record.Conn.Self {
			x.say(Finding{Kind: FindAdvice, Why: AdviceLook, Record: f.Record, Command: "sudo looptrace explain " + serverTarget(f.Record)})
			return
		}
	}
}
