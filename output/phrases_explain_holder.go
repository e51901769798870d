// SPDX-License-Identifier: Apache-2.0

package output

import "github.com/looptrace/looptrace/tracer/flow"

// gotPort is how a holder got the port.
func (w *words) gotPort(f *flow.Finding) {
	w.actor(&f.Process)
	switch {
	case f.Unseen:
		w.note("since when is not known")
	case f.From.IsZero():
		w.note("since before anybody watched")
	default:
		w.note("since ")
		w.when(f.From)
		if !f.Then {
			w.str(" (")
			w.duration(w.now.Sub(f.From))
			w.str(")")
		}
	}
	b := f.Other
	if b != nil && b.Sock.HasRequested && passedOn(&b.Sock.Process, &f.Process) {
		w.note("")
		w.program(&b.Sock.Process)
		if b.Sock.Requested.Port() == 0 {
			w.str(" asked for any port, the kernel picked this one, and it passed it on")
		} else {
			w.str(" asked for this port and passed it on")
		}
		return
	}
	switch {
	case b == nil:
		w.note("how it got the port nobody saw")
	case b.Sock.HasRequested && b.Sock.Requested.Port() == 0:
		w.note("asked for any port, and the kernel picked this one")
	case b.Sock.HasRequested:
		w.note("asked for this port")
	case b.Sock.Ephemeral:
		w.note("never called bind(): the kernel picked the port")
	}
}

// passedOn says whether another process has a socket than the one that asked for its port.
func passedOn(asked, has *flow.Actor) bool {
	return asked.Known() && has.Known() && asked.P.PID != has.P.PID
}

func (w *words) processLine(f *flow.Finding) {
	p := f.Process.P
	if p.CommandLine != "" {
		w.command(p.CommandLine)
	} else {
		w.foreign(p.Name())
	}
	w.sep = "; "
	switch {
	case p.Owner != "":
		w.note("user ")
		w.foreign(p.Owner)
	default:
		w.note("user ")
		w.uint(uint64(p.UID))
	}
	w.sep = ", "
	if p.Unit != "" {
		w.note("unit ")
		w.foreign(p.Unit)
	}
	if p.Container.ID != "" {
		w.note("container")
		w.container(&f.Process)
	}
	w.ancestry(p.Ancestors)
}

func (w *words) command(line string) {
	short := cutText(line, maxCommand)
	w.dst = Escape(w.dst, short)
	if len(short) < len(line) {
		w.str("…")
	}
}

// maxCommand is how much of a command line a page has room for.
const maxCommand = 120

// ancestry is the line of ancestors, to the top.
func (w *words) ancestry(up []flow.Ancestor) {
	for i, a := range up {
		if i == 0 {
			w.note("started by ")
		} else {
			w.str(" < ")
		}
		w.ancestor(a)
	}
}

func (w *words) reach(f *flow.Finding) {
	if f.Why == "" {
		w.str("loopback only: nothing outside this machine reaches it")
		return
	}
	if f.Record.Proto == flow.UDP {
		w.str("open to the network: it takes datagrams at ")
	} else {
		w.str("open to the network: it listens on ")
	}
	w.target(f)
	if f.Level == flow.Warn {
		w.note("a port that the kernel picked")
	}
}

func (w *words) origin(f *flow.Finding) {
	p := f.Process.P
	switch f.Why {
	case flow.OriginTerminal:
		w.str("started from your own session, below ")
		w.ancestor(f.Ancestor)
		return
	case flow.OriginContainer:
		w.str("runs in a container")
		w.container(&f.Process)
		return
	case flow.OriginUnit:
		w.str("started by unit ")
		w.foreign(p.Unit)
		return
	case flow.OriginSession:
		w.str("started from a session, ")
		w.foreign(p.Unit)
	case flow.OriginNowhere:
		w.str("out of nowhere: no unit, no session, and init is its parent")
	case flow.OriginOwn:
		w.str("started by your user, and not from this terminal")
	}
	if p.UID != w.inquiry.Host.UID {
		if f.Why != flow.OriginOtherUser {
			w.note("")
		}
		w.str("of another user")
		if p.Owner != "" {
			w.note("")
			w.foreign(p.Owner)
		}
	}
}

func (w *words) seen(f *flow.Finding) {
	switch f.Why {
	case "port":
		w.str("its program had this port before, ")
		w.times(f.Count)
		w.str(" since ")
		w.when(f.From)
	case "machine":
		w.str("its program was first seen on this machine at ")
		w.when(f.From)
	default:
		w.str("its program was never seen before; the store remembers since ")
		w.when(f.From)
	}
}

func (w *words) times(n uint64) {
	if n == 1 {
		w.str("once")
		return
	}
	w.uint(n)
	w.str(" times")
}
