// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// visit is a connection or a failure, or several that were folded.
type visit struct {
	who      Actor
	record   *Record
	from, to time.Time
	count    uint64
	hasBytes bool
	c2s, s2c uint64
	lacks    bool // it was counted without its bytes
}

// visitor is the connections of one program, or its failures of one kind.
type visitor struct {
	key    string
	visits []visit
	last   time.Time
	count  uint64
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
		p = &visitor{key: key}
		v.by[key] = p
		v.list = append(v.list, p)
	}
	return p
}

func (p *visitor) met(who Actor, r *Record, from, to time.Time, n uint64) *visit {
	p.add(visit{who: who, record: r, from: from, to: to, count: n})
	return &p.visits[len(p.visits)-1]
}

func (p *visitor) add(v visit) {
	p.visits = append(p.visits, v)
	p.count += v.count
	if v.to.After(p.last) {
		p.last = v.to
	}
}

// ordered gives the programs that came last first.
func (v *visitors) ordered() []*visitor {
	var list []*visitor
	for _, p := range v.list {
		list = append(list, p.apart()...)
	}
	slices.SortStableFunc(list, func(a, b *visitor) int {
		return cmp.Or(b.last.Compare(a.last), cmp.Compare(b.count, a.count), inOrder(a.record(), b.record()))
	})
	return list
}

// apart takes what comes at a beat, as children of one parent do, from what comes of the same program without one.
func (p *visitor) apart() (list []*visitor) {
	var groups visitors
	for _, v := range p.visits {
		key := ""
		if v.who.Known() && v.count == 1 {
			key = fmt.Sprint(nearest(v.who))
		}
		groups.of(key).add(v)
	}
	rest := &visitor{key: p.key}
	for _, g := range groups.list {
		if g.key != "" && beat(g.starts()) > 0 {
			list = append(list, g)
			continue
		}
		for _, v := range g.visits {
			rest.add(v)
		}
	}
	if len(rest.visits) > 0 {
		list = append(list, rest)
	}
	return list
}

func (p *visitor) starts() (list []time.Time) {
	for _, v := range p.visits {
		if v.count == 1 {
			list = append(list, v.from)
		}
	}
	return list
}

// record is the last of it.
func (p *visitor) record() *Record {
	return slices.MaxFunc(p.visits, func(a, b visit) int { return inOrder(a.record, b.record) }).record
}

// who is the process that did it all, else the program, as its last process was.
func (p *visitor) who() (who Actor, parents []Ancestor) {
	var at time.Time
	first, several := Actor{}, false
	for _, v := range p.visits {
		if !v.who.Known() {
			continue
		}
		if !who.Known() || v.who.P.PID != 0 && !v.record.Time.Before(at) {
			who, at = v.who, v.record.Time
		}
		if !first.Known() {
			first = v.who
		}
		several = several || v.who.P.PID == 0 || !sameProcess(first.P, v.who.P)
		if up := nearest(v.who); len(parents) < 2 && !slices.Contains(parents, up) { // more than one is none
			parents = append(parents, up)
		}
	}
	if !several {
		return who, nil
	}
	program := *who.P
	program.ProcessID, program.Created = ProcessID{UID: program.UID}, time.Time{}
	return Actor{P: &program}, parents
}

func (p *visitor) finding(kind string) Finding {
	who, parents := p.who()
	f := Finding{Kind: kind, Process: who, Record: p.record(), Count: p.count, Until: p.last, Every: beat(p.starts())}
	lacks := false
	for _, v := range p.visits {
		if f.From.IsZero() || v.from.Before(f.From) {
			f.From = v.from
		}
		f.HasBytes, lacks = f.HasBytes || v.hasBytes, lacks || v.lacks
		f.C2S += v.c2s
		f.S2C += v.s2c
	}
	f.HasBytes = f.HasBytes && !lacks
	if len(parents) == 1 { // each time another process, of the same parent
		f.Ancestor = parents[0]
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

// placeKey keeps what another network namespace has apart: there, the port is another.
func (x *explainer) placeKey(r *Record, who Actor) string {
	if x.here(r.Netns) {
		return programKey(who)
	}
	return fmt.Sprint(r.Netns, " ", programKey(who))
}

// here says whether a record is of the namespace of who asks, as far as both are known.
func (x *explainer) here(netns uint32) bool {
	return netns == 0 || x.q.Host.Netns == 0 || netns == x.q.Host.Netns
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
		now.of(x.placeKey(d.records[0], client.Process)).met(client.Process, d.records[0], d.since(), d.since(), 1)
	}
	for _, d := range slices.Concat(x.talks.before, x.talks.after) {
		if !x.asServer(d) || d.self() {
			continue
		}
		client, _ := d.ends()
		v := over.of(x.placeKey(d.records[0], client.Process)).met(client.Process, d.records[0], d.since(), d.since(), 1)
		if c := d.closed(); c != nil && c.Conn.HasBytes {
			v.hasBytes, v.c2s, v.s2c = true, c.Conn.C2S, c.Conn.S2C
		}
	}
	for _, r := range x.summaries {
		if r.Errno == 0 {
			over.summary(x, r)
		}
	}
	x.tell(now.ordered(), FindConnected)
	x.tell(over.ordered(), FindVisitor)
}

// summary counts what was folded: of a program, and not one by one.
func (v *visitors) summary(x *explainer, r *Record) {
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
	group, full := v.alike(x, r, who)
	if full.Known() {
		who = full // which says more
	}
	p := group.met(who, r, s.First, s.Last, s.Count)
	if p.lacks = !s.HasBytes; s.HasBytes {
		p.hasBytes, p.c2s, p.s2c = true, s.C2S, s.S2C
	}
}

// alike finds the program of a count, which has no command line that its name could come from, and its process if that is
// among them.
func (v *visitors) alike(x *explainer, r *Record, who Actor) (group *visitor, full Actor) {
	for _, p := range v.list {
		for _, o := range p.visits {
			if !who.Known() || !o.who.Known() || x.place(o.record) != x.place(r) ||
				o.who.P.Comm != who.P.Comm || o.who.P.ExeName != who.P.ExeName || o.who.P.Container != who.P.Container {
				continue
			}
			if group = p; sameProcess(o.who.P, who.P) {
				return p, o.who
			}
		}
	}
	if group == nil {
		group = v.of(x.placeKey(r, who))
	}
	return group, Actor{}
}

// place is the network namespace of a record, 0 for that of who asks.
func (x *explainer) place(r *Record) uint32 {
	if x.here(r.Netns) {
		return 0
	}
	return r.Netns
}

// tell says it of the programs in the namespace of who asks first.
func (x *explainer) tell(list []*visitor, kind string) {
	here := func(v *visitor) int {
		if x.here(v.record().Netns) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b *visitor) int { return cmp.Compare(here(a), here(b)) })
	for i, v := range list {
		if i == maxVisitors {
			x.say(Finding{Kind: kind, Why: "more", Count: uint64(len(list) - maxVisitors)})
			return
		}
		x.say(v.finding(kind))
	}
}
