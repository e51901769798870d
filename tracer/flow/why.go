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

// explainBind says who keeps the port, or that the kernel had none left to pick.
func (t *Table) explainBind(r *Record, ev *SockEvent) {
	if ev.Error != eaddrinuse {
		return
	}
	if ev.ReqPort == 0 {
		r.Sock.EphemeralPorts = t.ephemeralPorts(ev.Netns, ev.Proto, netip.AddrPort{})
		return
	}
	r.Sock.Holder = t.holder(ev, r.Sock.Address, ev.ReqPort, 0)
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
		if k.id == self || !overlap(addr, v6only, k.addr, k.v6only) || k.shares(ev) {
			continue
		}
		if k.listening {
			return t.sockHolder(HolderListener, k, k.listenSince)
		}
		bound = k
	}
	if bound != nil {
		return t.sockHolder(HolderBound, bound, bound.since)
	}
	if h := t.connHolder(p, addr, v6only); h != nil {
		return h
	}
	for _, w := range p.waiting {
		if w.ends <= ev.Time || !overlap(addr, v6only, w.addr, true) {
			continue
		}
		return &Holder{
			Kind: HolderTimeWait, Address: w.addr, Port: number, Process: w.proc,
			Since: t.wall(w.since), Expires: time.Duration(w.ends - ev.Time),
		}
	}
	return nil
}

// shares says whether a socket lets the other have its port too (inet_csk_bind_conflict): both want
// SO_REUSEPORT for one user, or both SO_REUSEADDR and this one does not listen.
func (k *sock) shares(ev *SockEvent) bool {
	both := k.flags & ev.Flags
	if both&FlagReusePort != 0 && k.proc.P != nil && k.proc.P.UID == ev.Actor.UID {
		return true
	}
	return both&FlagReuse != 0 && !k.listening && k.key.proto == TCP
}

func (t *Table) sockHolder(kind string, k *sock, since uint64) *Holder {
	h := &Holder{Kind: kind, Address: k.addr, Port: k.key.port, Process: k.standing()}
	if !k.preexisting {
		h.Since = t.wall(since)
	}
	return h
}

func (t *Table) connHolder(p *port, addr netip.Addr, v6only bool) *Holder {
	for l := p.conns.first; l != nil; l = l.next {
		c, end := l.conn, &l.conn.client
		if l == &c.serverLink {
			end = &c.server
			if !c.accepted && !c.preexisting {
				continue // still in the queue of a listener that is named before it
			}
		}
		if c.ev.Proto != TCP || !overlap(addr, v6only, end.Address, true) {
			continue
		}
		h := &Holder{
			Kind: HolderConnection, Address: end.Address, Port: end.Port, Process: end.Process,
			Peer: c.peerOf(l),
		}
		h.Process.Short, h.Process.Thread = false, ""
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
			dst := netip.AddrPortFrom(c.server.Address, c.server.Port)
			rc.EphemeralPorts = t.ephemeralPorts(c.ev.Netns, c.ev.Proto, dst)
		}
	case econnrefused:
		p := t.ports[portKey{c.ev.Netns, c.ev.ServerPort, c.ev.Proto}]
		if p != nil {
			rc.LastListener = t.lastListener(p, c.server.Address)
		}
		if c.ev.Proto == TCP {
			rc.Nearby = t.nearby(c)
		}
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
	for k := range t.listening[c.ev.ServerPort] {
		n := Nearby{Address: k.addr, Port: k.key.port, Process: k.proc, Netns: k.key.netns}
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

// ephemeralPorts counts who uses the range that the kernel picks from. For a connect, whose port
// only has to differ per destination, those that go to dst count. Nil where the range is unknown.
func (t *Table) ephemeralPorts(netns uint32, proto uint16, dst netip.AddrPort) *EphemeralPorts {
	if t.cfg.PortRange == nil {
		return nil
	}
	lo, hi := t.cfg.PortRange(netns)
	if hi == 0 {
		return nil
	}
	e := &EphemeralPorts{Low: lo, High: hi}
	users := make(map[*Process]*PortUser)
	for n := uint32(lo); n <= uint32(hi); n++ {
		p := t.ports[portKey{netns, uint16(n), proto}]
		if p == nil {
			continue
		}
		who, used := p.user(t.now, dst)
		if !used {
			continue
		}
		e.InUse++
		if who.P == nil {
			continue
		}
		if users[who.P] == nil {
			who.Short, who.Thread = false, ""
			users[who.P] = &PortUser{Process: who}
		}
		users[who.P].Count++
	}
	for _, u := range users {
		e.Top = append(e.Top, *u)
	}
	sort.Slice(e.Top, func(i, j int) bool {
		if e.Top[i].Count != e.Top[j].Count {
			return e.Top[i].Count > e.Top[j].Count
		}
		return e.Top[i].Process.P.PID < e.Top[j].Process.P.PID
	})
	e.Top = e.Top[:min(len(e.Top), maxTop)]
	return e
}

// user gives who uses the port; for a connect to dst, only what goes there or is bound uses it.
func (p *port) user(now uint64, dst netip.AddrPort) (Actor, bool) {
	if len(p.socks) > 0 {
		return p.socks[0].proc, true
	}
	for l := p.conns.first; l != nil; l = l.next {
		if l != &l.conn.clientLink || dst.IsValid() && l.conn.peerOf(l) != dst {
			continue
		}
		return l.conn.client.Process, true
	}
	for _, w := range p.waiting {
		if w.ends > now && (!dst.IsValid() || w.peer == dst) {
			return w.proc, true
		}
	}
	return Actor{}, false
}
