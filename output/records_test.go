// SPDX-License-Identifier: Apache-2.0

package output

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

const (
	sampleNetns = 4026531840
	otherNetns  = 4026532201
)

// sampleTime is when the first record happens; each later one is a second after it.
var sampleTime = time.Date(2026, 11, 23, 10, 2, 1, 113_000_021, time.UTC)

var (
	localhost4 = netip.MustParseAddr("127.0.0.1")
	localhost6 = netip.MustParseAddr("::1")
	wildcard4  = netip.MustParseAddr("0.0.0.0")
	wildcard6  = netip.MustParseAddr("::")
)

func sampleActor(pid, uid uint32, name, command string) flow.Actor {
	p := &flow.Process{
		ProcessID:   flow.ProcessID{PID: pid, UID: uid, Start: uint64(pid) * 1000},
		ParentPID:   4000,
		Created:     sampleTime.Add(-time.Hour),
		Comm:        cutText(name, 15),
		ExeName:     name,
		ExePath:     "/usr/bin/" + name,
		CommandLine: command,
		Owner:       "root",
		Ancestors:   []flow.Ancestor{{PID: 4000, ExeName: "bash"}, {PID: 1, ExeName: "systemd"}},
	}
	if uid != 0 {
		p.Owner = "alice"
	}
	return flow.Actor{P: p, Attribution: "hook"}
}

func sampleServer() flow.Actor {
	a := sampleActor(4211, 1000, "node", "node server.js")
	a.P.Unit = "web.service"
	return a
}

func sampleClient() flow.Actor {
	return sampleActor(4302, 1000, "curl", "curl http://127.0.0.1:49342/")
}

// sampleContainer is nginx in a container, and its twin without a name.
func sampleContainer(name string) flow.Actor {
	a := sampleActor(812, 0, "nginx", "nginx: master process nginx -g daemon off;")
	a.P.Container = flow.Container{ID: strings.Repeat("4f1c0d2e", 8), Runtime: "docker", Name: name}
	return a
}

func sampleShared() flow.Actor {
	a := sampleActor(900, 33, "gunicorn", "gunicorn app:app")
	a.P.Owner = ""
	a.Attribution = "shared"
	for pid := uint32(900); pid < 904; pid++ {
		h := sampleActor(pid, 33, "gunicorn", "gunicorn app:app")
		h.Attribution = "snapshot"
		a.Holders = append(a.Holders, h)
	}
	return a
}

func short(a flow.Actor) flow.Actor {
	a.Short = true
	return a
}

// sampleSock is a successful socket record to be changed.
func sampleSock(event string, addr netip.Addr, port uint16, a flow.Actor) *flow.Record {
	return &flow.Record{
		Event: event, ID: 0xfedcba98, Proto: flow.TCP, IPv6: addr.Is6(), Netns: sampleNetns,
		Port: port, HasPort: port != 0,
		Sock: &flow.SockRecord{Address: addr, Process: a, Held: -1},
	}
}

func sampleConn(event string, addr netip.Addr, client, server flow.Actor) *flow.Record {
	return &flow.Record{
		Event: event, ID: 1<<64 - 1, Proto: flow.TCP, IPv6: addr.Is6(), Netns: sampleNetns,
		Port: 49342, HasPort: true,
		Conn: &flow.ConnRecord{
			Client:   flow.End{Address: addr, Port: 51234, HasPort: true, Process: client},
			Server:   flow.End{Address: addr, Port: 49342, HasPort: true, Process: server},
			Duration: 123 * time.Microsecond,
		},
	}
}

func fail(r *flow.Record, errno syscall.Errno) *flow.Record {
	r.Errno, r.Level = int32(errno), flow.Warn
	return r
}

func preexisting(r *flow.Record) *flow.Record {
	r.Preexisting = true
	if r.Conn != nil {
		r.Conn.Duration = -1
	}
	return r
}

func udp(r *flow.Record) *flow.Record {
	r.Proto = flow.UDP
	return r
}

func withSock(r *flow.Record, change func(*flow.SockRecord)) *flow.Record {
	change(r.Sock)
	return r
}

func withConn(r *flow.Record, change func(*flow.ConnRecord)) *flow.Record {
	change(r.Conn)
	return r
}

func ephemeralRange(s *flow.SockRecord) { s.RangeLow, s.RangeHigh = 32768, 60999 }

func request(s *flow.SockRecord, port uint16) {
	s.Requested, s.HasRequested = netip.AddrPortFrom(s.Address, port), true
}

// sample is one record with what is special about it. Every output is fed the same list.
type sample struct {
	name   string
	record *flow.Record
}

func samples() []sample {
	list := slices.Concat(sampleBinds(), sampleListens(), sampleReleases(), sampleConnects(),
		sampleRefusals(), sampleLater(), sampleHostile(), sampleHousekeeping())
	for i := range list {
		if r := list[i].record; r.Time.IsZero() {
			r.Time = sampleTime.Add(time.Duration(i) * time.Second)
		}
	}
	return list
}

func sampleBinds() []sample {
	bind := func(addr netip.Addr, port, asked uint16, a flow.Actor) *flow.Record {
		r := sampleSock("bind", addr, port, a)
		request(r.Sock, asked)
		r.Sock.Ephemeral = asked == 0 && port != 0
		return r
	}
	python := sampleActor(4400, 0, "python3", "python3 -m http.server 49342")
	inUse := func(h *flow.Holder) *flow.Record {
		return fail(withSock(bind(localhost4, 49342, 49342, python), func(s *flow.SockRecord) { s.Holder = h }), syscall.EADDRINUSE)
	}
	pool := func() *flow.EphemeralPorts {
		return &flow.EphemeralPorts{Low: 32768, High: 60999, InUse: 28232, Top: []flow.PortUser{
			{Process: sampleActor(77, 1000, "leaky", "leaky"), Count: 28000}, {Process: sampleContainer("web"), Count: 232},
		}}
	}
	since := sampleTime.Add(-1500 * time.Millisecond)
	return []sample{
		{"bind, port picked", withSock(bind(localhost4, 49342, 0, sampleServer()), ephemeralRange)},
		{"bind, asked for outside the range", withSock(bind(localhost4, 80, 80, sampleServer()), ephemeralRange)},
		{"bind, IPv6 only, in a container", withSock(bind(wildcard6, 8080, 8080, sampleContainer("web")), func(s *flow.SockRecord) { s.V6Only = true })},
		{"bind, thread", withSock(bind(localhost6, 8080, 8080, sampleServer()), func(s *flow.SockRecord) { s.Process.Thread = "worker-1" })},
		{"bind, implicit, UDP", udp(withSock(sampleSock("bind", wildcard4, 40001, sampleClient()), func(s *flow.SockRecord) { s.Ephemeral, s.Implicit = true, true }))},
		{"bind, no port yet", bind(localhost4, 0, 0, sampleClient())},
		{"bind, preexisting", udp(preexisting(sampleSock("bind", localhost6, 5353, flow.Actor{P: &flow.Process{ProcessID: flow.ProcessID{PID: 5, UID: 104}, Comm: "mdns"}, Attribution: "snapshot"})))},
		{"bind, preexisting, no owner", preexisting(sampleSock("bind", localhost4, 2049, flow.Actor{}))},
		{"bind, no permission", fail(bind(wildcard4, 80, 80, sampleClient()), syscall.EACCES)},
		{"bind, unexpected errno", fail(bind(localhost4, 80, 80, python), syscall.EINVAL)},
		{"bind, errno without a name", fail(bind(localhost4, 80, 80, python), 517)},
		{"bind, no free port", fail(withSock(bind(localhost4, 0, 0, sampleClient()), func(s *flow.SockRecord) { s.EphemeralPorts = pool() }), syscall.EADDRINUSE)},
		{"bind, in use, holder unknown", inUse(nil)},
		{"bind, held by a listener", inUse(&flow.Holder{Kind: flow.HolderListener, Address: localhost4, Port: 49342, Process: sampleActor(4555, 0, "node", "node"), Since: since})},
		{"bind, held by a shared wildcard listener", inUse(&flow.Holder{Kind: flow.HolderListener, Address: wildcard6, Port: 49342, Process: sampleShared(), Since: since.Add(-72 * time.Hour)})},
		{"bind, held by a bound socket", inUse(&flow.Holder{Kind: flow.HolderBound, Address: localhost4, Port: 49342, Process: sampleContainer(""), Since: since})},
		{"bind, held by a connection", inUse(&flow.Holder{Kind: flow.HolderConnection, Address: netip.MustParseAddr("10.0.0.5"), Port: 49342, Process: sampleClient(), Since: since, State: "ESTABLISHED", Peer: netip.MustParseAddrPort("192.0.2.7:443")})},
		{"bind, held by an orphan", inUse(&flow.Holder{Kind: flow.HolderConnection, Address: localhost4, Port: 49342, State: "FIN_WAIT2", Peer: netip.MustParseAddrPort("127.0.0.1:51234")})},
		{"bind, held by TIME_WAIT", inUse(&flow.Holder{Kind: flow.HolderTimeWait, Address: localhost4, Port: 49342, Process: sampleServer(), Since: since, Expires: 42300 * time.Millisecond})},
		{"bind, held by TIME_WAIT of nobody known", inUse(&flow.Holder{Kind: flow.HolderTimeWait, Address: localhost4, Port: 49342, Expires: time.Second})},
	}
}

func sampleListens() []sample {
	listen := func(addr netip.Addr, port uint16, a flow.Actor) *flow.Record {
		return withSock(sampleSock("listen", addr, port, a), func(s *flow.SockRecord) {
			s.Backlog, s.Exposed = 511, !addr.IsLoopback()
		})
	}
	exposed := listen(wildcard4, 49342, sampleServer())
	exposed.Level = flow.Warn
	inUse := fail(listen(localhost4, 49342, sampleServer()), syscall.EADDRINUSE)
	inUse.Sock.Holder = &flow.Holder{Kind: flow.HolderListener, Address: localhost4, Port: 49342, Process: sampleServer()}
	return []sample{
		{"listen", listen(localhost4, 49342, sampleServer())},
		{"listen, exposed on a picked port", exposed},
		{"listen, exposed, shared", listen(wildcard6, 8000, sampleShared())},
		{"listen, preexisting", preexisting(listen(wildcard4, 22, sampleActor(700, 0, "sshd", "sshd -D")))},
		{"listen, in use", inUse},
	}
}

func sampleReleases() []sample {
	release := func(reason string, x flow.Exit, held time.Duration) *flow.Record {
		return withSock(sampleSock("release", localhost4, 49342, sampleServer()), func(s *flow.SockRecord) {
			s.Reason, s.Exit, s.Held = reason, x, held
		})
	}
	return []sample{
		{"release, closed", release("close", flow.Exit{}, 2693*time.Millisecond)},
		{"release, shut down", release("shutdown", flow.Exit{}, 3*time.Minute+12*time.Second)},
		{"release, exited", release("exit", flow.Exit{Known: true}, 5*time.Hour+3*time.Minute)},
		{"release, killed", release("exit", flow.Exit{Known: true, Signal: int(syscall.SIGKILL)}, 999*time.Millisecond)},
		{"release, killed by a real-time signal", release("exit", flow.Exit{Known: true, Signal: 37}, 80*time.Hour)},
		{"release, exit unknown", release("exit", flow.Exit{}, 0)},
		{"release, preexisting", preexisting(release("close", flow.Exit{}, -1))},
		{"release, UDP, reason unknown", udp(release("", flow.Exit{}, 850*time.Nanosecond))},
	}
}

func sampleConnects() []sample {
	anyone := flow.Actor{}
	self := withConn(sampleConn("connect", localhost4, sampleClient(), sampleClient()), func(c *flow.ConnRecord) {
		c.Self, c.Client.Port = true, c.Server.Port
	})
	full := fail(withConn(sampleConn("connect", localhost4, sampleClient(), anyone), func(c *flow.ConnRecord) {
		c.Client.Port, c.Client.HasPort, c.Duration = 0, false, -1
		c.EphemeralPorts = &flow.EphemeralPorts{Low: 32768, High: 60999, InUse: 28232, Top: []flow.PortUser{{Process: sampleClient(), Count: 28232}}}
	}), syscall.EADDRNOTAVAIL)
	slow := func(errno syscall.Errno) *flow.Record {
		return fail(withConn(sampleConn("connect", localhost4, sampleClient(), anyone), func(c *flow.ConnRecord) {
			c.Duration, c.Retransmits = 130*time.Second, 6
		}), errno)
	}
	return []sample{
		{"connect", sampleConn("connect", localhost4, sampleClient(), sampleServer())},
		{"connect, IPv6, containers", sampleConn("connect", localhost6, sampleContainer("web"), sampleContainer(""))},
		{"connect, shared listener", sampleConn("connect", localhost4, sampleClient(), sampleShared())},
		{"connect, several holders", withConn(sampleConn("connect", localhost4, sampleClient(), anyone), func(c *flow.ConnRecord) { c.Server.Holders = sampleShared().Holders })},
		{"connect, nobody known", sampleConn("connect", localhost4, anyone, anyone)},
		{"connect, preexisting", preexisting(sampleConn("connect", localhost4, sampleClient(), sampleServer()))},
		{"connect, to itself", self},
		{"connect, retransmits", withConn(sampleConn("connect", localhost4, sampleClient(), sampleServer()), func(c *flow.ConnRecord) { c.Retransmits, c.Duration = 1, 1_031*time.Millisecond })},
		{"connect, accept queue full", withConn(sampleConn("connect", localhost4, sampleClient(), sampleServer()), func(c *flow.ConnRecord) {
			c.HasEphemeral, c.Ephemeral = true, true
			c.Retransmits, c.Duration, c.AcceptQueue = 1, 1_031*time.Millisecond, &flow.AcceptQueue{Length: 129, Limit: 128}
		})},
		{"connect, UDP", udp(sampleConn("connect", localhost4, sampleClient(), sampleServer()))},
		{"connect, timed out", slow(syscall.ETIMEDOUT)},
		{"connect, abandoned", slow(syscall.ECANCELED)},
		{"connect, host unreachable", fail(sampleConn("connect", localhost4, sampleClient(), anyone), syscall.EHOSTUNREACH)},
		{"connect, no free port", full},
		{"connect, address not available", fail(sampleConn("connect", localhost6, sampleClient(), anyone), syscall.EADDRNOTAVAIL)},
	}
}

func sampleRefusals() []sample {
	refused := func(change func(*flow.ConnRecord)) *flow.Record {
		return fail(withConn(sampleConn("connect", localhost4, sampleClient(), flow.Actor{}), change), syscall.ECONNREFUSED)
	}
	killed := &flow.LastListener{
		Process: sampleServer(), Since: sampleTime, Until: sampleTime.Add(3688 * time.Millisecond), Reason: "exit",
		Exit: flow.Exit{Known: true, Signal: int(syscall.SIGKILL)},
	}
	crashed := &flow.LastListener{
		Process: sampleContainer("web"), Since: sampleTime.Add(-50 * time.Hour), Until: sampleTime.Add(-48 * time.Hour), Reason: "exit",
		Exit: flow.Exit{Known: true, Code: 1},
	}
	family := flow.Nearby{Address: localhost6, Port: 49342, Process: sampleServer(), Netns: sampleNetns, Because: "family"}
	address := flow.Nearby{Address: netip.MustParseAddr("127.0.0.2"), Port: 49342, Process: sampleServer(), Netns: sampleNetns, Because: "address"}
	netns := flow.Nearby{Address: wildcard4, Port: 49342, Process: sampleContainer("web"), Netns: otherNetns, Because: "netns"}
	unknown := flow.Nearby{Address: wildcard4, Port: 49342, Netns: otherNetns, Because: "netns"}
	return []sample{
		{"refused, nothing known", refused(func(*flow.ConnRecord) {})},
		{"refused, listener killed", refused(func(c *flow.ConnRecord) { c.LastListener = killed })},
		{"refused, listener closed", refused(func(c *flow.ConnRecord) { c.LastListener = &flow.LastListener{Until: sampleTime, Reason: "close"} })},
		{"refused, other family", refused(func(c *flow.ConnRecord) { c.Nearby = []flow.Nearby{family} })},
		{"refused, listener crashed, several nearby", refused(func(c *flow.ConnRecord) {
			c.LastListener, c.Nearby = crashed, []flow.Nearby{address, family, netns, unknown}
		})},
		{"refused, UDP", udp(refused(func(*flow.ConnRecord) {}))},
	}
}

func sampleLater() []sample {
	accept := func(server flow.Actor) *flow.Record {
		return sampleConn("accept", localhost4, short(sampleClient()), server)
	}
	closed := func(change func(*flow.ConnRecord)) *flow.Record {
		return withConn(sampleConn("close", localhost4, short(sampleClient()), short(sampleServer())), func(c *flow.ConnRecord) {
			c.Duration, c.HasBytes, c.C2S, c.S2C, c.Accepted, c.ClosedBy = 1234*time.Millisecond, true, 78, 1234567, true, "client"
			change(c)
		})
	}
	return []sample{
		{"accept", accept(short(sampleServer()))},
		{"accept, by another than listens", withConn(accept(sampleShared()), func(c *flow.ConnRecord) { c.Listener = sampleActor(1, 0, "systemd", "/sbin/init") })},
		{"accept, preexisting", preexisting(accept(sampleServer()))},
		{"close", closed(func(*flow.ConnRecord) {})},
		{"close, reset, never accepted", closed(func(c *flow.ConnRecord) { c.Reset, c.Accepted, c.ClosedBy, c.S2C = true, false, "server", 0 })},
		{"close, gigabytes", closed(func(c *flow.ConnRecord) { c.C2S, c.S2C = 12_345_678_901, 45_600 })},
		{"close, preexisting", preexisting(closed(func(c *flow.ConnRecord) { c.ClosedBy = "" }))},
		{"close, UDP", udp(closed(func(c *flow.ConnRecord) { c.HasBytes, c.Accepted, c.ClosedBy = false, false, "" }))},
		{"close, timed out", fail(closed(func(c *flow.ConnRecord) { c.ClosedBy = "" }), syscall.ETIMEDOUT)},
	}
}

func sampleHostile() []sample {
	evil := sampleActor(666, 1000, "\x1b]0;owned\x07\x1b[2J", "sh -c \x1b[31m\nfake line\r\u2028 \"quoted\" \\ \xff\xfe")
	evil.P.ExePath = "/tmp/\u202egpj.exe"
	evil.P.Owner = "m\u00e4llory\u009b1m"
	evil.P.Container = flow.Container{ID: "lxc\x1b[0m", Name: "web\u2066\u200f"}
	evil.Thread = "\u061c\x7f"
	long := sampleActor(667, 1000, strings.Repeat("ü", 120), "x")
	nameless := flow.Actor{P: &flow.Process{ProcessID: flow.ProcessID{PID: 668}}, Attribution: "hook"}
	return []sample{
		{"hostile client and server", sampleConn("connect", localhost4, evil, evil)},
		{"hostile listener", withSock(sampleSock("listen", localhost4, 1, evil), func(s *flow.SockRecord) { s.Backlog = 1 })},
		{"long name", withSock(sampleSock("listen", localhost4, 1, long), func(s *flow.SockRecord) { s.Backlog = 1 })},
		{"nameless process", withSock(sampleSock("listen", localhost4, 1, nameless), func(s *flow.SockRecord) { s.Backlog = 1 })},
	}
}

func sampleHousekeeping() []sample {
	const boot = "3f2c1b0a-9d8e-4c7b-a6f5-0123456789ab"
	return []sample{
		{"summary", &flow.Record{Event: "summary", Proto: flow.TCP, Port: 5432, HasPort: true, Summary: &flow.SummaryRecord{
			Client: flow.Program{Comm: "web", ExeName: "web"}, Server: flow.Program{Comm: "postgres", ExeName: "postgres", P: sampleServer().P},
			Count: 1200, HasBytes: true, C2S: 78_000, S2C: 1_230_000,
			Handshake: flow.Handshake{P50: 50 * time.Microsecond, P90: 90 * time.Microsecond, P99: 120 * time.Microsecond, Max: 1_031 * time.Millisecond},
			First:     sampleTime, Last: sampleTime.Add(time.Second),
		}}},
		{"summary of refusals", fail(&flow.Record{Event: "summary", Proto: flow.TCP, Port: 5433, HasPort: true, Summary: &flow.SummaryRecord{
			Client: flow.Program{Comm: "web"}, Count: 1, First: sampleTime, Last: sampleTime,
		}}, syscall.ECONNREFUSED)},
		{"summary of flows", &flow.Record{Event: "summary", Proto: flow.UDP, Port: 53, HasPort: true, Summary: &flow.SummaryRecord{
			Client: flow.Program{Comm: "dig"}, Server: flow.Program{Comm: "unbound"}, Count: 3, First: sampleTime, Last: sampleTime,
		}}},
		{"start", &flow.Record{Event: "start", Start: &flow.StartRecord{PID: samplePID, Hooks: "fentry", Kernel: "6.12.48-amd64", Version: "1.0.0", Host: "box", BootID: boot}}},
		{"start, filters", &flow.Record{Event: "start", Start: &flow.StartRecord{
			PID:   samplePID,
			Hooks: "kprobe", Kernel: "5.10.0", Version: "1.0.0", Host: "box", BootID: boot,
			Filters: map[string]any{"port": []int{49342, 8080}, "failed": true, "comm": "cu\x1brl"},
		}}},
		{"lost", &flow.Record{Event: "lost", Level: flow.Warn, Lost: &flow.LostRecord{Count: 17, Where: "ring buffer", Since: sampleTime}}},
		{"stop", &flow.Record{Event: "stop", Stop: &flow.StopRecord{Counts: map[string]uint64{"start": 1, "bind": 3, "connect": 12, "lost": 0}, Duration: time.Minute}}},
		{"stop, lost", &flow.Record{Event: "stop", Stop: &flow.StopRecord{Counts: map[string]uint64{"lost": 1, "close": 2}, Lost: 17, Duration: 1500 * time.Millisecond}}},
		{"summary, all alike", &flow.Record{Event: "summary", Proto: flow.TCP, Port: 5432, HasPort: true, Netns: 4026531840, Summary: &flow.SummaryRecord{
			Client:  flow.Program{Comm: "web", ExeName: "web", HasUser: true, UID: 0, Owner: "root", Container: flow.Container{ID: "0123456789ab", Runtime: "docker", Name: "shop"}},
			Server:  flow.Program{Comm: "postgres", ExeName: "postgres", HasUser: true, UID: 70, P: sampleServer().P},
			Address: localhost4, HasEphemeral: true, Ephemeral: true, Count: 1200, First: sampleTime, Last: sampleTime.Add(time.Second),
		}}},
		{"summary of an address alone", fail(&flow.Record{Event: "summary", Proto: flow.TCP, Port: 5433, HasPort: true, Summary: &flow.SummaryRecord{
			Address: localhost4, Count: 7, First: sampleTime, Last: sampleTime,
		}}, syscall.ECONNREFUSED)},
	}
}
