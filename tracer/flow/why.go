// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"sort"
	"time"
)

// maxNearby bounds what a refusal lists; more would not help a person.
const maxNearby = 8

// maxTop is how many processes are named when the ephemeral range is used up.
const maxTop = 5

// failed tells of a bind or listen that failed: at once where it is plain why.
func (t *Table) failed(ev *SockEvent) {
	if ev.Kind == KindBind && ev.Flags&FlagRequested == 0 {
		return // io_uring's, in the tracepoint form: nobody can tell of which port it is
	}
	var h *Holder
	var a *Answer
	if ev.Error == eaddrinuse {
		h = t.holderOf(ev)
		if h == nil || !t.plain(h, ev) {
			d := doubt{sock: *ev, holder: h}
			a = t.answer(&d)
			if a == nil && t.wait(d) {
				return
			}
		}
	}
	t.tellFailed(ev, t.judge(h, a, ev, addrOf(ev.Addr)), a)
}

// wanted is the port that a failed bind or listen asked for, and the socket that it failed on.
func wanted(ev *SockEvent) (number uint16, self uint64) {
	if ev.Kind == KindListen {
		return ev.Port, ev.ID
	}
	return ev.ReqPort, 0
}

// holderOf asks the ledger.
func (t *Table) holderOf(ev *SockEvent) *Holder {
	number, self := wanted(ev)
	if number == 0 {
		return nil
	}
	return t.holder(ev, addrOf(ev.Addr), number, self)
}

// plain: a socket that has a record and no release is the holder without a doubt, but where its
// SO_REUSEADDR of now decides, or where it may have dialled unseen.
func (t *Table) plain(h *Holder, ev *SockEvent) bool {
	return h.Kind == HolderListener || h.Kind == HolderBound && ev.Flags&FlagReuse == 0 && (t.sees || ev.Proto == UDP)
}

// tellFailed writes the record of a bind or listen that failed, with what was in its way, or what the
// kernel's tables say of the ports that are used.
func (t *Table) tellFailed(ev *SockEvent, h *Holder, a *Answer) {
	event := "bind"
	if ev.Kind == KindListen {
		event = "listen"
	}
	r, s := t.beginSock(event, ev)
	s.V6Only = ev.Flags&FlagV6Only != 0
	if k := t.socks[ev.ID]; k != nil {
		r.Preexisting = k.preexisting
	}
	if ev.Kind == KindListen {
		s.Backlog = ev.Backlog
	} else if s.HasRequested = ev.Flags&FlagRequested != 0; s.HasRequested {
		s.Requested = netip.AddrPortFrom(addrOf(ev.ReqAddr), ev.ReqPort)
	}
	number, _ := wanted(ev)
	switch {
	case ev.Error != eaddrinuse:
	case number == 0:
		s.EphemeralPorts = t.ephemeralPorts(a, rangeKey{proto: ev.Proto})
	default:
		s.Holder = h
	}
	t.emit(r)
}

// holder finds what is in the way of a bind to addr and port: a listener before a bound socket, a
// connection, and what is left of one. self is the socket that asks.
func (t *Table) holder(ev *SockEvent, addr netip.Addr, number uint16, self uint64) *Holder {
	p := t.ports[portKey{ev.Netns, number, ev.Proto}]
	if p == nil {
		return nil
	}
	v6only := ev.Flags&FlagV6Only != 0
	var bound *sock
	for _, k := range p.socks {
		if k.id == self || !overlap(addr, v6only, k.addr, k.v6only) || k.shares(ev) || k.since > ev.Time && !k.preexisting {
			continue
		}
		if k.listening {
			return t.sockHolder(HolderListener, k, k.heldSince())
		}
		if k.dialled == nil { // else it is a connection that holds the port
			bound = k
		}
	}
	if bound != nil {
		return t.sockHolder(HolderBound, bound, bound.heldSince())
	}
	if h := t.connHolder(p, addr, v6only, ev.Time); h != nil {
		return h
	}
	var last *timeWait
	for i := range p.waiting {
		w := &p.waiting[i]
		if w.ends > ev.Time && w.since <= ev.Time && overlap(addr, v6only, w.addr, true) && (last == nil || w.ends >= last.ends) {
			last = w
		}
	}
	if last == nil {
		return nil
	}
	return &Holder{
		Kind: HolderTimeWait, Address: last.addr, Port: number, Process: last.proc,
		Since: t.wall(last.since), Expires: time.Duration(last.ends - ev.Time),
	}
}

// shares says whether a socket lets the other have its port too (inet_csk_bind_conflict, udp_lib_lport_inuse):
// both want SO_REUSEPORT for one user, or both SO_REUSEADDR and this one does not listen.
func (k *sock) shares(ev *SockEvent) bool {
	both := k.flags & ev.Flags
	if both&FlagReusePort != 0 && k.proc.P != nil && k.proc.P.UID == ev.Actor.UID {
		return true
	}
	return both&FlagReuse != 0 && !k.listening
}

func (t *Table) sockHolder(kind string, k *sock, since uint64) *Holder {
	h := &Holder{Kind: kind, Address: k.addr, Port: k.key.port, Process: k.standing(), sock: k.id}
	if !k.preexisting {
		h.Since = t.wall(since)
	}
	return h
}

// heldSince is since when a socket holds its port as it does now.
func (k *sock) heldSince() uint64 {
	if k.listening {
		return k.listenSince
	}
	return k.since
}

func (t *Table) connHolder(p *port, addr netip.Addr, v6only bool, at uint64) *Holder {
	for l := p.conns.first; l != nil; l = l.next {
		c, end := l.conn, &l.conn.client
		if l == &c.serverLink {
			end = &c.server
			if !c.accepted && !c.preexisting {
				continue // still in the queue of a listener that is named before it
			}
		}
		if c.ev.Proto != TCP || !overlap(addr, v6only, end.Address, true) || c.ev.Time > at && !c.preexisting {
			continue
		}
		h := &Holder{
			Kind: HolderConnection, Address: end.Address, Port: end.Port, Process: end.Process,
			Peer: c.peerOf(l), conn: c.ev.ID,
		}
		h.Process.Short, h.Process.Thread = false, ""
		if h.Process.P != nil && !h.Process.P.Exited.IsZero() || c.clientGone && l == &c.clientLink {
			h.Process = Actor{} // whoever holds it now, it is not the dead
		}
		if !c.preexisting {
			h.Since = t.wall(c.ev.Time)
		}
		return h
	}
	return nil
}

// explainConnect says who listened where the client was refused, and who listens close by.
func (t *Table) explainConnect(r *Record, c *conn) {
	rc := r.Conn
	switch c.errno {
	case eaddrnotavail:
		if !c.client.HasPort {
			d := doubt{conn: c}
			key, _ := d.aboutRange()
			rc.EphemeralPorts = t.ephemeralPorts(c.answer, key)
		}
	case econnrefused:
		p := t.ports[portKey{c.ev.Netns, c.ev.ServerPort, c.ev.Proto}]
		if p != nil {
			rc.LastListener = t.lastListener(p, c.server.Address)
		}
		rc.Nearby = t.nearby(c)
	}
}

// lastListener gives the latest listener that dst would have reached, nil where none is known.
func (t *Table) lastListener(p *port, dst netip.Addr) *LastListener {
	i := slices.IndexFunc(p.departed, func(d departed) bool { return serves(d.addr, d.v6only, dst) })
	if i < 0 {
		return nil
	}
	d := &p.departed[i]
	l := &LastListener{Process: d.proc, Until: t.wall(d.until), Reason: d.reason, Exit: d.exit}
	if d.since != 0 {
		l.Since = t.wall(d.since)
	}
	return l
}

// nearby lists listeners on the port that the client did not reach: of the other address family,
// on another address, in another network namespace.
func (t *Table) nearby(c *conn) []Nearby {
	var list []Nearby
	for k := range t.servers[serverKey{c.ev.ServerPort, c.ev.Proto}] {
		n := Nearby{Address: k.addr, Port: k.key.port, Process: k.standing(), Netns: k.key.netns}
		switch {
		case k.key.netns != c.ev.Netns:
			n.Because = "netns"
		case serves(k.addr, k.v6only, c.server.Address):
			continue // it came after the refusal
		case k.addr.Is4() != c.server.Address.Is4():
			n.Because = "family"
		default:
			n.Because = "address"
		}
		list = append(list, n)
	}
	sort.Slice(list, func(i, j int) bool {
		if list[i].Because != list[j].Because {
			return list[i].Because < list[j].Because
		}
		if list[i].Netns != list[j].Netns {
			return list[i].Netns < list[j].Netns
		}
		return list[i].Address.Less(list[j].Address)
	})
	return list[:min(len(list), maxNearby)]
}
