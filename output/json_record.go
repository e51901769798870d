// SPDX-License-Identifier: Apache-2.0

package output

import (
	"net/netip"
	"strings"

	"github.com/rs/zerolog"

	"github.com/looptrace/looptrace/tracer/flow"
)

// reasonExit is the reason that comes with how the process ended.
const reasonExit = "exit"

type socket flow.Record

func (r *socket) MarshalZerologObject(e *zerolog.Event) {
	s := r.Sock
	appendAddr(e, "address", s.Address)
	if s.Process.P != nil {
		if r.Event == "release" {
			e.Object("process", (*closer)(s))
		} else {
			e.Object("process", (*process)(&s.Process))
		}
		addContainer(e, &s.Process)
	}
	r.details(e)
}

// details are what only some socket records have.
func (r *socket) details(e *zerolog.Event) {
	s := r.Sock
	switch r.Event {
	case "bind":
		r.bind(e)
	case "listen":
		r.listen(e)
	case "release":
		appendDuration(e, "held_ns", s.Held)
		appendStr(e, "reason", s.Reason)
	}
	if s.Holder != nil {
		e.Object("holder", (*holder)(s.Holder))
	}
	addEphemeralPorts(e, s.EphemeralPorts)
}

func (r *socket) bind(e *zerolog.Event) {
	s := r.Sock
	if s.HasRequested {
		e.Object("requested", (*endpoint)(&s.Requested))
	}
	if r.Errno == 0 {
		e.Bool("ephemeral", s.Ephemeral)
		if s.RangeHigh != 0 {
			e.Array("ephemeral_range", (*pickedFrom)(s))
			if r.HasPort {
				e.Bool("in_ephemeral_range", s.RangeLow <= r.Port && r.Port <= s.RangeHigh)
			}
		}
	}
	if r.IPv6 {
		e.Bool("v6only", s.V6Only)
	}
}

func (r *socket) listen(e *zerolog.Event) {
	s := r.Sock
	e.Uint32("backlog", s.Backlog)
	if r.Errno != 0 {
		return // nobody can reach it
	}
	if s.Exposed {
		e.Str("exposure", "network")
	} else {
		e.Str("exposure", "loopback")
	}
}

// closer is a release's process, which has its end where that released the port.
type closer flow.SockRecord

func (c *closer) MarshalZerologObject(e *zerolog.Event) {
	e.EmbedObject((*process)(&c.Process))
	if c.Reason == reasonExit && c.Exit.Known {
		e.Object("exit", (*exit)(&c.Exit))
	}
}

type endpoint netip.AddrPort

func (p *endpoint) MarshalZerologObject(e *zerolog.Event) {
	appendAddr(e, "address", (*netip.AddrPort)(p).Addr())
	e.Uint16("port", (*netip.AddrPort)(p).Port())
}

type holder flow.Holder

func (h *holder) MarshalZerologObject(e *zerolog.Event) {
	e.Str("kind", h.Kind)
	appendAddr(e, "address", h.Address)
	e.Uint16("port", h.Port)
	addActor(e, &h.Process)
	appendTime(e, "since", h.Since)
	switch h.Kind {
	case flow.HolderConnection:
		appendStr(e, "state", strings.ToUpper(h.State))
		if h.Peer.IsValid() {
			e.Object("peer", (*endpoint)(&h.Peer))
		}
	case flow.HolderTimeWait:
		appendDuration(e, "expires_in_ns", h.Expires)
	}
}

func addEphemeralPorts(e *zerolog.Event, p *flow.EphemeralPorts) {
	if p != nil {
		e.Object("ephemeral_ports", (*ephemeralPorts)(p))
	}
}

type ephemeralPorts flow.EphemeralPorts

func (p *ephemeralPorts) MarshalZerologObject(e *zerolog.Event) {
	e.Array("range", (*portRange)(p))
	e.Int("in_use", p.InUse)
	if len(p.Top) > 0 {
		e.Array("top", (*portUsers)(&p.Top))
	}
}

type pickedFrom flow.SockRecord

func (s *pickedFrom) MarshalZerologArray(a *zerolog.Array) { a.Uint16(s.RangeLow).Uint16(s.RangeHigh) }

type portRange flow.EphemeralPorts

func (p *portRange) MarshalZerologArray(a *zerolog.Array) { a.Uint16(p.Low).Uint16(p.High) }

type portUsers []flow.PortUser

func (list *portUsers) MarshalZerologArray(a *zerolog.Array) {
	for i := range *list {
		u := &(*list)[i]
		if u.Process.P != nil {
			a.Dict(newDict().Object("process", (*briefProcess)(&u.Process)).Int("count", u.Count))
		}
	}
}

// addEnds adds `client` and `server`.
func (l *lines) addEnds(e *zerolog.Event, c *flow.ConnRecord, texts *processTexts) {
	l.ends = [...]end{{&c.Client, texts}, {&c.Server, texts}}
	e.Object("client", &l.ends[0])
	e.Object("server", &l.ends[1])
}

type connection flow.Record

// details are what only some connection records have.
func (r *connection) details(e *zerolog.Event) {
	c := r.Conn
	switch r.Event {
	case "connect":
		r.connect(e)
	case "accept":
		appendDuration(e, "duration_ns", c.Duration)
		if c.Listener.P != nil {
			e.Object("listener", (*listener)(c))
		}
	case "close":
		r.close(e)
	}
}

type end struct {
	*flow.End
	texts *processTexts
}

func (n *end) MarshalZerologObject(e *zerolog.Event) {
	appendAddr(e, "address", n.Address)
	if n.HasPort {
		e.Uint16("port", n.Port)
	}
	if n.Process.P == nil {
		addHolders(e, &n.Holders)
		return
	}
	n.texts.add(e, &n.Process)
	addContainer(e, &n.Process)
}

// party is an end without its address.
type party flow.End

func (n *party) MarshalZerologObject(e *zerolog.Event) {
	addActor(e, &n.Process)
	if n.Process.P == nil {
		addHolders(e, &n.Holders)
	}
}

type listener flow.ConnRecord

func (c *listener) MarshalZerologObject(e *zerolog.Event) {
	e.Object("process", (*process)(&c.Listener))
}

// connect leaves out how long it took where no handshake was seen: of datagrams, and before tracing began.
func (r *connection) connect(e *zerolog.Event) {
	c := r.Conn
	if r.Proto == flow.TCP && !r.Preexisting {
		appendDuration(e, "duration_ns", c.Duration)
		if c.Retransmits > 0 {
			e.Uint32("syn_retransmits", c.Retransmits)
		}
	}
	if c.HasEphemeral {
		e.Bool("ephemeral", c.Ephemeral)
	}
	if q := c.AcceptQueue; q != nil {
		e.Object("accept_queue", (*acceptQueue)(q))
	}
	if c.Self {
		e.Bool("self", true)
	}
	if c.LastListener != nil {
		e.Object("last_listener", (*lastListener)(c.LastListener))
	}
	if len(c.Nearby) > 0 {
		e.Array("nearby", (*nearby)(&c.Nearby))
	}
	addEphemeralPorts(e, c.EphemeralPorts)
}

type acceptQueue flow.AcceptQueue

func (q *acceptQueue) MarshalZerologObject(e *zerolog.Event) {
	e.Uint32("length", q.Length)
	e.Uint32("limit", q.Limit)
}

func (r *connection) close(e *zerolog.Event) {
	c := r.Conn
	appendDuration(e, "duration_ns", c.Duration)
	if r.Proto != flow.TCP {
		appendStr(e, "closed_by", c.ClosedBy)
		return
	}
	if c.HasBytes {
		e.Object("bytes", (*byteCounts)(c))
	}
	appendStr(e, "closed_by", c.ClosedBy)
	if c.Reset {
		e.Bool("reset", true)
	}
	if !c.Accepted {
		e.Bool("accepted", false)
	}
}

type byteCounts flow.ConnRecord

func (c *byteCounts) MarshalZerologObject(e *zerolog.Event) {
	e.Uint64("client_to_server", c.C2S)
	e.Uint64("server_to_client", c.S2C)
}

type lastListener flow.LastListener

func (l *lastListener) MarshalZerologObject(e *zerolog.Event) {
	addActor(e, &l.Process)
	appendTime(e, "since", l.Since)
	appendTime(e, "until", l.Until)
	appendStr(e, "reason", l.Reason)
	if l.Reason == reasonExit && l.Exit.Known {
		e.Object("exit", (*exit)(&l.Exit))
	}
}

type nearby []flow.Nearby

func (list *nearby) MarshalZerologArray(a *zerolog.Array) {
	for i := range *list {
		a.Dict(newDict().EmbedObject((*neighbour)(&(*list)[i])))
	}
}

type neighbour flow.Nearby

func (n *neighbour) MarshalZerologObject(e *zerolog.Event) {
	appendAddr(e, "address", n.Address)
	e.Uint16("port", n.Port)
	addActor(e, &n.Process)
	if n.Netns != 0 {
		e.Uint32("netns", n.Netns)
	}
	e.Str("because", n.Because)
}
