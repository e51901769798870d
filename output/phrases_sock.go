// SPDX-License-Identifier: Apache-2.0

package output

import "github.com/looptrace/looptrace/tracer/flow"

func (w *words) sockDetails(r *flow.Record) {
	s := r.Sock
	switch r.Event {
	case "bind":
		w.bindDetails(r)
	case "listen":
		w.listenDetails(r)
	case "release":
		if s.Held >= 0 {
			w.note("held ")
			w.duration(s.Held)
		}
		w.ended(s.Reason, s.Exit)
	}
	if s.Holder != nil {
		w.holder(s)
	}
	w.ephemeralPorts(s.EphemeralPorts)
	if r.Event != "release" {
		w.owner(&s.Process)
	}
}

func (w *words) bindDetails(r *flow.Record) {
	s := r.Sock
	if r.Errno == 0 {
		w.picked(s.Ephemeral)
		if !r.HasPort {
			w.note("no port yet")
		}
	}
	if s.Implicit {
		w.note("without bind()")
	}
	if r.IPv6 && s.V6Only && s.Address.IsUnspecified() {
		w.note("IPv6 only")
	}
}

func (w *words) listenDetails(r *flow.Record) {
	s := r.Sock
	if r.Errno != 0 {
		return
	}
	w.picked(s.Ephemeral || r.Level == flow.Warn)
	w.note("backlog ")
	w.uint(uint64(s.Backlog))
	if s.Exposed {
		w.warning("open to the network")
	} else {
		w.note("loopback only")
	}
}

func (w *words) picked(ephemeral bool) {
	if ephemeral {
		w.note("port picked by the kernel")
	}
}

// owner names the user, unless that is root: on a server most are.
func (w *words) owner(a *flow.Actor) {
	if a.P == nil || a.P.UID == 0 {
		return
	}
	if a.P.Owner != "" {
		w.note("as ")
		w.foreign(a.P.Owner)
		return
	}
	w.note("as user ")
	w.uint(uint64(a.P.UID))
}

// ended says how a socket came to lose its port.
func (w *words) ended(reason string, x flow.Exit) {
	switch {
	case reason == "close":
		w.note("closed it")
	case reason == "shutdown":
		w.note("shut it down")
	case reason == reasonExit && !x.Known:
		w.note("exited")
	case reason == reasonExit && x.Signal != 0:
		w.note("killed by ")
		w.signal(x.Signal)
	case reason == reasonExit:
		w.note("exited with code ")
		w.uint(uint64(x.Code))
	}
}

// holder says who is in the way of a bind.
func (w *words) holder(s *flow.SockRecord) {
	h := s.Holder
	w.note("held by ")
	switch h.Kind {
	case flow.HolderConnection:
		w.connectionOf(h, "a connection")
		if h.Peer.IsValid() {
			w.str(" with ")
			w.addrPort(h.Peer.Addr(), h.Peer.Port())
		}
		if h.State != "" {
			w.str(" (")
			w.foreign(h.State)
			w.str(")")
		}
		w.since(h.Since)
	case flow.HolderTimeWait:
		w.connectionOf(h, "a closed connection (TIME_WAIT)")
		if h.Expires > 0 {
			w.note("free in ")
			w.duration(h.Expires)
		}
	default:
		w.actor(&h.Process)
		if h.Address != s.Address {
			w.str(" on ")
			w.addrPort(h.Address, h.Port)
		}
		w.holding(h)
	}
}

func (w *words) connectionOf(h *flow.Holder, what string) {
	w.str(what)
	if h.Process.P != nil {
		w.str(" of ")
		w.actor(&h.Process)
	}
}

func (w *words) holding(h *flow.Holder) {
	if h.Kind == flow.HolderListener {
		w.note("listening")
		w.since(h.Since)
		return
	}
	w.note("bound")
	w.since(h.Since)
	w.note("not listening")
}

func (w *words) ephemeralPorts(p *flow.EphemeralPorts) {
	if p == nil {
		return
	}
	w.note("")
	w.uint(uint64(p.InUse))
	w.str(" in use of ")
	w.uint(uint64(p.Low))
	w.str("-")
	w.uint(uint64(p.High))
	for i := range p.Top {
		w.note("")
		w.uint(uint64(p.Top[i].Count))
		w.str(" by ")
		w.actor(&p.Top[i].Process)
	}
}
