// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
)

// fit says how well a listener's address fits one that was dialled (compute_score in the kernel).
type fit uint8

const (
	fitNone   fit = iota
	fitOther      // the dual-stack wildcard
	fitFamily     // the wildcard of its own family
	fitExact
	fitPeer // UDP: connected to whoever sends
)

func (k *sock) fits(dst netip.Addr) fit { return fits(k.addr, k.v6only, dst) }

// takes is fits, for what a certain socket sends: a UDP socket that is connected takes it from its peer alone.
func (k *sock) takes(dst netip.Addr, from netip.AddrPort) fit {
	how := k.fits(dst)
	switch {
	case how == fitNone || !k.peer.IsValid():
		return how
	case k.peer == from:
		return fitPeer
	default:
		return fitNone
	}
}

func fits(addr netip.Addr, v6only bool, dst netip.Addr) fit {
	switch {
	case !serves(addr, v6only, dst):
		return fitNone
	case addr == dst:
		return fitExact
	case addr.Is4() == dst.Is4():
		return fitFamily
	default:
		return fitOther
	}
}

// nameServer finds who answered the client at a time, as long as nobody has accepted. Asked again,
// it changes its mind only for listeners that fit better, or more that fit as well.
func (t *Table) nameServer(c *conn, at uint64) {
	if c.ev.Flags&FlagSelf != 0 {
		c.server.Process = c.client.Process
		return
	}
	if c.sure {
		return
	}
	if c.ev.Proto == UDP && c.serverSocket != nil && c.serverSocket.takes(c.server.Address, netip.AddrPortFrom(c.client.Address, c.client.Port)) != fitNone {
		c.sure = true // the kernel side saw which socket it is
		t.nameHolder(c, c.serverSocket)
		return
	}
	p := t.ports[portKey{c.ev.Netns, c.ev.ServerPort, c.ev.Proto}]
	if p == nil || c.errno != 0 && !c.unanswered() {
		return
	}
	group, how := p.listeners(c, at, t.group)
	t.group = group[:0]
	if d, gone := p.departedFit(c.server.Address, at); gone != fitNone && gone >= how {
		if gone > c.fit { // it answered, or may have: whoever is left is only the next best
			c.fit, c.server.Process, c.server.Holders, c.listener = gone, Actor{}, nil, Actor{}
			if d != nil && gone > how {
				c.server.Process, c.listener = d.stood, d.caller
			}
		}
		return
	}
	if how == fitNone || how < c.fit || how == c.fit && len(group) <= c.candidates {
		return
	}
	c.fit, c.candidates = how, len(group)
	c.sure = how >= fitExact && group[0].flags&FlagReusePort == 0
	c.met = nil
	if len(group) == 1 {
		c.met = group[0]
		t.nameHolder(c, group[0])
	} else {
		t.nameGroup(c, group)
	}
}

// listeners gives who answered c at a time: those that fit best; several share the port
// (SO_REUSEPORT). Who came later is not whom a connection met. The group is in buf's memory.
func (p *port) listeners(c *conn, at uint64, buf []*sock) (group []*sock, best fit) {
	client := netip.AddrPortFrom(c.client.Address, c.client.Port)
	group = buf[:0]
	for _, k := range p.socks {
		from := k.since
		switch {
		case k.key.proto == TCP:
			from = k.listenFrom
		case k.preexisting:
			from = 0
		}
		if k.key.proto == TCP && !k.listening || from > at {
			continue
		}
		switch how := k.takes(c.server.Address, client); {
		case how > best:
			group, best = append(group[:0], k), how
		case how == best && how != fitNone:
			group = append(group, k)
		}
	}
	return group, best
}

// departedFit gives the best of the listeners that answered dst at a time and are gone by now, and how
// well it fits; nil where several fit as well.
func (p *port) departedFit(dst netip.Addr, at uint64) (one *departed, best fit) {
	for i := range p.departed {
		d := &p.departed[i]
		if d.from > at || at >= d.until {
			continue
		}
		switch how := fits(d.addr, d.v6only, dst); {
		case how > best:
			one, best = d, how
		case how == best && how != fitNone:
			one = nil
		}
	}
	return one, best
}

// nameHolder names who holds the listener that the client met.
func (t *Table) nameHolder(c *conn, k *sock) {
	c.listener, c.server.Process, c.server.Holders = k.caller, Actor{}, nil
	a := k.standing()
	if a.Attribution == "shared" && a.P != k.proc.P {
		c.server.Holders = a.Holders // of several nobody can say which will accept
		return
	}
	c.server.Process = a
}

// standing gives the process that stands for a socket: who called listen() (or bind) while it lives
// and holds it, else the only one that does, else the oldest of several.
func (k *sock) standing() Actor {
	if k.heldBy(k.proc.P) {
		return k.proc
	}
	var alive []Actor
	for _, h := range k.holders {
		if h.P.Exited.IsZero() {
			alive = append(alive, h)
		}
	}
	if len(alive) == 0 {
		return Actor{}
	}
	a := alive[0]
	if len(alive) > 1 {
		a.Attribution, a.Holders = "shared", alive
	}
	return a
}

func (k *sock) heldBy(p *Process) bool {
	return p != nil && p.Exited.IsZero() && slices.ContainsFunc(k.holders, func(h Actor) bool { return h.P == p })
}

// nameGroup: listeners that share the port (SO_REUSEPORT). If all are one process's, it is that; a
// socket whose holder is not known may be whom the client met, and so may each of several.
func (t *Table) nameGroup(c *conn, group []*sock) {
	var procs []Actor
	sure, caller := true, group[0].caller
	for _, k := range group {
		a := k.standing()
		switch {
		case a.P == nil:
			sure = false
		case a.Attribution == "shared" && a.P != k.proc.P:
			sure = false
			for _, h := range a.Holders {
				procs = addHolder(procs, h)
			}
		default:
			procs = addHolder(procs, a)
		}
		if k.caller.P != caller.P {
			caller = Actor{}
		}
	}
	c.listener, c.server.Process, c.server.Holders = caller, Actor{}, nil
	if len(procs) == 1 && sure {
		c.server.Process = procs[0]
	} else {
		c.server.Holders = procs
	}
}
