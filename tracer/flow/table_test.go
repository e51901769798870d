// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// boot is the wall time of CLOCK_BOOTTIME 0. Scenes count time in milliseconds from it.
var boot = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const msec = uint64(time.Millisecond)

// home is the network namespace that events are in unless they say otherwise.
const home = 1

// prog is a process of a scene.
type prog struct {
	pid   uint32
	start uint64 // ms
	uid   uint32
	comm  string
}

// The cast. Each is announced by an exec event before the scene, unless the scene is bare.
var (
	srv    = prog{10, 10, 1000, "srv"}
	cli    = prog{20, 20, 1000, "cli"}
	oth    = prog{30, 30, 1000, "oth"}
	nobody = prog{}
)

func (p prog) id() ProcessID { return ProcessID{Start: p.start * msec, PID: p.pid, UID: p.uid} }

func (p prog) owner() Owner { return Owner{Start: p.start * msec, PID: p.pid, UID: p.uid} }

func (p prog) withUID(uid uint32) prog { p.uid = uid; return p }

// as is what the process is called after an exec or a renaming.
func (p prog) as(comm string) prog { p.comm = comm; return p }

// scene feeds a table and keeps what it lets out.
type scene struct {
	table *Table
	text  []string
	look  func(*Record) string
	stuck bool // a step did not end: the table is its own from then on
}

type step func(*scene)

// scenario is one case: events in, lines out.
type scenario struct {
	name  string
	cfg   Config
	bare  bool                 // nobody is announced
	look  func(*Record) string // line, where a case wants to see something else of each record
	steps []step
	want  []string
}

func play(t *testing.T, scenarios []scenario) {
	t.Helper()
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			s := newScene(sc.cfg, sc.look)
			if !sc.bare {
				for _, p := range []prog{srv, cli, oth} {
					exec(p.start, p)(s)
				}
			}
			for i, step := range sc.steps {
				step(s)
				if s.stuck {
					t.Fatalf("step %d does not end", i)
				}
			}
			if d := cmp.Diff(sc.want, s.text); d != "" {
				t.Errorf("records (-want +got):\n%s", d)
			}
		})
	}
}

func newScene(cfg Config, look func(*Record) string) *scene {
	s := &scene{look: look}
	if s.look == nil {
		s.look = line
	}
	cfg.BootTime = boot
	cfg.Emit = func(r *Record) {
		if text := s.look(r); text != "" {
			s.text = append(s.text, text)
		}
	}
	s.table = New(cfg)
	return s
}

// Steps. at is the time of the event in ms.

func tick(at uint64) step { return func(s *scene) { s.table.Tick(at * msec) } }

func drain(s *scene) { s.table.Drain() }

// note writes a line of its own between records.
func note(f func(*Table) string) step {
	return func(s *scene) { s.text = append(s.text, f(s.table)) }
}

func exec(at uint64, p prog) step { return execBy(at, nobody, p) }

func execBy(at uint64, parent, p prog) step {
	ev := &ExecEvent{TaskEvent: task(KindExec, at, parent, p), Args: []byte(p.comm + "\x00-v\x00"), Path: "/bin/" + p.comm}
	return func(s *scene) { s.table.ObserveExec(ev) }
}

func task(kind Kind, at uint64, parent, p prog) TaskEvent {
	return TaskEvent{
		Header: Header{Time: at * msec, Kind: kind}, Task: p.id(),
		ParentStart: parent.start * msec, ParentPID: parent.pid, Comm: chars(p.comm),
	}
}

func observeTask(ev TaskEvent) step { return func(s *scene) { s.table.ObserveTask(&ev) } }

func fork(parent, child prog) step { return observeTask(task(KindFork, child.start, parent, child)) }

func rename(at uint64, p prog) step { return observeTask(task(KindRename, at, nobody, p)) }

// exit ends a process; status is as wait(2) has it: the code in bits 8-15, or a signal.
func exit(at uint64, p prog, status int32) step {
	ev := task(KindExit, at, nobody, p)
	ev.ExitCode = status
	return observeTask(ev)
}

func chars(s string) (b [16]byte) {
	copy(b[:15], s)
	return b
}

func wire(addr netip.Addr) [16]byte { return addr.As16() }

// opt changes an event; of the two, one is nil.
type opt func(s *SockEvent, c *ConnEvent)

func flags(f uint16) opt {
	return func(s *SockEvent, c *ConnEvent) {
		if s != nil {
			s.Flags |= f
		} else {
			c.Flags |= f
		}
	}
}

// lastOf is a close whose FIN another process sent than had the end.
func lastOf(p prog) opt { return func(_ *SockEvent, c *ConnEvent) { c.Last = p.id() } }

// peer is whom a UDP socket is connected to.
func peer(addr string) opt {
	ap := netip.MustParseAddrPort(addr)
	return func(s *SockEvent, _ *ConnEvent) {
		s.Kind, s.Flags = KindPeer, s.Flags&^FlagRequested
		s.ReqAddr, s.ReqPort = wire(ap.Addr()), ap.Port()
	}
}

func inNetns(n uint32) opt {
	return func(s *SockEvent, c *ConnEvent) {
		if s != nil {
			s.Netns = n
		} else {
			c.Netns = n
		}
	}
}

func failed(errno int32) opt {
	return func(s *SockEvent, c *ConnEvent) {
		if s != nil {
			s.Error = errno
		} else {
			c.Error = errno
		}
	}
}

func onThread(name string) opt {
	return func(s *SockEvent, c *ConnEvent) {
		if s != nil {
			s.Actor.Thread = chars(name)
		} else {
			c.Thread = chars(name)
		}
	}
}

func udp(s *SockEvent, _ *ConnEvent) { s.Proto = UDP }

func asked(addr string) opt {
	ap := netip.MustParseAddrPort(addr)
	return func(s *SockEvent, _ *ConnEvent) {
		s.ReqAddr, s.ReqPort = wire(ap.Addr()), ap.Port()
		if ap.Port() == 0 {
			s.Flags |= FlagEphemeral
		}
	}
}

func implicit(s *SockEvent, _ *ConnEvent) {
	s.Flags |= FlagImplicit | FlagEphemeral
	s.Flags &^= FlagRequested
	s.ReqAddr, s.ReqPort = [16]byte{}, 0
}

func backlog(n uint32) opt { return func(s *SockEvent, _ *ConnEvent) { s.Backlog = n } }

func since(at uint64) opt { return func(s *SockEvent, _ *ConnEvent) { s.Since = at * msec } }

func reason(why uint16, status int32) opt {
	return func(s *SockEvent, _ *ConnEvent) { s.Reason, s.ExitCode = why, status }
}

func sockEvent(kind Kind, at, id uint64, p prog, addr string, opts []opt) *SockEvent {
	ap := netip.MustParseAddrPort(addr)
	ev := &SockEvent{
		Header: Header{Time: at * msec, Kind: kind, Netns: home}, ID: id, Actor: p.owner(),
		Addr: wire(ap.Addr()), Port: ap.Port(), Proto: TCP,
	}
	if ap.Addr().Is6() {
		ev.Flags |= FlagIPv6
	}
	if kind == KindBind {
		ev.Flags |= FlagRequested
		ev.ReqAddr, ev.ReqPort = ev.Addr, ev.Port
	}
	for _, o := range opts {
		o(ev, nil)
	}
	return ev
}

func observeSock(ev *SockEvent) step { return func(s *scene) { s.table.ObserveSock(ev) } }

func bind(at, id uint64, p prog, addr string, opts ...opt) step {
	return observeSock(sockEvent(KindBind, at, id, p, addr, opts))
}

// refusedBind is a bind that met EADDRINUSE.
func refusedBind(at, id uint64, p prog, addr string, opts ...opt) step {
	return bind(at, id, p, addr, append(opts, failed(eaddrinuse))...)
}

func listen(at, id uint64, p prog, addr string, opts ...opt) step {
	return observeSock(sockEvent(KindListen, at, id, p, addr, opts))
}

// serve binds and listens, in one millisecond.
func serve(at, id uint64, p prog, addr string, opts ...opt) step {
	return func(s *scene) {
		bind(at, id, p, addr, opts...)(s)
		listen(at, id, p, addr, opts...)(s)
	}
}

func release(at, id uint64, p prog, addr string, opts ...opt) step {
	opts = append([]opt{reason(ReasonClose, 0)}, opts...)
	return observeSock(sockEvent(KindRelease, at, id, p, addr, opts))
}

// dial is a connection, or a UDP flow; its methods are its events.
type dial struct{ ev ConnEvent }

func tcp(id uint64, client prog, from, to string) dial {
	f, t := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	return dial{ConnEvent{
		Header: Header{Netns: home}, ID: id, Client: client.id(), Proto: TCP,
		ClientAddr: wire(f.Addr()), ClientPort: f.Port(), ServerAddr: wire(t.Addr()), ServerPort: t.Port(),
	}}
}

func datagrams(id uint64, client prog, clientSock uint64, from string, serverSock uint64, to string) dial {
	d := tcp(id, client, from, to)
	d.ev.Proto, d.ev.ClientSock, d.ev.ServerSock = UDP, clientSock, serverSock
	return d
}

func (d dial) event(kind Kind, at uint64, opts []opt) *ConnEvent {
	ev := d.ev
	ev.Kind, ev.Time = kind, at*msec
	for _, o := range opts {
		o(nil, &ev)
	}
	return &ev
}

func (d dial) observe(kind Kind, at uint64, opts []opt) step {
	ev := d.event(kind, at, opts)
	return func(s *scene) { s.table.ObserveConn(ev) }
}

func (d dial) in(netns uint32) dial { d.ev.Netns = netns; return d }

// of is dialled by a socket that was bound first.
func (d dial) of(sock uint64) dial { d.ev.ClientSock = sock; return d }

// connect has its SYN 1 ms before it.
func (d dial) connect(at uint64, opts ...opt) step {
	d.ev.Started = (at - 1) * msec
	return d.observe(KindConnect, at, opts)
}

// refused is a connect that met ECONNREFUSED.
func (d dial) refused(at uint64, opts ...opt) step {
	return d.connect(at, append(opts, failed(econnrefused))...)
}

// unreachable tells a UDP flow's port unreachable.
func (d dial) unreachable(at uint64) step {
	return d.observe(KindRefused, at, []opt{failed(econnrefused)})
}

// accept comes 2 ms after the connection entered the accept queue.
func (d dial) accept(at uint64, by prog, opts ...opt) step {
	d.ev.Started, d.ev.Server, d.ev.Flags = (at-2)*msec, by.id(), d.ev.Flags|FlagAccepted
	return d.observe(KindAccept, at, opts)
}

// close is of a connection whose first SYN came 10 ms before, that some process accepted.
func (d dial) close(at uint64, acceptor prog, opts ...opt) step {
	d.ev.Started, d.ev.Server = (at-10)*msec, acceptor.id()
	if acceptor != nobody {
		d.ev.Flags |= FlagAccepted
	}
	return d.observe(KindClose, at, opts)
}

func closedBy(who uint16) opt { return func(_ *SockEvent, c *ConnEvent) { c.Closer = who } }

func startedAt(started uint64) opt { return func(_ *SockEvent, c *ConnEvent) { c.Started = started } }

func sent(c2s, s2c uint64) opt { return func(_ *SockEvent, c *ConnEvent) { c.C2S, c.S2C = c2s, s2c } }

func retransmits(n uint32) opt { return func(_ *SockEvent, c *ConnEvent) { c.Retransmits = n } }

// The compact form of a record: time, #id, event, then what is set.

func line(r *Record) string {
	w := &words{}
	w.add("%dms", r.Time.Sub(boot).Milliseconds())
	if r.Sock == nil && r.Conn == nil {
		w.add("%s", r.Event)
		return w.String()
	}
	w.add("#%d %s", r.ID, r.Event)
	if r.Sock != nil {
		w.sock(r)
	} else {
		w.conn(r)
	}
	w.flag(r.Proto == UDP, "udp")
	w.flag(r.Preexisting, "preexisting")
	if r.Netns != home {
		w.add("netns=%d", r.Netns)
	}
	if r.Errno != 0 {
		w.add("errno=%d", r.Errno)
	}
	if r.Failed() != (r.Level == Warn) {
		w.add("%v", r.Level)
	}
	return w.String()
}

type words struct{ list []string }

func (w *words) String() string { return strings.Join(w.list, " ") }

func (w *words) add(format string, args ...any) {
	w.list = append(w.list, fmt.Sprintf(format, args...))
}

func (w *words) flag(on bool, text string) {
	if on {
		w.add("%s", text)
	}
}

func place(addr netip.Addr, port uint16, known bool) string {
	switch {
	case !addr.IsValid():
		return "?"
	case !known:
		return addr.String() + ":?"
	}
	return netip.AddrPortFrom(addr, port).String()
}

func (w *words) sock(r *Record) {
	s := r.Sock
	w.add("%s %s", who(s.Process), place(s.Address, r.Port, r.HasPort))
	switch r.Event {
	case "bind":
		if s.HasRequested && (s.Requested.Addr() != s.Address || s.Requested.Port() != r.Port) {
			w.add("asked=%v", s.Requested)
		}
		w.flag(!s.HasRequested && !r.Preexisting, "unasked")
		w.flag(s.Ephemeral, "ephemeral")
		w.flag(s.Implicit, "implicit")
		w.flag(s.V6Only, "v6only")
		w.add2("ports", s.EphemeralPorts.text())
	case "listen":
		w.add("backlog=%d", s.Backlog)
		w.flag(s.Exposed, "exposed")
	case "release":
		if s.Held >= 0 {
			w.add("held=%v", s.Held)
		}
		w.add2("reason", s.Reason)
		w.add2("exit", s.Exit.text())
	}
	w.add2("holder", s.Holder.text())
}

// add2 writes key=value, nothing where there is no value.
func (w *words) add2(key, value string) {
	if value != "" {
		w.add("%s=%s", key, value)
	}
}

func (w *words) conn(r *Record) {
	c := r.Conn
	w.add("%s %s > %s %s", who(c.Client.Process), place(c.Client.Address, c.Client.Port, c.Client.HasPort),
		who(c.Server.Process), place(c.Server.Address, c.Server.Port, c.Server.HasPort))
	w.add2("holders", names(c.Server.Holders))
	if c.Duration >= 0 {
		w.add("took=%v", c.Duration)
	}
	w.flag(c.Self, "self")
	if c.Retransmits != 0 {
		w.add("retransmits=%d", c.Retransmits)
	}
	if c.Listener.Known() {
		w.add("listener=%s", who(c.Listener))
	}
	if l := c.LastListener; l != nil {
		w.add("last={%s %v-%v %s", who(l.Process), offset(l.Since), offset(l.Until), l.Reason)
		w.add2("exit", l.Exit.text())
		w.list[len(w.list)-1] += "}"
	}
	for _, n := range c.Nearby {
		w.add("nearby={%s %v:%d netns=%d %s}", who(n.Process), n.Address, n.Port, n.Netns, n.Because)
	}
	w.add2("ports", c.EphemeralPorts.text())
	if r.Event == "close" {
		if c.HasBytes && r.Proto == TCP {
			w.add("bytes=%d/%d", c.C2S, c.S2C)
		}
		w.add2("by", c.ClosedBy)
		w.flag(c.Reset, "reset")
		w.flag(!c.Accepted, "unaccepted")
	}
}

func (h *Holder) text() string {
	if h == nil {
		return ""
	}
	w := &words{}
	w.add("{%s %s %s", h.Kind, who(h.Process), place(h.Address, h.Port, true))
	if !h.Since.IsZero() {
		w.add("since=%v", offset(h.Since))
	}
	if h.Peer.IsValid() {
		w.add("peer=%v", h.Peer)
	}
	w.flag(h.State != "", h.State)
	if h.Expires != 0 {
		w.add("expires=%v", h.Expires)
	}
	return w.String() + "}"
}

func (e *EphemeralPorts) text() string {
	if e == nil {
		return ""
	}
	w := &words{}
	w.add("{%d-%d in_use=%d", e.Low, e.High, e.InUse)
	for _, u := range e.Top {
		w.add("%s*%d", who(u.Process), u.Count)
	}
	return w.String() + "}"
}

func (e Exit) text() string {
	switch {
	case !e.Known:
		return ""
	case e.Signal != 0:
		return fmt.Sprintf("signal %d", e.Signal)
	}
	return fmt.Sprintf("code %d", e.Code)
}

// offset is time as scenes count it; "?" where it is not known.
func offset(at time.Time) string {
	if at.IsZero() {
		return "?"
	}
	return at.Sub(boot).String()
}

// who gives an actor: name/pid, its thread, ~ where it is short, and how it is known if by other
// than a hook.
func who(a Actor) string {
	if a.P == nil {
		return "-"
	}
	text := fmt.Sprintf("%s/%d", a.P.Comm, a.P.PID)
	if a.Thread != "" {
		text += ":" + a.Thread
	}
	if a.Short {
		text += "~"
	}
	switch {
	case len(a.Holders) > 0:
		text += fmt.Sprintf("(%s %s)", a.Attribution, names(a.Holders))
	case a.Attribution != "hook":
		text += "(" + a.Attribution + ")"
	}
	return text
}

func names(list []Actor) string {
	var all []string
	for _, a := range list {
		if a.P == nil {
			all = append(all, "-")
			continue
		}
		all = append(all, fmt.Sprintf("%s/%d", a.P.Comm, a.P.PID))
	}
	return strings.Join(all, ",")
}

// The story of one port, as the contract tells it: every record of a server's life.
func TestStory(t *testing.T) {
	web := tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:49342")
	late := tcp(8, cli, "127.0.0.1:40001", "127.0.0.1:49342")
	play(t, []scenario{{
		name: "one port",
		steps: []step{
			bind(100, 1, srv, "127.0.0.1:49342", asked("127.0.0.1:0")),
			listen(101, 1, srv, "127.0.0.1:49342", backlog(16)),
			web.connect(110),
			web.accept(115, srv),
			web.close(130, srv, sent(100, 7), closedBy(CloserServer)),
			refusedBind(140, 2, oth, "127.0.0.1:49342"),
			exit(150, srv, 9),
			release(151, 1, srv, "127.0.0.1:49342", reason(ReasonExit, 9)),
			late.refused(160),
			drain,
		},
		want: []string{
			"100ms #1 bind srv/10 127.0.0.1:49342 asked=127.0.0.1:0 ephemeral",
			"101ms #1 listen srv/10 127.0.0.1:49342 backlog=16",
			"110ms #7 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.1:49342 took=1ms",
			"115ms #7 accept cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:49342 took=2ms",
			"130ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:49342 took=10ms bytes=100/7 by=server",
			"140ms #2 bind oth/30 127.0.0.1:49342 holder={listener srv/10 127.0.0.1:49342 since=101ms} errno=98",
			"151ms #1 release srv/10 127.0.0.1:49342 held=51ms reason=exit exit=signal 9",
			"160ms #8 connect cli/20 127.0.0.1:40001 > - 127.0.0.1:49342 took=1ms last={srv/10 101ms-151ms exit exit=signal 9} errno=111",
		},
	}})
}

// A connect record waits for the listen that another CPU has not reported yet.
func TestSettle(t *testing.T) {
	c := tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80")
	second := tcp(8, cli, "127.0.0.1:40001", "127.0.0.1:80")
	const connected = "110ms #7 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=1ms"
	bound := []string{"105ms #1 bind srv/10 127.0.0.1:80", "105ms #1 listen srv/10 127.0.0.1:80 backlog=0"}
	play(t, []scenario{
		{
			name: "listen is told after connect",
			steps: []step{
				c.connect(110), tick(112), serve(105, 1, srv, "127.0.0.1:80"), tick(129), mark("before"), tick(130), mark("after"),
			},
			want: append(bound[:2:2], "before", connected, "after"),
		},
		{
			name:  "nobody listens",
			steps: []step{c.connect(110), tick(129), mark("before"), tick(130)},
			want:  []string{"before", "110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms"},
		},
		{
			name:  "accept lets it out",
			steps: []step{c.connect(110), c.accept(115, srv), drain},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms",
				"115ms #7 accept cli/20~ 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=2ms",
			},
		},
		{
			name:  "close lets it out",
			steps: []step{c.connect(110), c.close(120, nobody), drain},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms",
				"120ms #7 close cli/20~ 127.0.0.1:40000 > - 127.0.0.1:80 took=10ms bytes=0/0 unaccepted",
			},
		},
		{
			name:  "a known listener makes no wait",
			steps: []step{serve(105, 1, srv, "127.0.0.1:80"), c.connect(110), mark("at once")},
			want:  append(bound[:2:2], connected, "at once"),
		},
		{
			name:  "each waits its own time",
			steps: []step{c.connect(110), second.connect(125), tick(131), mark("first"), tick(145)},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms", "first",
				"125ms #8 connect cli/20 127.0.0.1:40001 > - 127.0.0.1:80 took=1ms",
			},
		},
		{
			name:  "the end lets all out, once",
			steps: []step{c.connect(110), second.connect(111), drain, drain},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms",
				"111ms #8 connect cli/20 127.0.0.1:40001 > - 127.0.0.1:80 took=1ms",
			},
		},
		{
			name: "a listener that came after the connection is not whom it met",
			steps: []step{
				c.connect(110), serve(122, 1, oth, "127.0.0.1:80"), tick(140),
			},
			want: []string{
				"122ms #1 bind oth/30 127.0.0.1:80", "122ms #1 listen oth/30 127.0.0.1:80 backlog=0",
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms",
			},
		},
	})
}

// mark writes a word between records: what came before it, came before it.
func mark(word string) step { return note(func(*Table) string { return word }) }

func TestCounts(t *testing.T) {
	c, other := tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80"), tcp(8, cli, "127.0.0.1:40001", "127.0.0.1:81")
	s := newScene(Config{Filter: Filter{Events: Set[string]{Exclude: []string{"listen"}}}}, nil)
	for _, step := range []step{serve(100, 1, srv, "127.0.0.1:80"), c.connect(110), other.refused(120), drain} {
		step(s)
	}
	s.table.Housekeep(&Record{Event: "stop", Time: boot})
	want := map[string]uint64{"bind": 1, "connect": 2, "stop": 1}
	if d := cmp.Diff(want, s.table.Counts()); d != "" {
		t.Errorf("counts of what was let out (-want +got):\n%s", d)
	}
}

// The wall clock may be stepped while tracing: later records follow it.
func TestSetBootTime(t *testing.T) {
	s := newScene(Config{}, nil)
	bind(100, 1, srv, "127.0.0.1:80")(s)
	s.table.SetBootTime(boot.Add(time.Hour))
	bind(200, 2, srv, "127.0.0.1:81")(s)
	want := []string{"100ms #1 bind /10 127.0.0.1:80", "3600200ms #2 bind /10 127.0.0.1:81"}
	if d := cmp.Diff(want, s.text); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
}

// bounded fails a step that does not end.
func bounded(st step) step {
	return func(s *scene) {
		done := make(chan struct{})
		go func() { defer close(done); st(s) }() // ends with the step, or never: the scene says so
		select {
		case <-done:
		case <-time.After(time.Second):
			s.stuck = true
		}
	}
}
