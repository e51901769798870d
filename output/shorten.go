// SPDX-License-Identifier: Apache-2.0

package output

import (
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/looptrace/looptrace/tracer/flow"
)

// How much of a record is written: each step is taken only if the one before it did not fit a line.
const (
	whole = iota
	// The step between cuts command lines, and leaves out ancestors and all but the first holders.
	_
	// shortest leaves of each process what tells which one it is. Whatever names the processes gave themselves,
	// that fits.
	shortest
)

const (
	shortCommandLine = 128 // enough to tell two runs of one program apart
	shortHolders     = 40
	shortestText     = 20 // of a byte that JSON has to escape, 6 are written
	shortestList     = 2
)

// shorten returns r itself where it is wanted whole, and else a copy.
func shorten(r *flow.Record, cut int) *flow.Record {
	if cut == whole {
		return r
	}
	c := *r
	if r.Sock != nil {
		c.Sock = shortenSock(r.Sock, cut)
	}
	if r.Conn != nil {
		c.Conn = shortenConn(r.Conn, cut)
	}
	if r.Start != nil {
		c.Start = shortenStart(r.Start)
	}
	return &c
}

func shortenSock(sock *flow.SockRecord, cut int) *flow.SockRecord {
	s := *sock
	shortenActor(&s.Process, cut)
	if s.Holder != nil {
		h := *s.Holder
		shortenActor(&h.Process, cut)
		s.Holder = &h
	}
	s.EphemeralPorts = shortenPorts(s.EphemeralPorts, cut)
	return &s
}

func shortenConn(conn *flow.ConnRecord, cut int) *flow.ConnRecord {
	c := *conn
	shortenActor(&c.Client.Process, cut)
	shortenActor(&c.Server.Process, cut)
	shortenActor(&c.Listener, cut)
	c.Server.Holders = shortenActors(c.Server.Holders, cut)
	if c.LastListener != nil {
		l := *c.LastListener
		shortenActor(&l.Process, cut)
		c.LastListener = &l
	}
	c.Nearby = slices.Clone(c.Nearby)
	if cut == shortest {
		c.Nearby = c.Nearby[:min(len(c.Nearby), shortestList)]
	}
	for i := range c.Nearby {
		shortenActor(&c.Nearby[i].Process, cut)
	}
	c.EphemeralPorts = shortenPorts(c.EphemeralPorts, cut)
	return &c
}

func shortenPorts(ports *flow.EphemeralPorts, cut int) *flow.EphemeralPorts {
	if ports == nil {
		return nil
	}
	p := *ports
	p.Top = slices.Clone(p.Top)
	if cut == shortest {
		p.Top = p.Top[:min(len(p.Top), shortestList)]
	}
	for i := range p.Top {
		shortenActor(&p.Top[i].Process, cut)
	}
	return &p
}

func shortenActors(actors []flow.Actor, cut int) []flow.Actor {
	keep := shortHolders
	if cut == shortest {
		keep = shortestList
	}
	list := slices.Clone(actors[:min(len(actors), keep)])
	for i := range list {
		shortenActor(&list[i], cut)
	}
	return list
}

func shortenActor(a *flow.Actor, cut int) {
	if a.P == nil {
		return
	}
	p := *a.P
	p.CommandLine = cutText(p.CommandLine, shortCommandLine)
	p.Ancestors = nil
	if cut == shortest {
		p.CommandLine, p.ExePath, p.Owner, p.Unit, a.Thread = "", "", "", "", ""
		for _, text := range []*string{&p.Comm, &p.ExeName, &p.Container.ID, &p.Container.Name} {
			*text = cutText(*text, shortestText)
		}
	}
	a.P = &p
	a.Holders = shortenActors(a.Holders, cut)
}

// shortenStart writes the filters that are long as text, cut: a list of every port has to give way.
func shortenStart(s *flow.StartRecord) *flow.StartRecord {
	c := *s
	c.Filters = make(map[string]any, len(s.Filters))
	for name, value := range s.Filters {
		text, err := json.Marshal(value)
		if err == nil && len(text) <= shortCommandLine {
			c.Filters[name] = value
			continue
		}
		c.Filters[name] = cutText(string(text), shortCommandLine) + "…"
	}
	return &c
}

// cutText cuts s at n bytes, before a character rather than in it; what is no UTF-8 has none.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for back := range utf8.UTFMax {
		if utf8.RuneStart(s[n-back]) {
			return s[:n-back]
		}
	}
	return s[:n]
}
