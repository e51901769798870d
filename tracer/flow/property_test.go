// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A small world lives by itself: processes fork, die and get each other's numbers, sockets are
// bound, refused, shared and released, connections come and go, in two network namespaces and on
// few ports. It writes down what happened (events) and what is true of it. The table sees the
// events, whole or damaged, and must not name a process that the truth does not.

// damage is what happens to events between the world and the table.
type damage struct {
	drop   bool // lost, as when the ring is full
	repeat bool // told twice
	swap   bool // told after their neighbour, of another connection on another CPU
}

func (d damage) none() bool { return d == damage{} }

func TestPropertyWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { observeWorld(t, damage{}) })
}

func TestPropertyDisorder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { observeWorld(t, damage{swap: true}) })
}

func TestPropertyRepeated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { observeWorld(t, damage{repeat: true, swap: true}) })
}

func TestPropertyLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { observeWorld(t, damage{drop: true, repeat: true, swap: true}) })
}

func observeWorld(t *rapid.T, d damage) {
	w := newWorld(t)
	before := rapid.IntRange(0, 12).Draw(t, "before")
	for range before {
		w.live()
	}
	w.beginTracing()
	for range rapid.IntRange(1, 60).Draw(t, "after") {
		w.live()
	}
	w.end()

	c := &checker{t: t, w: w, damage: d, full: map[uint64][]*Process{}}
	c.scene = newScene(Config{}, c.check)
	for _, e := range d.apply(t, w.events) {
		e.do(c.scene)
		c.scene.table.Tick(e.at)
		c.consistent()
	}
	c.scene.table.Drain()
	c.consistent()
	if d.none() {
		if left := [...]int{len(c.scene.table.socks), len(c.scene.table.conns), len(c.scene.table.holding)}; left != [3]int{} {
			t.Fatalf("everything has ended; left are sockets, connections, holders: %v", left)
		}
	}
}

// happening is one event on its way.
type happening struct {
	at         uint64
	connection uint64 // that it is about; 0: none
	served     bool   // a listen, which may be told after a connect that it made possible
	text       string
	do         step
}

func (d damage) apply(t *rapid.T, events []happening) []happening {
	var out []happening
	rare := rapid.IntRange(0, 9)
	for _, e := range events {
		if d.drop && rare.Draw(t, "drop") == 9 {
			t.Logf("%6dms lost: %s", e.at/msec, e.text)
			continue
		}
		t.Logf("%6dms %s", e.at/msec, e.text)
		out = append(out, e)
		if d.repeat && rare.Draw(t, "repeat") == 9 {
			t.Logf("         told twice")
			out = append(out, e)
		}
	}
	for i := 1; d.swap && i < len(out); i++ {
		a, b := out[i-1], out[i]
		if a.connection != b.connection && (a.connection != 0 && b.connection != 0 || a.served || b.served) && b.at-a.at < 2*msec && rare.Draw(t, "swap") > 6 {
			t.Logf("swapped: %s | %s", a.text, b.text)
			out[i-1], out[i] = b, a
			i++
		}
	}
	return out
}

// Truth.

type creature struct {
	prog
	parent *creature
	names  []string // every comm it had
}

type truthSock struct {
	id        uint64
	proto     uint16
	netns     uint32
	addr      netip.AddrPort
	reuse     bool
	listening bool
	owner     *creature   // who bound it, and called listen()
	holders   []*creature // now, oldest first
	ever      []*creature
	left      uint64 // when it was closed
	old       bool
}

type truthConn struct {
	id       uint64
	proto    uint16
	netns    uint32
	from, to netip.AddrPort
	client   *creature
	acceptor *creature
	sock     *truthSock   // the server's: listener, or bound for UDP
	group    []*truthSock // all that could have answered
	serving  []*creature  // who could be named at connect
	last     []*truthSock // when it was refused: the last listeners that could have answered
	dialler  *truthSock   // UDP: the client's
	closed   bool
	closer   uint16
	began    uint64 // its SYN; 0 where that was before tracing
	old      bool
}

// refusal is what was in the way of a bind.
type refusal struct {
	sockets []*truthSock
	holders []*creature // of the sockets
	conns   []*truthConn
	waiting []*creature
}

type world struct {
	t       *rapid.T
	now     uint64
	serial  uint64
	tracing bool
	events  []happening

	all   []*creature
	alive []*creature
	socks []*truthSock // open
	conns []*truthConn // open
	gone  []*truthSock // listened once, closed since
	waits []waitingPort

	sockOf  map[uint64]*truthSock
	connOf  map[uint64]*truthConn
	actorOf map[string]*creature // by "event id": who called
	why     map[uint64]refusal   // failed binds
}

type waitingPort struct {
	netns uint32
	addr  netip.AddrPort
	who   *creature
	ends  uint64
}

var (
	worldAddrs = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.IPv4Unspecified(), netip.IPv6Loopback(), netip.IPv6Unspecified()}
	worldPorts = []uint16{80, 81}
	worldPIDs  = []uint32{10, 11, 12, 13, 14}
	clientPort = []uint16{80, 81, 40000, 40001, 40002}
)

func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, now: 1000 * msec, sockOf: map[uint64]*truthSock{}, connOf: map[uint64]*truthConn{},
		actorOf: map[string]*creature{}, why: map[uint64]refusal{},
	}
	w.spawn(nil)
	w.spawn(w.alive[0])
	return w
}

func (w *world) tell(of uint64, do step, format string, args ...any) {
	if w.tracing {
		e := happening{at: w.now, do: do, text: fmt.Sprintf(format, args...)}
		if w.connOf[of] != nil {
			e.connection = of
		}
		e.served = w.sockOf[of] != nil && strings.Contains(e.text, "listens on")
		w.events = append(w.events, e)
	}
}

func (w *world) id() uint64 { w.serial++; return w.serial }

// ms is the time as scenes count it: the world moves in whole milliseconds.
func (w *world) ms() uint64 { return w.now / msec }

// pick draws by index: what rapid prints stays readable.
func pick[T any](w *world, from []T, label string) T {
	return from[rapid.IntRange(0, len(from)-1).Draw(w.t, label)]
}

// live lets one thing happen.
func (w *world) live() {
	w.now += msec * uint64(pick(w, []int{1, 1, 1, 1, 2, 25, 300, 61_000}, "pass"))
	switch pick(w, []string{"spawn", "exit", "rename", "serve", "serve", "bind", "release", "connect", "connect", "connect", "accept", "accept", "close", "send", "send", "look"}, "what") {
	case "spawn":
		w.spawn(pick(w, w.alive, "parent"))
	case "exit":
		if len(w.alive) > 1 {
			w.exit(pick(w, w.alive, "who"))
		}
	case "rename":
		p := pick(w, w.alive, "who")
		p.names = append(p.names, fmt.Sprintf("renamed%d", w.id()))
		w.tell(0, rename(w.ms(), p.as(p.names[len(p.names)-1])), "%v renamed", p)
	case "serve":
		w.bind(TCP, true)
	case "bind":
		w.bind(pick(w, []uint16{TCP, UDP}, "proto"), false)
	case "release":
		// One that several hold is not closed by one of them here: nobody would tell, and the
		// contract allows the next look to be late.
		if own := slices.DeleteFunc(slices.Clone(w.socks), func(s *truthSock) bool { return len(s.holders) > 1 }); len(own) > 0 {
			s := pick(w, own, "which")
			w.release(s, s.holders[0], ReasonClose)
		}
	case "connect":
		w.connect()
	case "accept":
		w.accept()
	case "close":
		if open := slices.DeleteFunc(slices.Clone(w.conns), func(c *truthConn) bool { return c.proto == UDP }); len(open) > 0 {
			w.closeConn(pick(w, open, "which"))
		}
	case "send":
		w.send()
	case "look":
		w.look()
	}
}

func (p *creature) String() string {
	if p == nil {
		return "nobody"
	}
	return fmt.Sprintf("%d@%d", p.pid, p.start)
}

func (w *world) spawn(parent *creature) {
	pids := slices.DeleteFunc(slices.Clone(worldPIDs), func(pid uint32) bool {
		return slices.ContainsFunc(w.alive, func(p *creature) bool { return p.pid == pid })
	})
	if len(pids) == 0 {
		return
	}
	w.now += 11 * msec // numbers are not reused within a clock tick
	p := &creature{prog: prog{pid: pick(w, pids, "pid"), start: w.ms()}, parent: parent}
	p.comm = fmt.Sprintf("p%d", w.id())
	p.names = []string{p.comm}
	from := nobody
	if parent != nil {
		from = parent.prog
		p.names = append(p.names, parent.names...)
		w.tell(0, fork(from, p.as(parent.names[len(parent.names)-1])), "%v forks %v", parent, p)
		for _, s := range w.socks {
			if slices.Contains(s.holders, parent) {
				s.holders, s.ever = append(s.holders, p), append(s.ever, p)
			}
		}
	}
	w.tell(0, execBy(w.ms(), from, p.prog), "%v executes %s", p, p.comm)
	w.all, w.alive = append(w.all, p), append(w.alive, p)
}

func (w *world) exit(p *creature) {
	w.tell(0, exit(w.ms(), p.prog, 9), "%v exits", p)
	w.alive = slices.DeleteFunc(w.alive, func(q *creature) bool { return q == p })
	for _, c := range slices.Clone(w.conns) {
		if c.proto == TCP && (c.client == p || c.acceptor == p) {
			w.closeConn(c)
		}
	}
	for _, s := range slices.Clone(w.socks) {
		if s.holders[0] == p && len(s.holders) == 1 {
			w.release(s, p, ReasonExit)
		} else {
			s.holders = slices.DeleteFunc(s.holders, func(q *creature) bool { return q == p })
		}
	}
}

// clash says whether two addresses are in each other's way, IPv6 wildcards being dual-stack here.
func clash(a, b netip.Addr) bool {
	covers := func(a, b netip.Addr) bool {
		return a == b || a == netip.IPv6Unspecified() || a == netip.IPv4Unspecified() && b.Is4()
	}
	return covers(a, b) || covers(b, a)
}

// reaches says whether a socket bound to addr gets what is sent to dst, and how well it fits.
func reaches(addr, dst netip.Addr) int {
	switch {
	case addr == dst:
		return 3
	case addr.IsUnspecified() && addr.Is4() == dst.Is4():
		return 2
	case addr == netip.IPv6Unspecified():
		return 1
	}
	return 0
}

func (w *world) obstacles(proto uint16, netns uint32, addr netip.AddrPort, reuse bool) (r refusal) {
	for _, s := range w.socks {
		if s.proto == proto && s.netns == netns && s.addr.Port() == addr.Port() && clash(s.addr.Addr(), addr.Addr()) && (!reuse || !s.reuse) {
			r.sockets, r.holders = append(r.sockets, s), append(r.holders, s.holders...)
		}
	}
	for _, c := range w.conns {
		for _, end := range []netip.AddrPort{c.from, c.to} {
			if proto == TCP && c.proto == TCP && c.netns == netns && end.Port() == addr.Port() && clash(end.Addr(), addr.Addr()) {
				r.conns = append(r.conns, c)
			}
		}
	}
	for _, p := range w.waits {
		if proto == TCP && p.netns == netns && p.addr.Port() == addr.Port() && clash(p.addr.Addr(), addr.Addr()) && p.ends > w.now {
			r.waiting = append(r.waiting, p.who)
		}
	}
	if reuse {
		r.conns, r.waiting = nil, nil
	}
	return r
}

func (r refusal) free() bool { return len(r.sockets)+len(r.conns)+len(r.waiting) == 0 }

func (w *world) bind(proto uint16, listening bool) {
	p := pick(w, w.alive, "who")
	netns := uint32(pick(w, []int{1, 2}, "netns"))
	addr := netip.AddrPortFrom(pick(w, worldAddrs, "addr"), pick(w, worldPorts, "port"))
	reuse := rapid.Bool().Draw(w.t, "reuseport")
	id := w.id()
	s := &truthSock{
		id: id, proto: proto, netns: netns, addr: addr, reuse: reuse, listening: listening, owner: p,
		holders: []*creature{p}, ever: []*creature{p}, old: !w.tracing,
	}
	opts := s.opts()
	w.actorOf[fmt.Sprint("bind ", id)], w.actorOf[fmt.Sprint("listen ", id)] = p, p
	if why := w.obstacles(proto, netns, addr, reuse); !why.free() {
		w.why[id] = why
		w.tell(id, refusedBind(w.ms(), id, p.prog, addr.String(), opts...), "%v fails to bind #%d to %v in %d", p, id, addr, netns)
		return
	}
	w.socks, w.sockOf[id] = append(w.socks, s), s
	w.tell(id, bind(w.ms(), id, p.prog, addr.String(), opts...), "%v binds #%d to %v in %d", p, id, addr, netns)
	if listening {
		w.tell(id, listen(w.ms(), id, p.prog, addr.String(), opts...), "%v listens on #%d", p, id)
	}
}

// opts are what every event of the socket says.
func (s *truthSock) opts() []opt {
	opts := []opt{inNetns(s.netns), func(e *SockEvent, _ *ConnEvent) { e.Proto = s.proto }}
	if s.reuse {
		opts = append(opts, flags(FlagReusePort))
	}
	return opts
}

func (w *world) release(s *truthSock, by *creature, why uint16) {
	s.left = w.now
	w.socks = slices.DeleteFunc(w.socks, func(o *truthSock) bool { return o == s })
	if s.proto == UDP {
		for _, c := range slices.Clone(w.conns) {
			if c.sock == s || c.dialler == s {
				w.forget(c)
			}
		}
	}
	if s.listening || s.proto == UDP {
		w.gone = append(w.gone, s)
		for _, c := range slices.Clone(w.conns) {
			if c.sock == s && c.acceptor == nil {
				defer w.closeConn(c) // the queue is reset
			}
		}
	}
	w.actorOf[fmt.Sprint("release ", s.id)] = by
	w.tell(s.id, release(w.ms(), s.id, by.prog, s.addr.String(), append(s.opts(), reason(why, 9))...), "%v releases #%d", by, s.id)
}

// servers are the sockets that would answer dst: the best, and all that are as good.
func (w *world) servers(proto uint16, netns uint32, dst netip.AddrPort) (best []*truthSock) {
	most := 1
	for _, s := range w.socks {
		if s.proto != proto || s.netns != netns || proto == TCP && !s.listening || s.addr.Port() != dst.Port() {
			continue
		}
		switch n := reaches(s.addr.Addr(), dst.Addr()); {
		case n > most:
			most, best = n, []*truthSock{s}
		case n == most:
			best = append(best, s)
		}
	}
	return best
}

// lastListeners are the last to leave of those that would have answered; several where they left
// in one instant.
func (w *world) lastListeners(c *truthConn) (last []*truthSock) {
	for _, s := range w.gone {
		switch {
		case s.proto != c.proto || s.netns != c.netns || s.addr.Port() != c.to.Port() || reaches(s.addr.Addr(), c.to.Addr()) == 0:
		case len(last) == 0 || s.left > last[0].left:
			last = []*truthSock{s}
		case s.left == last[0].left:
			last = append(last, s)
		}
	}
	return last
}

func loopbackOf(w *world) netip.Addr {
	return pick(w, []netip.Addr{worldAddrs[0], worldAddrs[1], worldAddrs[3]}, "dst")
}

func (w *world) connect() {
	p := pick(w, w.alive, "who")
	netns := uint32(pick(w, []int{1, 2}, "netns"))
	to := netip.AddrPortFrom(loopbackOf(w), pick(w, worldPorts, "port"))
	from := netip.AddrPortFrom(worldAddrs[0], pick(w, clientPort, "from"))
	if to.Addr().Is6() {
		from = netip.AddrPortFrom(to.Addr(), from.Port())
	}
	if from == to || !w.obstacles(TCP, netns, from, false).free() {
		return
	}
	id := w.id()
	c := &truthConn{id: id, proto: TCP, netns: netns, from: from, to: to, client: p, group: w.servers(TCP, netns, to), old: !w.tracing}
	w.connOf[id] = c
	d := tcp(id, p.prog, from.String(), to.String()).in(netns)
	if len(c.group) == 0 {
		c.last = w.lastListeners(c)
		w.tell(id, d.refused(w.ms()), "%v is refused #%d at %v in %d", p, id, to, netns)
		return
	}
	c.sock = pick(w, c.group, "listener")
	for _, s := range c.group {
		c.serving = append(c.serving, s.holders...)
	}
	if w.tracing {
		c.began = w.now - msec
	}
	w.conns = append(w.conns, c)
	w.tell(id, d.connect(w.ms()), "%v connects #%d from %v to %v in %d, socket #%d", p, id, from, to, netns, c.sock.id)
}

func (w *world) accept() {
	queued := slices.DeleteFunc(slices.Clone(w.conns), func(c *truthConn) bool { return c.proto == UDP || c.acceptor != nil })
	if len(queued) == 0 {
		return
	}
	c := pick(w, queued, "which")
	c.acceptor = pick(w, c.sock.holders, "acceptor")
	w.tell(c.id, c.dial().accept(w.ms(), c.acceptor.prog), "%v accepts #%d", c.acceptor, c.id)
}

func (c *truthConn) dial() dial {
	d := tcp(c.id, c.client.prog, c.from.String(), c.to.String()).in(c.netns)
	if c.old {
		d.ev.Flags |= FlagPreexisting
	}
	return d
}

func (w *world) closeConn(c *truthConn) {
	if c.closed {
		return
	}
	c.closed = true
	c.closer = uint16(pick(w, []int{0, 1, 2}, "closer"))
	acceptor := nobody
	if c.acceptor != nil {
		acceptor = c.acceptor.prog
	} else if c.closer == CloserServer {
		c.closer = CloserUnknown
	}
	switch c.closer {
	case CloserClient:
		w.waits = append(w.waits, waitingPort{c.netns, c.from, c.client, w.now + timeWaitLen})
	case CloserServer:
		w.waits = append(w.waits, waitingPort{c.netns, c.to, c.acceptor, w.now + timeWaitLen})
	}
	w.conns = slices.DeleteFunc(w.conns, func(o *truthConn) bool { return o == c })
	w.tell(c.id, c.dial().close(w.ms(), acceptor, closedBy(c.closer), startedAt(c.began)), "#%d closes, by %d", c.id, c.closer)
}

// send is the first datagram between two sockets.
func (w *world) send() {
	p := pick(w, w.alive, "who")
	netns := uint32(pick(w, []int{1, 2}, "netns"))
	dst := worldAddrs[0]
	to := netip.AddrPortFrom(dst, pick(w, worldPorts, "port"))
	from := netip.AddrPortFrom(netip.IPv4Unspecified(), pick(w, clientPort[2:], "from"))
	group := w.servers(UDP, netns, to)
	if len(group) > 1 || !w.obstacles(UDP, netns, from, false).free() {
		return // nobody can say which of them gets it
	}
	own := &truthSock{id: w.id(), proto: UDP, netns: netns, addr: from, owner: p, holders: []*creature{p}, ever: []*creature{p}, old: !w.tracing}
	w.socks, w.sockOf[own.id] = append(w.socks, own), own
	w.actorOf[fmt.Sprint("bind ", own.id)] = p
	w.tell(own.id, bind(w.ms(), own.id, p.prog, from.String(), udp, implicit, inNetns(netns)), "%v sends, which binds #%d to %v in %d", p, own.id, from, netns)
	if !w.tracing {
		return // the snapshot has no flows
	}
	c := &truthConn{id: w.id(), proto: UDP, netns: netns, from: netip.AddrPortFrom(dst, from.Port()), to: to, client: p, dialler: own, group: group}
	w.connOf[c.id] = c
	server := uint64(0)
	if len(group) == 1 {
		c.sock, c.serving, server = group[0], slices.Clone(group[0].holders), group[0].id
		w.conns = append(w.conns, c)
	}
	d := datagrams(c.id, p.prog, own.id, c.from.String(), server, to.String()).in(netns)
	w.tell(c.id, d.connect(w.ms()), "%v sends #%d to %v in %d, socket #%d", p, c.id, to, netns, server)
	if c.sock == nil {
		c.last = w.lastListeners(c)
		w.tell(c.id, d.unreachable(w.ms()), "#%d is refused", c.id)
	}
}

func (w *world) forget(c *truthConn) {
	w.conns = slices.DeleteFunc(w.conns, func(o *truthConn) bool { return o == c })
}

// look is the table of open files, if the table wants it.
func (w *world) look() {
	var rows []SockEvent
	for _, s := range w.socks {
		for _, h := range s.holders {
			ev := row(s.id, h.prog, s.addr.String(), inNetns(s.netns))
			ev.Time = w.now
			rows = append(rows, ev)
		}
	}
	at := w.now
	w.tell(0, func(s *scene) {
		if s.table.WantsLook(at) {
			s.table.Look(rows, 0, true)
		}
	}, "a look")
}

// beginTracing tells of all that is there: what came before has no events.
func (w *world) beginTracing() {
	w.tracing = true
	for _, p := range w.alive {
		comm := p.names[0]
		q := fromProc(p.as(comm), 0)
		w.tell(0, func(s *scene) { s.table.AddProcess(q) }, "%v is there", p)
	}
	var rows []step
	for _, s := range w.socks {
		for _, h := range s.holders {
			kind := KindBind
			if s.listening {
				kind = KindListen
			}
			rows = append(rows, sockRow(kind, w.ms(), s.id, h.prog, s.addr.String(), s.opts()...))
		}
	}
	for _, c := range w.conns {
		d := tcp(c.id, nobody, c.from.String(), c.to.String()).in(c.netns)
		rows = append(rows, d.clientRow(w.ms(), c.client.prog))
		if c.acceptor != nil {
			rows = append(rows, d.serverRow(w.ms(), c.acceptor.prog))
		}
	}
	told := rapid.Bool().Draw(w.t, "told")
	w.tell(0, func(s *scene) {
		for _, row := range rows {
			row(s)
		}
		s.table.FinishSnapshot(told)
	}, "snapshot of %d rows", len(rows))
	w.waits = nil // TIME_WAIT from before is not known
	w.gone = nil
}

func (w *world) end() {
	for len(w.alive) > 0 {
		w.now += msec
		w.exit(w.alive[0])
	}
}

// checker holds records against the truth.
type checker struct {
	t      *rapid.T
	w      *world
	scene  *scene
	damage damage
	full   map[uint64][]*Process // given in full so far, by connection
}

func (c *checker) check(r *Record) string {
	if r.Sock != nil {
		c.checkSock(r)
	} else {
		c.checkConn(r)
	}
	return ""
}

func (c *checker) wrong(r *Record, format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s\n%s", line(r), fmt.Sprintf(format, args...))
}

func (c *checker) is(a Actor, p *creature) bool {
	return p != nil && a.P != nil && a.P.PID == p.pid && a.P.Start/ticks == p.start*msec/ticks
}

// one: the actor, if it is named, is this process and no other, by a name that was its own.
func (c *checker) one(r *Record, role string, a Actor, want *creature) {
	c.t.Helper()
	c.among(r, role, a, []*creature{want})
	if !c.damage.drop && a.P == nil && want != nil {
		c.wrong(r, "%s is not named, want %v", role, want)
	}
}

func (c *checker) among(r *Record, role string, a Actor, want []*creature) {
	c.t.Helper()
	if a.P == nil {
		return
	}
	i := slices.IndexFunc(want, func(p *creature) bool { return c.is(a, p) })
	if i < 0 {
		c.wrong(r, "%s is %d@%d, want %v", role, a.P.PID, a.P.Start/msec, want)
	}
	if !c.damage.drop && !slices.Contains(want[i].names, a.P.Comm) {
		c.wrong(r, "%s is called %q, want one of %q", role, a.P.Comm, want[i].names)
	}
	for _, h := range a.Holders {
		if s := slices.IndexFunc(c.w.all, func(p *creature) bool { return c.is(h, p) }); s < 0 {
			c.wrong(r, "%s has a holder that never was: %d@%d", role, h.P.PID, h.P.Start/msec)
		}
	}
}

func (c *checker) checkSock(r *Record) {
	if s := c.w.sockOf[r.ID]; r.Preexisting {
		c.among(r, "process", r.Sock.Process, s.ever)
	} else {
		c.one(r, "process", r.Sock.Process, c.w.actorOf[fmt.Sprint(r.Event, " ", r.ID)])
	}
	h := r.Sock.Holder
	if !r.Failed() {
		return
	}
	why := c.w.why[r.ID]
	if h == nil {
		if c.damage.none() && len(why.sockets) > 0 {
			c.wrong(r, "no holder, want one of %d sockets", len(why.sockets))
		}
		return
	}
	if c.damage.drop {
		return // a lost release or close leaves a holder that is none; nothing can tell
	}
	var want []*creature
	switch h.Kind {
	case HolderListener, HolderBound:
		want = why.holders
	case HolderConnection:
		for _, conn := range why.conns {
			want = append(want, conn.client, conn.acceptor)
		}
	case HolderTimeWait:
		want = why.waiting
	}
	if h.Process.P == nil {
		return
	}
	c.among(r, "holder", h.Process, want)
}

func (c *checker) checkConn(r *Record) {
	truth, rc := c.w.connOf[r.ID], r.Conn
	c.one(r, "client", rc.Client.Process, truth.client)
	switch r.Event {
	case "connect":
		if !c.damage.drop {
			// A record that waited may have met a look: who held it then, not at the handshake.
			ever := truth.ever()
			c.among(r, "server", rc.Server.Process, append(ever, truth.acceptor))
			for _, h := range rc.Server.Holders {
				c.among(r, "holder", h, ever)
			}
			c.checkLast(r, truth)
		}
		if c.damage.none() && len(truth.group) == 1 && !truth.old && rc.Server.Process.P == nil && len(rc.Server.Holders) == 0 && truth.group[0].owner == truth.group[0].holders0(truth) {
			c.wrong(r, "server is not named, want %v", truth.group[0].owner)
		}
	case "accept":
		c.one(r, "server", rc.Server.Process, truth.acceptor)
		if !c.damage.drop && truth.sock.old {
			c.among(r, "listener", rc.Listener, truth.sock.ever)
		} else if !c.damage.drop {
			c.among(r, "listener", rc.Listener, []*creature{truth.sock.owner})
		}
	case "close":
		switch {
		case truth.proto == UDP || truth.acceptor == nil:
			if !c.damage.drop {
				c.among(r, "server", rc.Server.Process, truth.ever())
			}
		default:
			c.one(r, "server", rc.Server.Process, truth.acceptor)
		}
	}
	if c.damage.none() {
		c.checkShort(r, "client", rc.Client.Process)
		c.checkShort(r, "server", rc.Server.Process)
		c.checkShort(r, "listener", rc.Listener)
		c.full[r.ID] = append(c.full[r.ID], rc.Client.Process.P, rc.Server.Process.P, rc.Listener.P)
	}
}

// ever are all that held, at any time, what could have answered.
func (c *truthConn) ever() (list []*creature) {
	for _, s := range c.group {
		list = append(list, s.ever...)
	}
	return list
}

// holders0 is who called listen(), if it held the socket still when the connection came.
func (s *truthSock) holders0(c *truthConn) *creature {
	if slices.Contains(c.serving, s.owner) {
		return s.owner
	}
	return nil
}

// checkShort: cut where an earlier record of the connection gave the process in full, else not.
func (c *checker) checkShort(r *Record, role string, a Actor) {
	if a.P == nil {
		return
	}
	given := slices.Contains(c.full[r.ID], a.P)
	if a.Short != (given && r.Event != "connect") {
		c.wrong(r, "%s is cut: %v; an earlier record gave it in full: %v", role, a.Short, given)
	}
}

// checkLast: the last listener is the last that could have answered.
func (c *checker) checkLast(r *Record, truth *truthConn) {
	l := r.Conn.LastListener
	if l == nil {
		if c.damage.none() && len(truth.last) > 0 {
			c.wrong(r, "no last listener, want %v", truth.last[0].owner)
		}
		return
	}
	var want []*creature
	for _, s := range truth.last {
		want = append(want, s.ever...) // who called listen(), or who held it to the end
	}
	if !c.damage.swap {
		c.among(r, "last listener", l.Process, want)
	}
}

// consistent holds the table's parts against each other: what one forgets, all forget.
func (c *checker) consistent() {
	t := c.scene.table
	onPorts, ends, flows, listening := 0, 0, 0, 0
	for _, p := range t.ports {
		onPorts += len(p.socks)
		for l := p.conns.first; l != nil; l = l.next {
			ends++
		}
	}
	for _, set := range t.servers {
		listening += len(set)
	}
	wantEnds, wantListening := 0, 0
	for _, conn := range t.conns {
		wantEnds += 2
		if conn.ev.Proto == UDP {
			flows++
		}
	}
	for _, s := range t.socks {
		if s.listening || s.key.proto == UDP && s.asked() {
			wantListening++
		}
	}
	if onPorts != len(t.socks) || ends != wantEnds || flows != t.flows || listening != wantListening {
		c.t.Fatalf("%d sockets, %d of them on ports; %d listen, %d by port; %d ends of connections, %d on ports; %d flows, %d counted",
			len(t.socks), onPorts, wantListening, listening, wantEnds, ends, flows, t.flows)
	}
}
