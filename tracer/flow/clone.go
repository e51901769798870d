// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"maps"
	"slices"
)

// Clone gives a record that shares nothing with this one, and so outlives the Table's next call.
func (r *Record) Clone() *Record {
	c := *r
	c.Sock, c.Conn, c.Summary = clone(r.Sock), clone(r.Conn), clone(r.Summary)
	c.Start, c.Lost, c.Stop = clone(r.Start), clone(r.Lost), clone(r.Stop)
	if s := c.Sock; s != nil {
		s.Process = s.Process.clone()
		if s.Holder = clone(s.Holder); s.Holder != nil {
			s.Holder.Process = s.Holder.Process.clone()
		}
		s.EphemeralPorts = s.EphemeralPorts.clone()
	}
	if d := c.Conn; d != nil {
		d.Client, d.Server, d.Listener = d.Client.clone(), d.Server.clone(), d.Listener.clone()
		d.AcceptQueue = clone(d.AcceptQueue)
		if d.LastListener = clone(d.LastListener); d.LastListener != nil {
			d.LastListener.Process = d.LastListener.Process.clone()
		}
		d.Nearby = slices.Clone(d.Nearby)
		for i := range d.Nearby {
			d.Nearby[i].Process = d.Nearby[i].Process.clone()
		}
		d.EphemeralPorts = d.EphemeralPorts.clone()
	}
	if s := c.Summary; s != nil {
		s.Client.P, s.Server.P = s.Client.P.clone(), s.Server.P.clone()
	}
	if c.Stop != nil {
		c.Stop.Counts = maps.Clone(c.Stop.Counts)
	}
	return &c
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

func (a Actor) clone() Actor {
	a.P, a.Holders = a.P.clone(), slices.Clone(a.Holders)
	for i := range a.Holders {
		a.Holders[i].P = a.Holders[i].P.clone()
	}
	return a
}

func (e End) clone() End {
	e.Process, e.Holders = e.Process.clone(), slices.Clone(e.Holders)
	for i := range e.Holders {
		e.Holders[i].P = e.Holders[i].P.clone()
	}
	return e
}

func (p *Process) clone() *Process {
	c := clone(p)
	if c != nil {
		c.Ancestors = slices.Clone(c.Ancestors)
	}
	return c
}

func (p *EphemeralPorts) clone() *EphemeralPorts {
	c := clone(p)
	if c != nil {
		c.Top = slices.Clone(c.Top)
		for i := range c.Top {
			c.Top[i].Process = c.Top[i].Process.clone()
		}
	}
	return c
}
