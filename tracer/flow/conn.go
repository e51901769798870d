// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Errnos that the model explains (asm-generic/errno.h).
const (
	eaddrinuse    = 98
	eaddrnotavail = 99
	etimedout     = 110
	econnrefused  = 111
	ecanceled     = 125 // the owner closed the socket before there was an answer
)

// conn is a connection or a UDP flow.
type conn struct {
	ev           ConnEvent // as it was told first
	client       End
	server       End // its process: who accepted; before that, who listens
	listener     Actor
	errno        int32
	given        [3]*Process // those that a record of this connection gave in full
	connected    bool        // its connect event has come
	fit          fit         // of the listeners that the server was named by
	candidates   int         // how many they are
	sure         bool        // no other can have answered
	accepted     bool
	pending      bool
	queued       bool // in Table.pending, if only until the next Tick
	dropped      bool
	settleAt     uint64
	preexisting  bool
	ending       bool // of the snapshot: the server's end was closed before tracing, whoever had it
	portKnown    bool // whether the kernel picked the client's port is known
	ephemeral    bool
	answer       *Answer // where it failed for want of a port
	clientLink   link
	serverLink   link
	clientSocket *sock // UDP, and TCP where it was bound first
	serverSocket *sock
	met          *sock // the only one that fits best
	clientGone   bool  // its socket, which was bound first, is closed
}

func (t *Table) connected(ev *ConnEvent) {
	early := t.conns[ev.ID] // accepted before it was established: TCP Fast Open
	if early != nil && early.connected {
		return // told twice
	}
	t.dialled = true
	if ev.Proto == UDP && t.isReply(ev) {
		return
	}
	c := t.newConn(ev)
	if c.preexisting && c.client.Process.P != nil {
		c.client.Process.Attribution = "snapshot"
	}
	c.connected, c.errno = true, ev.Error
	c.portKnown, c.ephemeral = ev.Proto == TCP, ev.Flags&FlagEphemeral != 0
	if early != nil {
		c.accepted, c.server, c.listener = early.accepted, early.server, early.listener
		t.drop(early)
	}
	t.track(c)
	if !c.accepted {
		t.nameServer(c, c.dialledAt())
	}
	// Whoever may have begun to listen on another CPU is told after this.
	if (ev.Proto == UDP || c.errno == 0 && !c.sure) && ev.Flags&FlagSelf == 0 {
		c.pending, c.queued, c.settleAt = true, true, ev.Time+uint64(settle)
		t.pending = append(t.pending, c)
		return
	}
	if c.errno == eaddrnotavail && !c.client.HasPort {
		d := doubt{conn: c}
		if c.answer = t.answer(&d); c.answer == nil && t.wait(d) {
			return
		}
	}
	t.emitConnect(c)
}

// isReply: a datagram that goes back between two sockets of a flow, by another address of the
// server's, belongs to that flow.
func (t *Table) isReply(ev *ConnEvent) bool {
	from, to := t.socks[ev.ClientSock], t.socks[ev.ServerSock]
	return from != nil && to != nil && slices.ContainsFunc(from.flows, func(c *conn) bool {
		return c.clientSocket == to && c.serverSocket == from
	})
}

// dialledAt is when the server was the server: as the handshake ended, or as one began that had no answer.
func (c *conn) dialledAt() uint64 {
	if c.errno != 0 && c.ev.Started != 0 {
		return c.ev.Started
	}
	return c.ev.Time
}

// unanswered: the SYNs went unanswered, though there may be a listener.
func (c *conn) unanswered() bool { return c.errno == etimedout || c.errno == ecanceled }

// newConn makes the connection of an event, from the free list where that has one.
func (t *Table) newConn(ev *ConnEvent) *conn {
	var c *conn
	if n := len(t.free); n > 0 {
		c, t.free = t.free[n-1], t.free[:n-1]
		*c = conn{}
	} else {
		c = &conn{}
	}
	c.ev = *ev
	c.client = End{Address: addrOf(ev.ClientAddr), Port: ev.ClientPort, HasPort: ev.ClientPort != 0}
	c.server = End{Address: addrOf(ev.ServerAddr), Port: ev.ServerPort, HasPort: true}
	if c.client.Address.IsUnspecified() {
		c.client.Address = netip.Addr{} // no route, no source: not known
	}
	c.client.Process = t.process(ev.Client, ev.Thread)
	c.preexisting = ev.Flags&FlagPreexisting != 0
	return c
}

// process names an end that the kernel side knows by its call.
func (t *Table) process(id ProcessID, thread [16]byte) Actor {
	p := t.procs.find(id)
	if p == nil {
		return Actor{}
	}
	return Actor{P: p, Attribution: "hook", Thread: cString(thread[:])}
}

// track enters a live connection into the ledger. Failed ones never held anything.
func (t *Table) track(c *conn) {
	if c.errno != 0 {
		return
	}
	if len(t.conns) >= maxConns || c.ev.Proto == UDP && t.flows >= maxFlows {
		t.evict(c.ev.Proto == UDP)
	}
	t.conns[c.ev.ID] = c
	key := portKey{c.ev.Netns, c.ev.ServerPort, c.ev.Proto}
	c.serverLink.conn, c.clientLink.conn = c, c
	t.portOf(key).conns.add(&c.serverLink)
	if c.ev.ClientPort != 0 {
		key.port = c.ev.ClientPort
		t.portOf(key).conns.add(&c.clientLink)
	}
	if c.ev.ClientSock != 0 {
		c.clientSocket = t.socks[c.ev.ClientSock]
	}
	if c.ev.Proto == TCP && c.clientSocket != nil {
		c.clientSocket.dialled = c
		t.givePort(c.clientSocket, c.ev.ClientPort, cmp.Or(c.ev.Started, c.ev.Time))
	}
	if c.ev.Proto == UDP {
		t.flows++
		c.serverSocket = t.socks[c.ev.ServerSock]
		if c.clientSocket != nil {
			c.portKnown, c.ephemeral = true, c.clientSocket.ephemeral
		}
		if c.serverSocket != nil {
			c.serverSocket.served = true
		}
		for _, s := range []*sock{c.clientSocket, c.serverSocket} {
			if s != nil {
				s.flows = append(s.flows, c)
			}
		}
	}
}

// maxTries bounds the search for a flow among connections.
const maxTries = 256

// evict forgets a connection, or a flow, to make room: any one, as the map has it.
func (t *Table) evict(flow bool) {
	tries := 0
	for _, c := range t.conns {
		if !c.pending && (!flow || c.ev.Proto == UDP) {
			t.drop(c)
			t.lost[lostConns]++
			return
		}
		if tries++; tries == maxTries {
			return
		}
	}
}

// beginConn starts the record of an event of c.
func (t *Table) beginConn(event string, c *conn, at uint64) (*Record, *ConnRecord) {
	r := t.begin(event, at)
	t.recConn = ConnRecord{Client: c.client, Server: c.server, Duration: -1}
	r.Conn = &t.recConn
	r.ID, r.Errno, r.Proto, r.Netns = c.ev.ID, c.errno, c.ev.Proto, c.ev.Netns
	r.Port, r.HasPort = c.ev.ServerPort, true
	r.IPv6 = c.server.Address.Is6()
	r.Preexisting = c.preexisting
	r.Conn.Self = c.ev.Flags&FlagSelf != 0
	return r, r.Conn
}

func (t *Table) emitConnect(c *conn) {
	if c.pending {
		c.pending = false
		if !c.accepted {
			t.nameServer(c, c.dialledAt())
		}
		t.meet(c)
	}
	r, rc := t.beginConn("connect", c, c.ev.Time)
	if c.ev.Started != 0 && c.ev.Proto == TCP {
		rc.Duration = time.Duration(c.ev.Time - c.ev.Started)
	}
	if c.ev.Proto == UDP {
		rc.Duration = 0
	}
	rc.HasEphemeral, rc.Ephemeral = c.portKnown && c.client.HasPort, c.ephemeral
	rc.Retransmits = c.ev.Retransmits
	if c.ev.Flags&FlagQueue != 0 && (c.server.Process.P != nil || c.server.Holders != nil) {
		rc.AcceptQueue = &AcceptQueue{c.ev.QueueLength, c.ev.QueueLimit}
	}
	if c.errno != 0 {
		t.explainConnect(r, c)
	}
	t.emit(r)
	c.give(rc)
	if c.errno != 0 || t.endless && c.ev.Proto == TCP {
		t.drop(c)
	}
}

// meet makes the socket that fits a flow best its server's, where the kernel side could not say which of
// several on the port it was.
func (t *Table) meet(c *conn) {
	if c.ev.Proto != UDP || c.errno != 0 || c.serverSocket != nil || c.met == nil || t.socks[c.met.id] != c.met {
		return
	}
	c.serverSocket, c.met.served = c.met, true
	c.met.flows = append(c.met.flows, c)
}

// settleNow lets a waiting connect out before a later record of the same connection.
func (t *Table) settleNow(c *conn) {
	if c.pending {
		t.emitConnect(c)
	}
}

// find gives the connection of an event. Filters in the kernel may have kept its connect event
// from here: then it is made of what this event says, and its server is who listened when it began.
func (t *Table) find(ev *ConnEvent) *conn {
	if c := t.conns[ev.ID]; c != nil {
		return c
	}
	c := t.newConn(ev)
	t.track(c)
	if ev.Started != 0 {
		t.nameServer(c, ev.Started)
	}
	if !c.preexisting {
		c.give(&ConnRecord{Client: c.client, Server: c.server})
	}
	return c
}

// give notes whom a record gives in full, written or filtered out: records do not depend on filters.
func (c *conn) give(rc *ConnRecord) {
	for _, p := range [...]*Process{rc.Client.Process.P, rc.Server.Process.P, rc.Listener.P} {
		for i := range c.given {
			if c.given[i] == nil || c.given[i] == p {
				c.given[i] = p
				break
			}
		}
	}
}

// cut shortens those whom an earlier record gave in full.
func (c *conn) cut(rc *ConnRecord) {
	for _, a := range [...]*Actor{&rc.Client.Process, &rc.Server.Process, &rc.Listener} {
		a.Short = a.P != nil && slices.Contains(c.given[:], a.P)
	}
}

func (t *Table) accepted(ev *ConnEvent) {
	if c := t.conns[ev.ID]; c != nil {
		t.settleNow(c)
	}
	c := t.find(ev)
	acceptor := t.process(ev.Server, ev.Thread)
	r, rc := t.beginConn("accept", c, ev.Time)
	if ev.Started != 0 {
		rc.Duration = time.Duration(ev.Time - ev.Started)
	}
	rc.Server.Process, rc.Server.Holders = acceptor, nil
	if c.listener.P != nil && c.listener.P != acceptor.P {
		rc.Listener = c.listener
	}
	c.server.Process, c.server.Holders = acceptor, nil
	c.server.Process.Thread = ""
	c.accepted = true
	c.cut(rc)
	t.emit(r)
	c.give(rc)
	if t.endless {
		t.drop(c)
	}
}

func (t *Table) closed(ev *ConnEvent) {
	c := t.find(ev)
	t.settleNow(c)
	if c.server.Process.P == nil || !c.accepted {
		if a := t.process(ev.Server, [16]byte{}); a.P != nil {
			c.server.Process, c.server.Holders = a, nil
			if !c.preexisting {
				c.give(&ConnRecord{Server: c.server}) // by an accept that was filtered out
			}
		}
	}
	c.client.Process.Thread = ""
	r, rc := t.beginConn("close", c, ev.Time)
	rc.Server.Holders = nil
	if ev.Started != 0 {
		rc.Duration = time.Duration(ev.Time - ev.Started)
	}
	c.cut(rc)
	rc.HasBytes, rc.C2S, rc.S2C = true, ev.C2S, ev.S2C
	rc.ClosedBy = [...]string{"", "client", "server"}[ev.Closer%3]
	rc.Reset = ev.Flags&FlagReset != 0
	rc.Accepted = ev.Flags&FlagAccepted != 0
	t.emit(r)
	if !rc.Reset {
		t.waits(c, ev)
	}
	t.drop(c)
}

// waits notes the TIME_WAIT that the end which closed first leaves behind (RFC 9293, 3.6.1).
func (t *Table) waits(c *conn, ev *ConnEvent) {
	end, peer := &c.client, &c.server
	switch ev.Closer {
	case CloserServer:
		end, peer = peer, end
	case CloserUnknown:
		return
	}
	if !end.HasPort {
		return
	}
	w := timeWait{addr: end.Address, proc: end.Process, peer: netip.AddrPortFrom(peer.Address, peer.Port), since: ev.Time, ends: ev.Time + timeWaitLen}
	if last := t.process(ev.Last, [16]byte{}); last.P != nil {
		if w.proc = last; end.Process.P == nil || !end.Process.P.mayPassTo(last.P) {
			w.proc = Actor{} // a walk of the open files had it for a moment, as for a release
		}
	}
	w.proc.Short, w.proc.Thread = false, ""
	t.portOf(portKey{ev.Netns, end.Port, TCP}).keep(w)
}

// keep enters a TIME_WAIT, instead of the oldest where there are many.
func (p *port) keep(w timeWait) {
	if len(p.waiting) < maxWaiting {
		p.waiting = append(p.waiting, w)
		return
	}
	p.waiting[p.oldest] = w
	p.oldest = (p.oldest + 1) % maxWaiting
}

// refused: port unreachable came back for a UDP flow.
func (t *Table) refused(ev *ConnEvent) {
	c := t.conns[ev.ID]
	if c == nil || !c.pending {
		return // it has had answers before: its first datagram arrived
	}
	c.errno = ev.Error
	t.settleNow(c)
}

// closeFlows ends the UDP flows of a socket that is gone.
func (t *Table) closeFlows(k *sock, at uint64) {
	for _, c := range t.pending {
		if c.pending && c.met == k {
			t.settleNow(c)
		}
	}
	for len(k.flows) > 0 {
		c := k.flows[len(k.flows)-1]
		k.flows = k.flows[:len(k.flows)-1]
		t.settleNow(c)
		if t.conns[c.ev.ID] != c {
			continue // dropped as it settled
		}
		c.client.Process.Thread = ""
		r, rc := t.beginConn("close", c, at)
		rc.Server.Holders = nil
		rc.Duration = time.Duration(at - c.ev.Time)
		c.cut(rc)
		rc.Accepted = true
		rc.ClosedBy = "client"
		if k == c.serverSocket {
			rc.ClosedBy = "server"
		}
		t.emit(r)
		t.drop(c)
	}
}

// drop takes a connection out of the ledger.
func (t *Table) drop(c *conn) {
	if t.conns[c.ev.ID] == c {
		delete(t.conns, c.ev.ID)
		if c.ev.Proto == UDP {
			t.flows--
		}
	}
	c.clientLink.remove()
	c.serverLink.remove()
	for _, s := range []*sock{c.clientSocket, c.serverSocket} {
		if s == nil {
			continue
		}
		if s.dialled == c {
			s.dialled = nil // if it was reset, it is bound as before
		}
		for i, other := range s.flows {
			if other == c {
				s.flows[i] = s.flows[len(s.flows)-1]
				s.flows = s.flows[:len(s.flows)-1]
				break
			}
		}
	}
	c.dropped = true
	if !c.queued { // else Tick frees it
		t.free = append(t.free, c)
	}
}

// peerOf gives the other end, as seen from the end on that port.
func (c *conn) peerOf(l *link) netip.AddrPort {
	if l == &c.clientLink {
		return netip.AddrPortFrom(c.server.Address, c.server.Port)
	}
	return netip.AddrPortFrom(c.client.Address, c.client.Port)
}
