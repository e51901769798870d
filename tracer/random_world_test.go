// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The world of TestKernelRandom: processes that make random calls, and the truth about every one of
// them. It knows TCP as far as it goes here: who holds which socket, what is unread, who closed first.

const (
	maxAliveProcs = 24
	// lookLag is how old what looptrace knows of holders may be: a second by the contract, and the
	// settling of records on a busy machine.
	lookLag = uint64(1300e6)
	// maxUnread keeps what was sent and not read far below any buffer: no call of an actor blocks.
	maxUnread = 8000
	maxQueue  = 8
)

type proc struct {
	*player
	id    string // of the process; its roles are id, id.1, … after each exec
	fds   map[string]*rsock
	next  int
	execs int
}

// holding is a time in which a process had a descriptor of a socket.
type holding struct {
	id       string
	from, to uint64 // to 0: still
}

// rsock is a socket: an open file description that any number of descriptors share.
type rsock struct {
	six, reuse, keeps bool // keeps: stays open on exec
	refs              map[*proc]int
	held              []holding
	local             netip.AddrPort // valid once it has a port
	bound             netip.AddrPort // valid if bind() asked for the port by number
	listening, spent  bool           // spent: a connect() failed
	caller            string         // who called listen()
	story             *story         // its bind, listen and release
	queue             []*rconn
	conn              *rconn
	side              int
}

const (
	clientSide = 0
	serverSide = 1
)

type rconn struct {
	story    *story
	ends     [2]netip.AddrPort
	socks    [2]*rsock // server's nil until accepted
	listener *rsock
	server   names // who may be named as the server before it is accepted
	unread   [2]int
	sent     [2]int
	closed   [2]bool
	first    string // who closed first
	reset    bool
	dead     bool // reset: both sockets are in CLOSE
	accepted bool
	acceptor string
	client   string
}

// twait is a TIME_WAIT, which keeps others out for a minute: longer than a run.
type twait struct {
	at    netip.AddrPort
	reuse bool
	ids   names
}

type world struct {
	s       *stage
	rng     *rand.Rand
	procs   []*proc
	born    int
	stories []*story
	socks   []*rsock
	conns   []*rconn
	waits   []twait
	log     []string // every operation, for whoever replays a seed
	began   uint64   // of the operation at hand
	ops     map[string]int

	// kept: sockets by address and port that a walk of the open files had for a moment as they were closed,
	// and when it let go: until then they are in the way.
	kept map[string][]time.Time

	refused, unheld int // binds that failed because the port is held, and those without a holder
}

var clientServer = [...]string{"client", "server"}

func (w *world) pickProc() *proc { return w.procs[w.rng.IntN(len(w.procs))] }

// step makes one random operation.
func (w *world) step() {
	w.began = boottime()
	if len(w.procs) < 2 {
		w.start()
		return
	}
	p := w.pickProc()
	switch n := w.rng.IntN(1000); {
	case n < 4:
		w.start()
	case n < 9:
		w.fork(p)
	case n < 12:
		w.exec(p)
	case n < 18:
		w.end(p)
	case n < 40:
		w.pass(p)
	case n < 200:
		w.bind(p)
	case n < 290:
		w.listen(p)
	case n < 480:
		w.connect(p)
	case n < 620:
		w.accept(p)
	case n < 720:
		w.send(p)
	case n < 800:
		w.recv(p)
	default:
		w.close(p)
	}
}

func (w *world) note(p *proc, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	verb, _, _ := strings.Cut(line, " ")
	w.ops[verb]++
	w.log = append(w.log, fmt.Sprintf("%d %s: %s", len(w.log), p.id, line))
}

func (w *world) start() {
	if len(w.procs) >= maxAliveProcs {
		return
	}
	w.born++
	id := fmt.Sprint("p", w.born)
	p := &proc{player: w.s.actor(id), id: id, fds: map[string]*rsock{}}
	w.procs = append(w.procs, p)
	w.note(p, "start %d", p.pid)
}

func (w *world) fork(p *proc) {
	if len(w.procs) >= maxAliveProcs {
		return
	}
	w.born++
	id := fmt.Sprint("p", w.born)
	child := &proc{player: p.fork(id, 0), id: id, fds: map[string]*rsock{}, next: p.next}
	for name, k := range p.fds {
		child.fds[name] = k
		k.hold(child, w.began)
	}
	w.procs = append(w.procs, child)
	w.note(p, "fork %s %d", id, child.pid)
}

func (w *world) exec(p *proc) {
	p.execs++
	var names []string
	for name, k := range p.fds {
		if !k.keeps {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	w.note(p, "exec, which closes %v", names)
	p.exec(fmt.Sprintf("%s.%d", p.id, p.execs))
	w.closeAll(p, names, "close", "")
}

// end lets the process exit or be killed, whatever it has open.
func (w *world) end(p *proc) {
	names := make([]string, 0, len(p.fds))
	for name := range p.fds {
		names = append(names, name)
	}
	slices.Sort(names)
	var exit string
	if w.rng.IntN(2) == 0 {
		exit = "SIGKILL"
		w.note(p, "kill, which closes %v", names)
		p.kill()
	} else {
		status := w.rng.IntN(4)
		exit = fmt.Sprint(status)
		w.note(p, "exit %d, which closes %v", status, names)
		p.exit(status)
	}
	w.closeAll(p, names, "exit", exit)
	w.procs = slices.DeleteFunc(w.procs, func(other *proc) bool { return other == p })
}

func (k *rsock) hold(p *proc, at uint64) {
	if k.refs[p]++; k.refs[p] == 1 {
		k.held = append(k.held, holding{id: p.id, from: at})
	}
}

// drop closes one descriptor, and says whether it was the last of all.
func (k *rsock) drop(p *proc, at uint64) bool {
	if k.refs[p]--; k.refs[p] == 0 {
		delete(k.refs, p)
		for i := range k.held {
			if k.held[i].id == p.id && k.held[i].to == 0 {
				k.held[i].to = at
			}
		}
	}
	return len(k.refs) == 0
}

func (k *rsock) heldBy(id string) bool {
	for p := range k.refs {
		if p.id == id {
			return true
		}
	}
	return false
}

// recent gives who held the socket since `lookLag` before a time.
func (k *rsock) recent(at uint64) names {
	n := names{}
	for _, h := range k.held {
		if h.to == 0 || h.to+lookLag >= at {
			n[h.id] = true
		}
	}
	return n
}

// steadily: the process holds the socket, and did at the last look: one that let it go and got it back
// is found by the next.
func (k *rsock) steadily(id string, at uint64) bool {
	times, since := 0, at
	for _, h := range k.held {
		if h.id != id {
			continue
		}
		if times++; h.to == 0 {
			since = h.from
		}
	}
	return k.heldBy(id) && (times == 1 || since+lookLag < at)
}

// ever gives who ever held the socket: looptrace knows it as of the last look, which a close does not
// bring about.
func (k *rsock) ever() names {
	n := names{}
	for _, h := range k.held {
		n[h.id] = true
	}
	return n
}

func (w *world) newFD(p *proc, k *rsock) string {
	p.next++
	name := fmt.Sprint("f", p.next)
	p.fds[name] = k
	k.hold(p, w.began)
	return name
}

// pick gives one of a process's descriptors that fits; "" where none does.
func (w *world) pick(p *proc, fits func(k *rsock) bool) (string, *rsock) {
	var names []string
	for name, k := range p.fds {
		if fits(k) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	slices.Sort(names)
	name := names[w.rng.IntN(len(names))]
	return name, p.fds[name]
}

func (w *world) pass(p *proc) {
	name, k := w.pick(p, func(*rsock) bool { return true })
	to := w.pickProc()
	if k == nil || to == p {
		return
	}
	as := w.newFD(to, k)
	w.note(p, "pass %s to %s as %s", name, to.id, as)
	p.give(name, to.player, as)
	if k.keeps {
		to.do("inherit %s", as) // a flag of the descriptor, not of the socket
	}
}

// socket opens one; every socket sends at once (TCP_NODELAY), so that what was sent is known.
func (w *world) socket(p *proc) (string, *rsock) {
	k := &rsock{six: w.rng.IntN(3) == 0, reuse: w.rng.IntN(2) == 0, keeps: w.rng.IntN(3) == 0, refs: map[*proc]int{}}
	name := w.newFD(p, k)
	kind := "tcp4"
	if k.six {
		kind = "tcp6"
	}
	if k.keeps {
		kind += " inherit"
	}
	p.do("socket %s %s", name, kind)
	p.do("set %s nodelay", name)
	if k.reuse {
		p.do("set %s reuseaddr", name)
	}
	w.socks = append(w.socks, k)
	return name, k
}

var (
	addrs4 = []string{"127.0.0.1", "127.0.0.1", "127.0.0.2", "0.0.0.0"}
	addrs6 = []string{"::1", "::", "127.0.0.1", "127.0.0.2"}
)

// poolPorts are those that are asked for by number: few, so that they are rebound all the time.
const (
	firstPort = 21000
	poolPorts = 24
)

func (w *world) bind(p *proc) {
	name, k := w.socket(p)
	pool := addrs4
	if k.six {
		pool = addrs6
	}
	want := netip.AddrPortFrom(netip.MustParseAddr(pool[w.rng.IntN(len(pool))]), 0)
	switch {
	case w.rng.IntN(3) > 0:
		want = netip.AddrPortFrom(want.Addr(), firstPort+uint16(w.rng.IntN(poolPorts)))
	case len(w.conns) > 0 && w.rng.IntN(4) == 0: // the port of somebody's connection
		want = netip.AddrPortFrom(want.Addr(), w.conns[w.rng.IntN(len(w.conns))].ends[clientSide].Port())
	}
	_, err := p.try("bind %s %s", name, want)
	w.note(p, "bind %s to %s (IPv6 %v, reuse %v): %v", name, want, k.six, k.reuse, err)
	if err == nil {
		k.local = p.addr(name)
		if want.Port() != 0 {
			k.bound = k.local
		}
		k.story = w.tell(sockKey("bind", p.id, k.local))
		k.story.add(w.row("bind", "").who("process", p.id).is("port", k.local.Port()).is("address", k.local.Addr()).
			is("requested.port", want.Port()).is("ephemeral", want.Port() == 0))
		return
	}
	st := w.tell(sockKey("bind", p.id, want))
	row := w.row("bind", errnoName(err)).who("process", p.id).is("port", want.Port()).is("address", want.Addr())
	if errors.Is(err, unix.EADDRINUSE) {
		row.holder, row.lenient = w.inTheWay(want, k), k.reuse
	}
	st.add(row)
	w.closeOne(p, name)
}

// obstacle is what may be told as the holder of a port.
type obstacle struct {
	kind string
	at   netip.AddrPort
	ids  names  // who may be named; none: nobody
	sock *rsock // its holders may be named as of a look a little later: see lookLag
	// fromBound: a connection of a socket that was bound first, which may be told as such.
	fromBound bool
}

// had says whether a process may be named for it: it held the socket, or was given it before the look
// at the table of open files that a call at that time brought about.
func (o *obstacle) had(id string, at uint64) bool {
	return id == "" || o.ids[id] || o.sock != nil && slices.ContainsFunc(o.sock.held, func(h holding) bool {
		return h.id == id && h.from <= at+lookLag
	})
}

// overlaps says whether two sockets want the same (inet_rcv_saddr_equal, nothing is IPv6 only here).
func overlaps(a, b netip.Addr) bool {
	if a == b {
		return true
	}
	if a.Is4() == b.Is4() {
		return a.IsUnspecified() || b.IsUnspecified()
	}
	return a.Is6() && a.IsUnspecified() || b.Is6() && b.IsUnspecified()
}

// inTheWay gives everything that keeps k from binding there (inet_csk_bind_conflict).
func (w *world) inTheWay(want netip.AddrPort, k *rsock) []obstacle {
	var list []obstacle
	clash := func(at netip.AddrPort, reuse, listening bool) bool {
		return at.Port() == want.Port() && overlaps(at.Addr(), want.Addr()) && (!k.reuse || !reuse || listening)
	}
	for _, o := range w.socks {
		at := o.local
		if o.bound.IsValid() {
			at = o.bound
		}
		// What was bound by number keeps its port when its connection was reset.
		connected := o.conn != nil && (!o.conn.dead || !o.bound.IsValid())
		if o == k || len(o.refs) == 0 || !at.IsValid() || connected || !clash(at, o.reuse, o.listening) {
			continue
		}
		kind := "bound"
		if o.listening {
			kind = "listener"
		}
		list = append(list, obstacle{kind: kind, at: at, ids: o.ever(), sock: o})
	}
	for _, c := range w.conns {
		if c.dead {
			continue
		}
		for side, at := range c.ends {
			o := c.socks[side]
			if side == serverSide && o == nil {
				continue // in the queue of a listener, which is in the way itself
			}
			if clash(at, o.reuse, false) {
				list = append(list, obstacle{kind: "connection", at: at, ids: o.ever(), sock: o, fromBound: o.story != nil})
			}
		}
	}
	for _, t := range w.waits {
		if clash(t.at, t.reuse, false) {
			list = append(list, obstacle{kind: "time_wait", at: t.at, ids: t.ids})
		}
	}
	return list
}

func (w *world) listen(p *proc) {
	name, k := w.pick(p, func(k *rsock) bool { return !k.listening && !k.spent && k.conn == nil })
	if k == nil {
		name, k = w.socket(p) // listen() binds it
	}
	_, err := p.try("listen %s 16", name)
	w.note(p, "listen %s: %v", name, err)
	if err != nil {
		row := w.row("listen", errnoName(err)).who("process", p.id).is("port", k.local.Port())
		if errors.Is(err, unix.EADDRINUSE) {
			row.holder, row.lenient = w.inTheWay(k.local, k), k.reuse
		}
		k.story.add(row)
		k.spent = true
		return
	}
	if k.story == nil {
		k.local = p.addr(name)
		k.story = w.tell(sockKey("bind", p.id, k.local))
		k.story.add(w.row("bind", "").who("process", p.id).is("port", k.local.Port()).is("address", k.local.Addr()).is("ephemeral", true))
	}
	k.listening, k.caller = true, p.id
	k.story.add(w.row("listen", "").who("process", p.id).is("port", k.local.Port()).is("address", k.local.Addr()).is("backlog", 16))
}

// reaches gives the listener that a connection to dst meets.
func (w *world) reaches(dst netip.AddrPort) *rsock {
	for _, k := range w.socks {
		if k.listening && k.local.Port() == dst.Port() && (k.local.Addr() == dst.Addr() ||
			k.local.Addr().IsUnspecified() && (k.local.Addr().Is6() || dst.Addr().Is4())) {
			return k
		}
	}
	return nil
}

// target picks whom to dial from a socket: mostly a listener.
func (w *world) target(k *rsock) netip.AddrPort {
	var all []*rsock
	for _, l := range w.socks {
		if l.listening && len(l.queue) < maxQueue {
			all = append(all, l)
		}
	}
	dst := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), firstPort+uint16(w.rng.IntN(poolPorts)))
	if len(all) > 0 && w.rng.IntN(5) > 0 {
		dst = all[w.rng.IntN(len(all))].local
	}
	a := dst.Addr()
	if a.IsUnspecified() {
		a = netip.MustParseAddr([]string{"127.0.0.1", "127.0.0.3"}[w.rng.IntN(2)])
		if dst.Addr().Is6() && k.six && w.rng.IntN(2) == 0 {
			a = netip.IPv6Loopback()
		}
	}
	if !k.six && a.Is6() {
		a = netip.MustParseAddr("127.0.0.1") // which may be another listener's, or nobody's
	}
	if k.local.IsValid() && !k.local.Addr().IsUnspecified() && k.local.Addr().Is6() != a.Is6() {
		a = k.local.Addr() // its own family is the only one that it can send to
	}
	return netip.AddrPortFrom(a, dst.Port())
}

// remains says whether there is a connection between two ports, if only one end of it.
func (w *world) remains(client, server uint16) bool {
	return slices.ContainsFunc(w.conns, func(c *rconn) bool {
		return c.ends[clientSide].Port() == client && c.ends[serverSide].Port() == server
	})
}

func (w *world) connect(p *proc) {
	name, k := "", (*rsock)(nil)
	if w.rng.IntN(6) == 0 { // from a bound socket
		name, k = w.pick(p, func(k *rsock) bool { return !k.listening && !k.spent && k.conn == nil && k.story != nil })
	}
	if k == nil {
		name, k = w.socket(p)
	}
	dst := w.target(k)
	if k.local.IsValid() && k.local.Port() == dst.Port() {
		return // a self-connect has a scene of its own
	}
	if k.local.IsValid() && w.remains(k.local.Port(), dst.Port()) {
		return // its SYN would make the kernel reset the old connection's server
	}
	l := w.reaches(dst)
	if l != nil && len(l.queue) >= maxQueue {
		return
	}
	_, err := p.try("connect %s %s", name, dst)
	w.note(p, "connect %s to %s (IPv6 %v): %v", name, dst, k.six, err)
	if err != nil {
		st := w.tell(connKey(p.id, netip.AddrPort{}, dst, false))
		st.add(w.row("connect", errnoName(err)).who("client.process", p.id).is("server.address", dst.Addr()).is("server.port", dst.Port()).nobody("server.process"))
		k.spent = true
		return
	}
	if l == nil {
		w.s.t.Fatalf("connected to %s, where nobody listens:\n%s", dst, w.tail())
	}
	k.local = p.addr(name)
	c := &rconn{ends: [2]netip.AddrPort{k.local, dst}, listener: l, client: p.id}
	c.socks[clientSide], k.conn, k.side = k, c, clientSide
	c.story = w.tell(connKey(p.id, k.local, dst, true))
	row := w.row("connect", "").who("client.process", p.id).is("client.port", k.local.Port()).is("client.address", k.local.Addr()).
		is("server.address", dst.Addr()).is("server.port", dst.Port())
	row.standing = l.recent(w.began)
	row.standing[l.caller] = true // as of the last look, it may hold it still
	if l.steadily(l.caller, w.began) {
		row.standing, row.mustStand = names{l.caller: true}, true
	}
	c.server = row.standing
	c.story.add(row)
	l.queue = append(l.queue, c)
	w.conns = append(w.conns, c)
}

func (w *world) accept(p *proc) {
	name, l := w.pick(p, func(k *rsock) bool { return k.listening && len(k.queue) > 0 })
	if l == nil {
		return
	}
	k := &rsock{six: l.six, reuse: l.reuse, refs: map[*proc]int{}, side: serverSide}
	as := w.newFD(p, k)
	c := l.queue[0]
	l.queue = l.queue[1:]
	p.do("accept %s %s", name, as)
	w.note(p, "accept %s as %s: from %s", name, as, c.ends[clientSide])
	k.conn, k.local, c.socks[serverSide], c.accepted, c.acceptor = c, c.ends[serverSide], k, true, p.id
	w.socks = append(w.socks, k)
	row := w.row("accept", "").who("client.process", c.client).who("server.process", p.id).is("client.port", c.ends[clientSide].Port())
	if l.caller == p.id {
		row.nobody("listener.process")
	} else {
		row.who("listener.process", l.caller)
	}
	c.story.add(row)
	if c.dead {
		w.over(c)
	}
}

func (w *world) send(p *proc) {
	name, k := w.pick(p, func(k *rsock) bool {
		c := k.conn
		return c != nil && !c.dead && !c.closed[1-k.side] && c.unread[1-k.side] < maxUnread
	})
	if k == nil {
		return
	}
	n := 1 + w.rng.IntN(1000)
	p.do("send %s %d", name, n)
	w.note(p, "send %s %d", name, n)
	k.conn.sent[k.side] += n
	k.conn.unread[1-k.side] += n
}

func (w *world) recv(p *proc) {
	name, k := w.pick(p, func(k *rsock) bool { return k.conn != nil && !k.conn.dead && k.conn.unread[k.side] > 0 })
	if k == nil {
		return
	}
	// Bytes that do not come have been seen once in a million operations: TCP's affair, or the model's.
	_, err := p.try("recvall %s %d", name, k.conn.unread[k.side])
	w.note(p, "recv %s %d: %v", name, k.conn.unread[k.side], err)
	k.conn.unread[k.side] = 0
}

func (w *world) close(p *proc) {
	name, k := w.pick(p, func(*rsock) bool { return true })
	if k == nil {
		return
	}
	if k.conn != nil && len(k.refs) == 1 && w.rng.IntN(8) == 0 {
		p.do("set %s linger0", name) // resets
		k.conn.unread[k.side]++
		w.note(p, "linger0 %s", name)
	}
	w.closeOne(p, name)
}

func (w *world) closeOne(p *proc, name string) {
	p.do("close %s", name)
	w.note(p, "close %s", name)
	w.closeAll(p, []string{name}, "close", "")
}

// closeAll follows what closing these descriptors at once does. In which order the kernel does it is
// its own affair: where that matters, either is right.
func (w *world) closeAll(p *proc, fds []string, reason, exit string) {
	var last []*rsock
	for _, name := range fds {
		k := p.fds[name]
		delete(p.fds, name)
		if k.drop(p, w.began) {
			last = append(last, k)
		}
	}
	for _, k := range last {
		if k.story != nil {
			row := w.row("release", "").who("process", p.id).is("port", k.local.Port()).is("reason", reason)
			switch {
			case exit == "SIGKILL":
				row.is("process.exit.signal", exit)
			case exit != "":
				row.is("process.exit.code", exit)
			}
			k.story.add(row)
		}
		if k.listening {
			w.unlisten(k, last)
		} else if k.conn != nil {
			w.closeEnd(k.conn, k.side, last)
		}
	}
	w.socks = slices.DeleteFunc(w.socks, func(k *rsock) bool { return len(k.refs) == 0 })
}

// unlisten drops who is in the queue: each is reset.
func (w *world) unlisten(k *rsock, last []*rsock) {
	for _, c := range k.queue {
		if !c.closed[clientSide] && !c.dead && slices.Contains(last, c.socks[clientSide]) {
			c.first = "*" // the client's FIN, or the listener's RST
		}
		if c.first == "" {
			c.first = "server"
		}
		c.reset = true
		w.over(c)
		c.dead = true
	}
	k.queue, k.listening = nil, false
}

// closeEnd follows the last close of one end of a connection.
func (w *world) closeEnd(c *rconn, side int, last []*rsock) {
	if c.dead || c.closed[side] {
		return
	}
	other := c.socks[1-side]
	if side == clientSide && !c.accepted {
		other = c.listener
	}
	if other != nil && slices.Contains(last, other) && !c.closed[1-side] && c.first == "" {
		c.first = "*"
	}
	if c.first == "" {
		c.first = clientServer[side]
	}
	c.closed[side] = true
	if c.unread[side] > 0 {
		c.reset, c.dead = true, true
	}
	if (c.dead || c.closed[clientSide] && c.closed[serverSide]) && c.accepted {
		w.over(c)
		c.dead = true
	}
}

// over: both sockets have left the connection.
func (w *world) over(c *rconn) {
	row := w.row("close", "").who("client.process", c.client).
		is("bytes.client_to_server", c.sent[clientSide]).is("bytes.server_to_client", c.sent[serverSide])
	if c.first != "*" {
		row.is("closed_by", c.first)
	}
	switch {
	case c.first == "*" && (c.reset || c.unread[0]+c.unread[1] > 0): // whose data were unread depends on the order
	case c.reset:
		row.is("reset", true)
	default:
		row.is("reset", "")
	}
	if c.accepted {
		row.who("server.process", c.acceptor).is("accepted", "")
	} else {
		row.is("accepted", false)
		row.standing = c.server
	}
	c.story.add(row)
	w.conns = slices.DeleteFunc(w.conns, func(o *rconn) bool { return o == c })
	if c.reset || c.first == "" {
		return
	}
	for side, name := range clientServer {
		if k := c.socks[side]; k != nil && (c.first == name || c.first == "*") {
			w.waits = append(w.waits, twait{at: c.ends[side], reuse: k.reuse, ids: k.ever()})
		}
	}
}

// finish ends every process, so that every story has its end.
func (w *world) finish() {
	for len(w.procs) > 0 {
		w.began = boottime()
		w.end(w.procs[0])
	}
}

func (w *world) tail() string { return strings.Join(w.log[max(0, len(w.log)-40):], "\n") }

func errnoName(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return fmt.Sprint(err)
	}
	return unix.ErrnoName(errno)
}
