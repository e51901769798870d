// SPDX-License-Identifier: Apache-2.0

package history

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/tracer/flow"
)

// busyHost makes records as a busy host's would be: forty services that clients of their own dial with pooled and with
// short connections, test runs that take ports from the kernel, a port that is refused, and nights when less happens.
// The same seed makes the same host. Its busiest service takes a third of all connections.
type busyHost struct {
	rng      *rand.Rand
	now      time.Time
	id       uint64
	pid      uint32
	services []service
	clients  []*flow.Process
	emit     func(*flow.Record) error
	err      error // of emit, the first
}

// service is a server of the host: who runs it, and since which socket.
type service struct {
	port    uint16
	process *flow.Process
	sock    uint64
	clients []*flow.Process // who dials it
}

const (
	hostServices = 40
	hostClients  = 120
	// busyPort is dialled most; deadPort is dialled, and nobody ever listens there.
	busyPort = 5432
	deadPort = 9092
)

func newBusyHost(from time.Time, emit func(*flow.Record) error) *busyHost {
	h := &busyHost{rng: rand.New(rand.NewPCG(1, 2)), now: from, pid: 1000, emit: emit}
	h.write(&flow.Record{Event: "start", Time: from, Start: &flow.StartRecord{Hooks: "fentry", Kernel: "6.12.0", Version: "1.0.0", Host: "busy", PID: 900}})
	for i := range hostClients {
		h.clients = append(h.clients, h.program(fmt.Sprintf("worker-%d", i), "worker"))
	}
	for i := range hostServices {
		s := service{port: uint16(busyPort + 7*i)}
		for range 1 + i%9 {
			s.clients = append(s.clients, h.clients[h.rng.IntN(len(h.clients))])
		}
		h.services = append(h.services, s)
		h.serve(&h.services[i])
	}
	return h
}

func (h *busyHost) write(r *flow.Record) {
	if h.err == nil {
		h.err = h.emit(r)
	}
}

// program is a new process, as those of a service are: with a unit, a container for every third, and a line of arguments.
func (h *busyHost) program(name, kind string) *flow.Process {
	h.pid++
	p := &flow.Process{
		ProcessID: flow.ProcessID{PID: h.pid, UID: 1000 + h.pid%7}, ParentPID: 1, Created: h.now, Comm: name[:min(len(name), 15)], ExeName: name,
		ExePath: "/usr/lib/" + kind + "/bin/" + name, CommandLine: "/usr/lib/" + kind + "/bin/" + name + " --config /etc/" + kind + "/" + name + ".toml --listen 127.0.0.1",
		Owner: fmt.Sprintf("%s-%d", kind, h.pid%7), Unit: name + ".service", Ancestors: []flow.Ancestor{{PID: 1, ExeName: "systemd"}},
	}
	if h.pid%3 == 0 {
		p.Container = flow.Container{ID: fmt.Sprintf("%064x", h.rng.Uint64()), Runtime: "docker"}
	}
	return p
}

// serve starts a service, or restarts it as another process.
func (h *busyHost) serve(s *service) {
	if s.process != nil {
		h.socket("release", s.sock, s.port, s.process, func(r *flow.SockRecord) { r.Held, r.Reason = h.now.Sub(s.process.Created), "exit" })
	}
	s.process = h.program(fmt.Sprintf("service-%d", s.port), "service")
	h.id++
	s.sock = h.id
	asked := func(r *flow.SockRecord) { r.HasRequested, r.Requested = true, netip.AddrPortFrom(r.Address, s.port) }
	h.socket("bind", s.sock, s.port, s.process, asked)
	h.socket("listen", s.sock, s.port, s.process, func(r *flow.SockRecord) { r.Backlog = 128 })
}

func (h *busyHost) socket(event string, id uint64, port uint16, p *flow.Process, more func(*flow.SockRecord)) {
	r := &flow.Record{
		Event: event, Time: h.now, ID: id, Proto: flow.TCP, Netns: 4026531840, Port: port, HasPort: true,
		Sock: &flow.SockRecord{Address: hostAddr, Held: -1, Process: flow.Actor{P: p, Attribution: "hook"}},
	}
	more(r.Sock)
	h.write(r)
}

var hostAddr = netip.MustParseAddr("127.0.0.1")

// connection is one connect, accept and close; or one refusal, of a service without a process.
func (h *busyHost) connection(client *flow.Process, s *service) {
	h.id++
	end := func(p *flow.Process, port uint16, short bool) flow.End {
		e := flow.End{Address: hostAddr, Port: port, HasPort: true}
		if p != nil {
			e.Process = flow.Actor{P: p, Attribution: "hook", Short: short}
		}
		return e
	}
	port := uint16(32768 + h.rng.IntN(28232))
	record := func(event string, at time.Time, d time.Duration) *flow.Record {
		short := event != "connect"
		return &flow.Record{
			Event: event, Time: at, ID: h.id, Proto: flow.TCP, Netns: 4026531840, Port: s.port, HasPort: true,
			Conn: &flow.ConnRecord{Client: end(client, port, short), Server: end(s.process, s.port, short), Duration: d},
		}
	}
	connect := record("connect", h.now, 40*time.Microsecond)
	if s.process == nil {
		connect.Errno, connect.Level = int32(unix.ECONNREFUSED), flow.Warn
		h.write(connect)
		return
	}
	h.write(connect)
	h.write(record("accept", h.now.Add(90*time.Microsecond), 50*time.Microsecond))
	last := time.Duration(1+h.rng.IntN(20)) * time.Millisecond
	end1 := record("close", h.now.Add(last), last)
	end1.Conn.HasBytes, end1.Conn.C2S, end1.Conn.S2C, end1.Conn.ClosedBy, end1.Conn.Accepted = true, h.rng.Uint64N(4000), h.rng.Uint64N(100000), "client", true
	h.write(end1)
}

// testRun is a short server on a port that the kernel picks, with one client.
func (h *busyHost) testRun() {
	s := service{port: uint16(32768 + h.rng.IntN(28232)), process: h.program(fmt.Sprintf("suite-%d.test", h.rng.IntN(50)), "ci")}
	h.id++
	s.sock = h.id
	h.socket("bind", s.sock, s.port, s.process, func(r *flow.SockRecord) {
		r.HasRequested, r.Requested, r.Ephemeral, r.RangeLow, r.RangeHigh = true, netip.AddrPortFrom(hostAddr, 0), true, 32768, 60999
	})
	h.socket("listen", s.sock, s.port, s.process, func(r *flow.SockRecord) { r.Backlog = 4096 })
	h.connection(s.process, &s)
	h.now = h.now.Add(30 * time.Millisecond)
	h.socket("release", s.sock, s.port, s.process, func(r *flow.SockRecord) { r.Held, r.Reason = 30*time.Millisecond, "close" })
}

// live goes on until then, and emits so many records or a few more.
func (h *busyHost) live(until time.Time, records int) error {
	begin, span := h.now, until.Sub(h.now)
	const perStory = 3
	stories := records / perStory
	for i := 0; i < stories && h.err == nil; i++ {
		h.now = begin.Add(dayTime(float64(i) / float64(stories) * span.Hours() / 24))
		switch n := h.rng.IntN(1000); {
		case n < 30:
			h.testRun()
		case n < 40:
			h.connection(h.clients[n%3], &service{port: deadPort})
		case n == 40 && h.rng.IntN(20) == 0:
			h.serve(&h.services[h.rng.IntN(hostServices)])
		default:
			s := &h.services[int(float64(hostServices)*h.rng.Float64()*h.rng.Float64()*h.rng.Float64())]
			h.connection(s.clients[h.rng.IntN(len(s.clients))], s)
		}
	}
	return h.err
}

// dayTime makes the even pace of days uneven: the first third of a day has a tenth of its work.
func dayTime(days float64) time.Duration {
	const night, share = 1.0 / 3, 0.1
	whole, part := math.Modf(days)
	if part < share {
		part *= night / share
	} else {
		part = night + (part-share)*(1-night)/(1-share)
	}
	return time.Duration((whole + part) * 24 * float64(time.Hour))
}
