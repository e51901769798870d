// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"time"
)

// portKey is a port of one network namespace; every namespace has its own 127.0.0.1.
type portKey struct {
	netns uint32
	port  uint16
	proto uint16
}

// serverKey is a port of any network namespace.
type serverKey struct{ port, proto uint16 }

// port is everything that holds, held or uses one port.
type port struct {
	socks    []*sock    // bound or listening now
	conns    list       // connections with an end on it
	departed []departed // the last listener of each address, newest first
	waiting  []timeWait // the last ones
	oldest   int        // of waiting, where that is full
}

// maxMemory bounds how many addresses a port remembers who left. More are rare: a server has one
// socket a family.
const maxMemory = 4

func (p *port) idle() bool { return len(p.socks) == 0 && p.conns.first == nil }

// maxWaiting bounds the TIME_WAITs that a port remembers. A server that closes first has one for each client.
const maxWaiting = 64

// sock is a socket with a bind or listen record.
type sock struct {
	id          uint64
	key         portKey
	addr        netip.Addr
	v6only      bool
	flags       uint16 // of the bind: FlagReuse, FlagReusePort
	proc        Actor  // stands for it: who bound it, then who called listen(); else a holder
	caller      Actor  // who called listen() last, where that was seen
	calledAt    uint64 // when
	since       uint64
	listenSince uint64 // when listen() returned
	listenFrom  uint64 // when connections began to succeed: a little earlier
	listening   bool
	ephemeral   bool
	preexisting bool
	untold      bool           // a connected UDP socket that was there before: it has no records
	holders     []Actor        // every process that holds it, oldest first, as of the last look
	peer        netip.AddrPort // UDP: the only one that it takes datagrams from; not valid: there is none
	flows       []*conn        // UDP
	seen        bool           // a look has found it
	missed      bool           // the last one has not
	served      bool           // UDP: it was the server of a flow
	dialled     *conn          // TCP: the connection that it is the client's socket of
}

// asked: bind() was called for it, and the port is not what a first datagram or connect() picked.
func (k *sock) asked() bool { return k.flags&FlagRequested != 0 || !k.ephemeral }

// departed is a listener, or a UDP server, that a port had.
type departed struct {
	addr         netip.Addr
	v6only       bool
	proc         Actor // who held it last
	stood        Actor // who stood for it before
	caller       Actor // who called listen()
	since, until uint64
	from         uint64 // when connections began to succeed
	reason       string
	exit         Exit
}

// timeWait is a TIME_WAIT that a port was left in.
type timeWait struct {
	addr  netip.Addr
	peer  netip.AddrPort
	proc  Actor
	since uint64
	ends  uint64
}

// timeWaitLen is TCP_TIMEWAIT_LEN of include/net/tcp.h.
const timeWaitLen = uint64(60 * time.Second)

func (t *Table) portOf(key portKey) *port {
	p := t.ports[key]
	if p == nil {
		t.makeRoom()
		p = &port{}
		t.ports[key] = p
	}
	return p
}

// makeRoom forgets ports that nobody uses, in no order, when there are too many.
func (t *Table) makeRoom() {
	if len(t.ports) < maxPorts {
		return
	}
	for key, p := range t.ports {
		if p.idle() {
			delete(t.ports, key)
		}
		if len(t.ports) < maxPorts/2 {
			return
		}
	}
}

func (t *Table) bound(ev *SockEvent) {
	if ev.Error != 0 {
		t.failed(ev)
		return
	}
	if k := t.socks[ev.ID]; k != nil {
		if k.preexisting {
			return // the snapshot was first
		}
		t.forget(k) // a disconnect took its port, and it is bound anew
	}
	r, s := t.beginSock("bind", ev)
	s.HasRequested = ev.Flags&FlagRequested != 0
	if s.HasRequested {
		s.Requested = netip.AddrPortFrom(addrOf(ev.ReqAddr), ev.ReqPort)
	}
	s.V6Only = ev.Flags&FlagV6Only != 0
	s.Ephemeral = ev.Flags&FlagEphemeral != 0 && ev.Port != 0
	s.RangeLow, s.RangeHigh = ev.RangeLow, ev.RangeHigh
	s.Implicit = ev.Flags&FlagImplicit != 0
	t.hold(ev, s)
	t.emit(r)
}

// hold enters a socket into the ledger. It is full only when releases were lost: then any one goes.
func (t *Table) hold(ev *SockEvent, s *SockRecord) *sock {
	if len(t.socks) >= maxSocks {
		for _, k := range t.socks {
			t.forget(k)
			t.lost[lostSocks]++
			break
		}
	}
	k := &sock{
		id:        ev.ID,
		key:       portKey{ev.Netns, ev.Port, ev.Proto},
		addr:      s.Address,
		v6only:    ev.Flags&FlagV6Only != 0,
		proc:      s.Process,
		since:     ev.Time,
		ephemeral: ev.Flags&FlagEphemeral != 0,
		flags:     ev.Flags,
		peer:      peerOf(ev),
	}
	k.proc.Thread = ""
	k.holders = addHolder(nil, k.proc)
	t.count(k, 1)
	t.socks[ev.ID] = k
	p := t.portOf(k.key)
	p.socks = append(p.socks, k)
	if ev.Proto == UDP {
		p.meet(k)
		if k.asked() {
			t.serves(k)
		}
	}
	return k
}

// peerOf gives the peer of a UDP socket that is connected.
func peerOf(ev *SockEvent) netip.AddrPort {
	if ev.Proto != UDP || ev.Flags&FlagRequested != 0 || ev.ReqPort == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addrOf(ev.ReqAddr), ev.ReqPort)
}

// meet gives a UDP socket the flows to it that were told before it.
func (p *port) meet(k *sock) {
	for l := p.conns.first; l != nil; l = l.next {
		if l == &l.conn.serverLink && l.conn.serverSocket == nil && l.conn.ev.ServerSock == k.id {
			l.conn.serverSocket, k.served = k, true
			k.flows = append(k.flows, l.conn)
		}
	}
}

func (t *Table) listened(ev *SockEvent) {
	if ev.Error != 0 {
		t.failed(ev)
		return
	}
	t.resolveSocket(ev.ID)
	k := t.socks[ev.ID]
	if k != nil && k.listening && k.preexisting {
		return
	}
	r, s := t.beginSock("listen", ev)
	s.Backlog = ev.Backlog
	s.V6Only = ev.Flags&FlagV6Only != 0
	s.Exposed = !s.Address.IsLoopback()
	if k == nil {
		k = t.hold(ev, s) // its bind was lost, or came before the snapshot could see it
	}
	r.Preexisting = k.preexisting
	t.givePort(k, ev.Port, ev.Time)
	k.addr, k.proc = s.Address, s.Process
	k.proc.Thread = ""
	k.caller, k.calledAt = k.proc, ev.Time
	t.rehold(k, addHolder(k.holders, k.proc))
	if !k.listening { // else only the backlog is new
		t.listens(k, ev.Time)
		if ev.Since != 0 {
			k.listenFrom = ev.Since
		}
	}
	if s.Exposed && k.ephemeral {
		r.Level = Warn
	}
	t.emit(r)
}

// givePort enters the port of a socket that was bound without one (IP_BIND_ADDRESS_NO_PORT): listen() or
// connect() picked it.
func (t *Table) givePort(k *sock, number uint16, at uint64) {
	if k.key.port != 0 || number == 0 {
		return
	}
	t.unhold(k)
	k.key.port, k.since = number, at
	p := t.portOf(k.key)
	p.socks = append(p.socks, k)
}

func (t *Table) listens(k *sock, at uint64) {
	k.listening, k.listenSince, k.listenFrom = true, at, at
	t.serves(k)
}

// serves enters a socket among those that clients of other addresses or namespaces may have meant.
func (t *Table) serves(k *sock) {
	key := serverKey{k.key.port, k.key.proto}
	set := t.servers[key]
	if set == nil {
		set = make(map[*sock]struct{})
		t.servers[key] = set
	}
	set[k] = struct{}{}
}

func (t *Table) servesNoMore(k *sock) {
	key := serverKey{k.key.port, k.key.proto}
	delete(t.servers[key], k)
	if len(t.servers[key]) == 0 {
		delete(t.servers, key)
	}
}

func (t *Table) released(ev *SockEvent) {
	t.resolveSocket(ev.ID)
	k := t.socks[ev.ID]
	if k != nil {
		t.closeFlows(k, ev.Time) // their records come first: a release is a socket's last
	}
	r, s := t.beginSock("release", ev)
	s.Held = -1
	s.Reason = [...]string{"", "close", "exit", "shutdown"}[ev.Reason&3]
	if ev.Reason == ReasonExit {
		s.Exit = exitOf(ev.ExitCode)
	}
	if k != nil && s.Process.P != nil && !k.mayHold(s.Process.P) {
		s.Process, s.Reason, s.Exit = Actor{}, "", Exit{}
	}
	if !r.HasPort && k != nil && k.key.port == 0 {
		t.forget(k)
		return // bound, and never given a port
	}
	if k == nil {
		if ev.Since != 0 {
			s.Held = time.Duration(ev.Time - ev.Since)
			t.emit(r)
		}
		return
	}
	r.Preexisting = k.preexisting
	s.Address = k.addr // the kernel may have cleared it by now
	r.IPv6 = s.Address.Is6()
	if !k.preexisting && k.key.port != 0 { // else connect() gave it one, some time after the bind
		s.Held = time.Duration(ev.Time - k.since)
	}
	t.unlisten(k, s, ev.Time)
	if ev.Flags&FlagKept != 0 {
		return // shutdown() of a listener whose port was asked for: it is held on
	}
	t.forget(k)
	if !k.untold {
		t.emit(r)
	}
}

// mayHold says whether a process can have held the socket: it did as of the last look, it is of the family
// of one that did, or it has got descriptors from others. Whoever walks the table of open files (iter/task_file:
// bpftool, another looptrace) has each socket for a moment; if it is closed meanwhile the last to let go of
// it is the walker, and who closed it is not known.
func (k *sock) mayHold(p *Process) bool {
	if p == k.proc.P || p == k.caller.P || p.received > 0 {
		return true
	}
	return slices.ContainsFunc(k.holders, func(h Actor) bool { return h.P == p || h.P.mayPassTo(p) })
}

// mayPassTo says whether another process can have got a descriptor of this one's: it is of its family, or has got some.
func (p *Process) mayPassTo(to *Process) bool {
	return to.received > 0 || to.descends(p) || p.descends(to)
}

func (p *Process) descends(from *Process) bool {
	return slices.ContainsFunc(p.Ancestors, func(a Ancestor) bool { return a.PID == from.PID })
}

// forget takes a socket out of the ledger.
func (t *Table) forget(k *sock) {
	t.unhold(k)
	t.count(k, -1)
	delete(t.socks, k.id)
	t.servesNoMore(k)
	if k.dialled != nil {
		k.dialled.clientSocket, k.dialled.clientGone = nil, true
	}
	for _, c := range k.flows {
		if c.clientSocket == k {
			c.clientSocket = nil
		}
		if c.serverSocket == k {
			c.serverSocket = nil
		}
	}
}

// unlisten remembers who listened, or had a UDP port that others may ask for, for whoever is refused next.
func (t *Table) unlisten(k *sock, s *SockRecord, at uint64) {
	from, since := k.listenFrom, k.listenSince
	if k.key.proto == UDP {
		from, since = k.since, k.since
	}
	if !k.listening && (k.key.proto != UDP || !k.asked() && !k.served) {
		return
	}
	k.listening = false
	t.servesNoMore(k)
	last := k.proc
	if s.Process.P != nil { // who held it last; how that ended is its end, not another's
		last = s.Process
		last.Thread = ""
	}
	d := departed{addr: k.addr, v6only: k.v6only, proc: last, stood: k.proc, caller: k.caller, from: from, until: at, reason: s.Reason, exit: s.Exit}
	if !k.preexisting {
		d.since = since
	}
	p := t.portOf(k.key)
	p.departed = slices.DeleteFunc(p.departed, func(old departed) bool { return old.addr == d.addr })
	p.departed = slices.Insert(p.departed, 0, d)[:min(len(p.departed)+1, maxMemory)]
}

func (t *Table) unhold(k *sock) {
	p := t.ports[k.key]
	for i, other := range p.socks {
		if other == k {
			p.socks = append(p.socks[:i], p.socks[i+1:]...)
			break
		}
	}
}

// overlap says whether two sockets on one port are in each other's way, as far as addresses go
// (inet_rcv_saddr_equal). An IPv6 wildcard takes IPv4 too unless it is v6only.
func overlap(a netip.Addr, aOnly bool, b netip.Addr, bOnly bool) bool {
	switch {
	case a == b:
		return true
	case a.Is4() == b.Is4():
		return a.IsUnspecified() || b.IsUnspecified()
	case a.Is6():
		return a.IsUnspecified() && !aOnly
	default:
		return b.IsUnspecified() && !bOnly
	}
}

// serves says whether a listener on addr takes what is sent to dst.
func serves(addr netip.Addr, v6only bool, dst netip.Addr) bool {
	return overlap(addr, v6only, dst, true)
}
