// SPDX-License-Identifier: Apache-2.0

// Package flow is the model: events of the kernel in, finished records out. It names both ends of
// a connection, keeps the ledger of ports, and says why a call failed. It does no I/O, reads no
// clock and starts no goroutine: time comes with the events, look-ups are arguments.
package flow

import (
	"net/netip"
	"time"
)

// Config is what a Table needs from outside. Emit is required; a nil look-up knows nothing.
type Config struct {
	Emit     func(*Record) // called for each finished record; the record is valid during the call
	Filter   Filter
	UserName func(uid uint32) string   // "" where the number has no name
	Process  func(pid uint32) *Process // reads a running process that no event announced
	Args     func([]string) []string   // rewrites a command line before it is kept
	Summary  bool                      // connections are counted, Summarize writes what came of it
	Asks     bool                      // somebody answers WantsAnswer
	MaxDoubt time.Duration             // how long a failure waits for that; 0: 140 ms
	BootTime time.Time                 // wall time of CLOCK_BOOTTIME 0
}

// Limits of the tables. Smaller loses names and holders on busy hosts, larger costs memory.
const (
	maxExited = 16384  // processes remembered after their exit
	maxAlive  = 65536  // processes in all; more only where exits were lost
	maxSocks  = 131072 // sockets that hold a port, twice what the kernel side can
	maxPorts  = 65536  // ports remembered after their last holder left
	maxConns  = 262144 // connections, as many as the kernel side can hold twice over
	maxFlows  = 32768  // UDP flows, as in the kernel side's flow_by_tuple
)

// settle is how long a connect record waits for the event that completes it: the listen() that
// another CPU has not reported yet, or the refusal of a first datagram. Both follow within
// microseconds; the contract allows a record 200 ms.
const settle = 20 * time.Millisecond

// Table is the model's state. Its methods must be called from one goroutine.
type Table struct {
	cfg   Config
	procs processes
	ports map[portKey]*port
	socks map[uint64]*sock
	conns map[uint64]*conn
	flows int // UDP among conns

	servers   map[serverKey]map[*sock]struct{} // listeners, and UDP sockets that bind() was called for, in every namespace
	pending   []*conn                          // connects that wait, oldest first
	snapshot  snapshot
	holding   map[*Process]int // sockets of the ledger that a process holds
	lookAt    uint64           // when the table of open files is due, after a fork; 0: it is not
	lookedAt  uint64           // when it was looked at last
	lookTook  time.Duration
	dialled   bool                           // there were connections since
	datagrams map[datagramKey]*SummaryRecord // of this interval
	doubts    []doubt                        // failures that wait for an answer, oldest first
	answers   map[uint32]*Answer
	askedAt   uint64
	jiffy     time.Duration // 0: not known
	passedAt  uint64        // when a process got a descriptor from another last
	sees      bool          // every connection is told of: the kernel side drops none
	endless   bool          // the end of no TCP connection is told of: none is kept
	lost      map[string]uint64

	now     uint64 // of the event being observed
	rec     Record // the one record, filled anew for each event
	recSock SockRecord
	recConn ConnRecord
	free    []*conn // of closed connections, used again: the hot path does not allocate
	group   []*sock // of nameServer, likewise
	counts  eventCounts
	all     bool // no filter: each record comes out
}

// eventCounts counts records by event. There are ten: looking at each costs less than a map's hash.
type eventCounts []eventCount

type eventCount struct {
	event string
	n     uint64
}

func (c *eventCounts) add(event string) {
	for i := range *c {
		if (*c)[i].event == event {
			(*c)[i].n++
			return
		}
	}
	*c = append(*c, eventCount{event, 1})
}

// New makes an empty table.
func New(cfg Config) *Table {
	t := &Table{
		cfg:       cfg,
		ports:     make(map[portKey]*port),
		socks:     make(map[uint64]*sock),
		conns:     make(map[uint64]*conn),
		servers:   make(map[serverKey]map[*sock]struct{}),
		lost:      make(map[string]uint64),
		holding:   make(map[*Process]int),
		datagrams: make(map[datagramKey]*SummaryRecord),
		sees:      !cfg.Summary && !cfg.Filter.Drops(),
		endless:   cfg.Summary || cfg.Filter.endless(),
		all:       !cfg.Filter.Drops(),
	}
	if t.cfg.MaxDoubt == 0 {
		t.cfg.MaxDoubt = maxDoubt
	}
	t.procs.init(&t.cfg)
	return t
}

// SetBootTime corrects the wall clock, which may be stepped while tracing.
func (t *Table) SetBootTime(boot time.Time) { t.cfg.BootTime = boot; t.procs.cfg = &t.cfg }

// wall is the one place where kernel time becomes wall time.
func (t *Table) wall(boottime uint64) time.Time {
	return t.cfg.BootTime.Add(time.Duration(boottime))
}

// Tick lets out the records that have waited long enough; now is CLOCK_BOOTTIME. Call it after
// each batch.
func (t *Table) Tick(now uint64) {
	t.now = now
	n := 0
	for _, c := range t.pending {
		if c.pending && now < c.settleAt {
			break
		}
		n++
		if c.pending {
			t.emitConnect(c)
		}
		if c.queued = false; c.dropped {
			t.free = append(t.free, c)
		}
	}
	t.pending = t.pending[:copy(t.pending, t.pending[n:])]
	if len(t.doubts) > 0 {
		t.resolve(func(d *doubt) bool {
			_, _, at := d.about()
			return now >= at+uint64(t.cfg.MaxDoubt)
		})
	}
}

// Waiting says whether Tick, WantsLook or WantsAnswer have something to do soon.
func (t *Table) Waiting() bool { return len(t.pending)+len(t.doubts) > 0 || t.lookAt != 0 }

// Drain lets out every record that waits, as tracing ends.
func (t *Table) Drain() { t.Tick(^uint64(0)) }

// Counts gives how many records were let out, by event. A stop record has them, itself among them.
func (t *Table) Counts() map[string]uint64 {
	counts := make(map[string]uint64, len(t.counts))
	for _, c := range t.counts {
		counts[c.event] = c.n
	}
	return counts
}

// Where the table itself loses, as lost records have it.
const (
	lostConns = "connection ledger"
	lostSocks = "socket ledger"
)

// Places names where a Table can lose something.
func Places() []string { return []string{lostConns, lostSocks} }

// TakeLost gives what the table itself had to forget since the last call, by place.
func (t *Table) TakeLost() map[string]uint64 {
	lost := t.lost
	t.lost = make(map[string]uint64)
	return lost
}

// Housekeep writes a start, lost or stop record.
func (t *Table) Housekeep(r *Record) {
	t.counts.add(r.Event)
	if r.Stop != nil {
		r.Stop.Counts = t.Counts()
	}
	t.cfg.Emit(r)
}

// ObserveSock takes a bind, a listen, a release, or the connect() of a UDP socket.
func (t *Table) ObserveSock(ev *SockEvent) {
	t.now = ev.Time
	switch ev.Kind {
	case KindBind:
		t.bound(ev)
	case KindListen:
		t.listened(ev)
	case KindRelease:
		t.released(ev)
	case KindPeer:
		if k := t.socks[ev.ID]; k != nil {
			k.peer = peerOf(ev)
		}
	}
}

// ObserveConn takes a connect, an accept, a close or a refused UDP flow.
func (t *Table) ObserveConn(ev *ConnEvent) {
	t.now = ev.Time
	switch ev.Kind {
	case KindConnect:
		t.connected(ev)
	case KindAccept:
		t.accepted(ev)
	case KindClose:
		t.closed(ev)
	case KindRefused:
		t.refused(ev)
	}
}

// ObserveTask takes a fork, an exit, a renaming, or a descriptor that came from another process.
func (t *Table) ObserveTask(ev *TaskEvent) {
	t.now = ev.Time
	switch ev.Kind {
	case KindFork:
		t.procs.fork(ev)
		t.forked(ev)
	case KindExit:
		t.procs.exit(ev, t.wall(ev.Time))
	case KindRename:
		t.procs.rename(ev)
	case KindReceived:
		if p := t.procs.find(ev.Task); p != nil {
			p.received = ev.Time
		}
		if t.passedAt = ev.Time; ev.Flags&FlagAccepted == 0 {
			t.lookSoon(ev.Time)
		}
	}
}

// ObserveExec takes an execve(2), or a move into another cgroup.
func (t *Table) ObserveExec(ev *ExecEvent) {
	t.now = ev.Time
	if ev.Kind == KindMoved {
		t.procs.moved(ev)
		return
	}
	t.procs.exec(ev)
}

// AddProcess tells of a process that was there before tracing began.
func (t *Table) AddProcess(p *Process) { t.procs.add(p) }

// Suspect says that events were lost which names of processes come from: from now on, who acts is
// read again first.
func (t *Table) Suspect() { t.procs.era++ }

// Plant makes a process the root of the tree that Filter.Tree asks for: its descendants belong too.
func (t *Table) Plant(pid uint32) { t.procs.plant(pid) }

// begin clears the record for a new event.
func (t *Table) begin(event string, time uint64) *Record {
	t.rec = Record{Event: event, Time: t.wall(time)}
	return &t.rec
}

func (t *Table) beginSock(event string, ev *SockEvent) (*Record, *SockRecord) {
	r := t.begin(event, ev.Time)
	t.recSock = SockRecord{}
	r.Sock = &t.recSock
	r.ID, r.Errno, r.Proto, r.Netns = ev.ID, ev.Error, ev.Proto, ev.Netns
	r.Port, r.HasPort = ev.Port, ev.Port != 0
	r.Sock.Address = addrOf(ev.Addr)
	r.IPv6 = r.Sock.Address.Is6()
	r.Sock.Process = t.actor(ev.Actor)
	return r, r.Sock
}

// actor names the process that made a call.
func (t *Table) actor(o Owner) Actor {
	p := t.procs.find(ProcessID{Start: o.Start, PID: o.PID, UID: o.UID})
	if p == nil {
		return Actor{}
	}
	return Actor{P: p, Attribution: "hook", Thread: cString(o.Thread[:])}
}

// emit lets a finished record out if the filter wants it.
func (t *Table) emit(r *Record) {
	if r.Failed() {
		r.Level = Warn
	}
	if r.Sock != nil && !t.cfg.Filter.Local && !reachable(r.Sock.Address) {
		return // the ledger knows it; it is no concern of loopback's
	}
	if !t.all && !t.cfg.Filter.Match(r) {
		return
	}
	if t.cfg.Summary && r.Conn != nil && !r.Preexisting {
		if r.Event == "connect" {
			t.tallyFlow(r)
		}
		return
	}
	t.counts.add(r.Event)
	t.cfg.Emit(r)
}

// reachable says whether a socket bound to addr can be reached on loopback.
func reachable(addr netip.Addr) bool { return addr.IsLoopback() || addr.IsUnspecified() }

// cString gives the text before the first NUL.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
