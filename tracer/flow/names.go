// SPDX-License-Identifier: Apache-2.0

package flow

// Names puts the whole process into records that were read back and have it cut, as accept and close do: what people
// call a program is not in what is left of it. Its zero value knows nobody. It is not safe for concurrent use.
type Names struct {
	by map[uint32][]*Process // by PID; the last first
	n  int
}

// maxNames bounds what is remembered. Past it, it begins anew.
const maxNames = 16384

// Learn remembers the processes that a record has in full.
func (n *Names) Learn(r *Record) {
	each(r, func(a *Actor) {
		if a.Known() && !a.Short && a.P.PID != 0 && a.P.CommandLine+a.P.ExePath != "" {
			n.learn(a.P)
		}
	})
}

func (n *Names) learn(p *Process) {
	if n.find(p) != nil {
		return
	}
	if n.by == nil || n.n >= maxNames {
		n.by, n.n = map[uint32][]*Process{}, 0
	}
	n.by[p.PID] = append([]*Process{p}, n.by[p.PID]...)
	n.n++
}

// Complete puts in what was learnt of the same processes: of the same program, for a process may execute another.
func (n *Names) Complete(r *Record) {
	each(r, func(a *Actor) {
		if a.Known() && a.Short {
			if full := n.find(a.P); full != nil {
				a.P = full
			}
		}
	})
	if r.Summary == nil {
		return
	}
	for _, p := range []*Program{&r.Summary.Client, &r.Summary.Server} {
		if p.P == nil || p.P.Comm != "" || p.P.ExeName != "" {
			continue
		}
		p.P.Comm, p.P.ExeName = p.Comm, p.ExeName
		if full := n.find(p.P); full != nil {
			p.P = full
		}
	}
}

// find gives the process of that id, start and program.
func (n *Names) find(p *Process) *Process {
	for _, known := range n.by[p.PID] {
		if sameProcess(known, p) && known.Comm == p.Comm && known.ExeName == p.ExeName {
			return known
		}
	}
	return nil
}

func each(r *Record, do func(*Actor)) {
	if s := r.Sock; s != nil {
		do(&s.Process)
		if s.Holder != nil {
			do(&s.Holder.Process)
		}
	}
	if c := r.Conn; c != nil {
		do(&c.Client.Process)
		do(&c.Server.Process)
		do(&c.Listener)
	}
}
