// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/looptrace/looptrace/tracer/flow"
)

// redactor rewrites the command lines of records for one sink. Records belong to the tracer, and other
// sinks show them in full, so it works on copies.
type redactor struct {
	rewrite func([]string) []string
	seen    map[string]string // arguments to the line that came of them: a program is in many records
}

// redactorCache bounds what is remembered, at up to 2 KiB each; past it, all is forgotten.
const redactorCache = 4096

func newRedactor(rewrite func([]string) []string) *redactor {
	return &redactor{rewrite: rewrite, seen: map[string]string{}}
}

// record copies what leads to a process. Every field of type Actor or *Process has to be here: a test
// looks for those that are not.
func (d *redactor) record(r *flow.Record) *flow.Record {
	c := *r
	if r.Sock != nil {
		sock := *r.Sock
		sock.Process = d.actor(sock.Process)
		sock.Holder = d.holder(sock.Holder)
		sock.EphemeralPorts = d.ports(sock.EphemeralPorts)
		c.Sock = &sock
	}
	if r.Conn != nil {
		conn := *r.Conn
		conn.Client, conn.Server = d.end(conn.Client), d.end(conn.Server)
		conn.LastListener = d.lastListener(conn.LastListener)
		conn.Nearby = slices.Clone(conn.Nearby)
		for i := range conn.Nearby {
			conn.Nearby[i].Process = d.actor(conn.Nearby[i].Process)
		}
		conn.EphemeralPorts = d.ports(conn.EphemeralPorts)
		conn.Listener = d.actor(conn.Listener)
		c.Conn = &conn
	}
	if r.Summary != nil {
		summary := *r.Summary
		summary.Client.P, summary.Server.P = d.process(summary.Client.P), d.process(summary.Server.P)
		c.Summary = &summary
	}
	return &c
}

func (d *redactor) end(e flow.End) flow.End {
	e.Process = d.actor(e.Process)
	e.Holders = d.actors(e.Holders)
	return e
}

func (d *redactor) holder(h *flow.Holder) *flow.Holder {
	if h == nil {
		return nil
	}
	c := *h
	c.Process = d.actor(c.Process)
	return &c
}

func (d *redactor) lastListener(l *flow.LastListener) *flow.LastListener {
	if l == nil {
		return nil
	}
	c := *l
	c.Process = d.actor(c.Process)
	return &c
}

func (d *redactor) ports(p *flow.EphemeralPorts) *flow.EphemeralPorts {
	if p == nil {
		return nil
	}
	c := *p
	c.Top = slices.Clone(c.Top)
	for i := range c.Top {
		c.Top[i].Process = d.actor(c.Top[i].Process)
	}
	return &c
}

func (d *redactor) actors(all []flow.Actor) []flow.Actor {
	all = slices.Clone(all)
	for i := range all {
		all[i] = d.actor(all[i])
	}
	return all
}

func (d *redactor) actor(a flow.Actor) flow.Actor {
	a.P = d.process(a.P)
	a.Holders = d.actors(a.Holders)
	return a
}

// process rewrites the arguments, never the line that was made of them: where one ends is lost in it.
func (d *redactor) process(p *flow.Process) *flow.Process {
	if p == nil {
		return nil
	}
	c := *p
	line, ok := d.seen[p.Argv]
	if !ok {
		c.Rewrite(d.rewrite)
		if line = c.CommandLine; len(d.seen) >= redactorCache {
			clear(d.seen)
		}
		d.seen[p.Argv] = line
	}
	c.Argv, c.CommandLine = "", line
	return &c
}
