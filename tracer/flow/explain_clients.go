// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"slices"
	"time"
)

// visitor is the connections of one program, or its failures of one kind.
type visitor struct {
	who         Actor // the last process of it
	whoAt       time.Time
	record      *Record
	count       uint64
	first, last time.Time
	hasBytes    bool
	lacksBytes  bool // some were counted without theirs
	c2s, s2c    uint64
	starts      []time.Time
	processes   map[uint32]bool
	parents     map[Ancestor]bool
}

// visitors sorts connections by the client's program.
type visitors struct {
	by   map[string]*visitor
	list []*visitor
}

func (v *visitors) of(key string) *visitor {
	if v.by == nil {
		v.by = map[string]*visitor{}
	}
	p := v.by[key]
	if p == nil {
		p = &visitor{processes: map[uint32]bool{}, parents: map[Ancestor]bool{}}
		v.by[key] = p
		v.list = append(v.list, p)
	}
	return p
}

func (p *visitor) met(who Actor, r *Record, from, to time.Time, n uint64) {
	p.count += n
	if p.first.IsZero() || from.Before(p.first) {
		p.first = from
	}
	if to.After(p.last) {
		p.last = to
	}
	if p.record == nil || r.Time.After(p.record.Time) {
		p.record = r
	}
	if who.Known() && (!p.who.Known() || who.P.PID != 0 && !r.Time.Before(p.whoAt)) {
		p.who, p.whoAt = who, r.Time
	}
	if n == 1 {
		p.starts = append(p.starts, from)
	}
	if who.Known() {
		p.processes[who.P.PID] = true
		p.parents[nearest(who)] = true
	}
}

// ordered gives the programs that came last first.
func (v *visitors) ordered() []*visitor {
	slices.SortStableFunc(v.list, func(a, b *visitor) int {
		return cmp.Or(b.last.Compare(a.last), cmp.Compare(b.count, a.count), inOrder(a.record, b.record))
	})
	return v.list
}

func (p *visitor) finding(kind string) Finding {
	f := Finding{
		Kind: kind, Process: p.who, Record: p.record, Count: p.count, From: p.first, Until: p.last,
		HasBytes: p.hasBytes && !p.lacksBytes, C2S: p.c2s, S2C: p.s2c, Every: beat(p.starts),
	}
	if len(p.parents) == 1 && len(p.processes) > 1 { // each time another process, of the same parent
		for a := range p.parents {
			f.Ancestor = a
		}
	}
	return f
}

// beat finds at what pace a program comes: the middle of the pauses, where most are like it.
func beat(starts []time.Time) time.Duration {
	const least = 3 // pauses: with two, chance often looks like a plan
	if len(starts) <= least {
		return 0
	}
	starts = slices.SortedFunc(slices.Values(starts), time.Time.Compare)
	pauses := make([]time.Duration, 0, len(starts))
	for i := range starts[1:] {
		pauses = append(pauses, starts[i+1].Sub(starts[i]))
	}
	slices.Sort(pauses)
	middle := pauses[len(pauses)/2]
	low, high := pauses[len(pauses)/10], pauses[len(pauses)*9/10]
	if middle < 100*time.Millisecond || high-low > middle/4 {
		return 0
	}
	return middle
}

func programKey(a Actor) string {
	if !a.Known() {
		return ""
	}
	return a.P.Name() + "\x00" + a.P.Container.ID
}

// clients says who is connected now and who was, by program.
func (x *explainer) clients() {
	var now, over visitors
	for _, d := range x.talks.now {
		if !x.asServer(d) || d.self() {
			continue
		}
		client, _ := d.ends()
		now.of(programKey(client.Process)).met(client.Process, d.records[0], d.since(), d.since(), 1)
	}
	for _, d := range slices.Concat(x.talks.before, x.talks.after) {
		if !x.asServer(d) || d.self() {
			continue
		}
		client, _ := d.ends()
		v := over.of(programKey(client.Process))
		v.met(client.Process, d.records[0], d.since(), d.since(), 1)
		if c := d.closed(); c != nil && c.Conn.HasBytes {
			v.hasBytes = true
			v.c2s += c.Conn.C2S
			v.s2c += c.Conn.S2C
		}
	}
	for _, r := range x.summaries {
		if r.Errno == 0 {
			over.summary(r)
		}
	}
	x.tell(now.ordered(), FindConnected)
	x.tell(over.ordered(), FindVisitor)
}

// summary counts what was folded: of a program, and not one by one.
func (v *visitors) summary(r *Record) {
	s := r.Summary
	who := Actor{P: s.Client.P}
	if who.P == nil && (s.Client.Comm != "" || s.Client.ExeName != "") {
		who.P = &Process{Comm: s.Client.Comm, ExeName: s.Client.ExeName}
	}
	if who.P != nil {
		one := *who.P
		one.Container = s.Client.Container
		who.P = &one
	}
	p := v.alike(who)
	if p.who.Known() && who.Known() && sameProcess(p.who.P, who.P) {
		who = p.who // which says more
	}
	p.met(who, r, s.First, s.Last, s.Count)
	if s.HasBytes {
		p.hasBytes = true
		p.c2s += s.C2S
		p.s2c += s.S2C
	}
	p.lacksBytes = p.lacksBytes || !s.HasBytes
}

// alike finds the program of a count, which has no command line that its name could come from.
func (v *visitors) alike(who Actor) *visitor {
	if who.Known() {
		for _, p := range v.list {
			if p.who.Known() && p.who.P.Comm == who.P.Comm && p.who.P.ExeName == who.P.ExeName && p.who.P.Container == who.P.Container {
				return p
			}
		}
	}
	return v.of(programKey(who))
}

func (x *explainer) tell(list []*visitor, kind string) {
	for i, v := range list {
		if i == maxVisitors {
			x.say(Finding{Kind: kind, Why: "more", Count: uint64(len(list) - maxVisitors)})
			return
		}
		x.say(v.finding(kind))
	}
}
