// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"testing"
)

// steady is a table in the middle of its work, and the three events of one more connection.
func steady(filter Filter) (*Table, [3]*ConnEvent) {
	t := New(Config{Emit: func(*Record) {}, BootTime: boot, Filter: filter})
	s := &scene{table: t}
	for _, p := range []prog{srv, cli, oth} {
		exec(p.start, p)(s)
	}
	serve(100, 1, srv, "127.0.0.1:80")(s)
	for i := range uint64(1000) { // others, open all the time
		tcp(1000+i, oth, fmt.Sprintf("127.0.0.1:%d", 50000+i), "127.0.0.1:80").connect(110)(s)
	}
	c := tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80")
	c.ev.Server = srv.id()
	events := [3]*ConnEvent{c.event(KindConnect, 120, nil), c.event(KindAccept, 121, nil), c.event(KindClose, 122, []opt{flags(FlagAccepted), closedBy(CloserClient)})}
	events[0].Server = ProcessID{}
	return t, events
}

// filters are what the hot path may have to look at.
var filters = []struct {
	name   string
	filter Filter
}{
	{"unfiltered", Filter{}},
	{"port", Filter{Ports: Set[uint16]{Include: []uint16{80}}}},
	{"comm", Filter{Comms: Set[string]{Include: []string{"cli"}}}},
	{"target", Filter{Targets: []Target{{Port: 80}}}},
}

// The hot path does not allocate: a connection's three events, over and over.
func TestObserveConnAllocs(t *testing.T) {
	for _, f := range filters {
		t.Run(f.name, func(t *testing.T) {
			table, events := steady(f.filter)
			lifetime := func() {
				for _, ev := range events {
					ev.Time += 3 * msec
					table.ObserveConn(ev)
				}
				table.Tick(events[2].Time)
			}
			lifetime() // the first connection fills the free list
			if n := testing.AllocsPerRun(1000, lifetime); n != 0 {
				t.Errorf("%v allocations for connect, accept and close, want none", n)
			}
		})
	}
}

// A connect that has to wait for its listener is rare; it allocates no more than its own entry.
func TestObserveWaitingAllocs(t *testing.T) {
	table, events := steady(Filter{})
	for _, ev := range events {
		ev.ServerPort = 81 // where nobody is known to listen
	}
	lifetime := func() {
		for _, ev := range events {
			ev.Time += 3 * msec
			table.ObserveConn(ev)
		}
		table.Tick(events[2].Time + 100*msec)
	}
	lifetime()
	if n := testing.AllocsPerRun(1000, lifetime); n > 1 {
		t.Errorf("%v allocations for a connection whose connect waits, want at most 1", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	for _, f := range filters {
		b.Run("connection/"+f.name, func(b *testing.B) {
			table, events := steady(f.filter)
			b.ReportAllocs()
			for b.Loop() {
				for _, ev := range events {
					ev.Time += 3 * msec
					table.ObserveConn(ev)
				}
				table.Tick(events[2].Time)
			}
		})
	}
	b.Run("socket", func(b *testing.B) {
		table, _ := steady(Filter{})
		events := []*SockEvent{
			sockEvent(KindBind, 200, 2, srv, "127.0.0.1:81", nil),
			sockEvent(KindListen, 201, 2, srv, "127.0.0.1:81", nil),
			sockEvent(KindRelease, 202, 2, srv, "127.0.0.1:81", nil),
		}
		b.ReportAllocs()
		for b.Loop() {
			for _, ev := range events {
				table.ObserveSock(ev)
			}
		}
	})
	// A program that walks through ports must not stall the reader.
	b.Run("refused bind", func(b *testing.B) {
		table, _ := steady(Filter{})
		ev := sockEvent(KindBind, 200, 2, oth, "127.0.0.1:80", []opt{failed(eaddrinuse)})
		b.ReportAllocs()
		for b.Loop() {
			table.ObserveSock(ev)
		}
	})
	b.Run("no port left", func(b *testing.B) {
		table, _ := steady(Filter{})
		a := &Answer{Netns: home, Time: 1 << 62, Low: 32768, High: 60999}
		a.Index()
		table.Answer([]*Answer{a})
		ev := tcp(8, cli, "0.0.0.0:0", "127.0.0.1:80").event(KindConnect, 200, []opt{failed(eaddrnotavail)})
		b.ReportAllocs()
		for b.Loop() {
			ev.Time += msec
			table.ObserveConn(ev)
		}
	})
	b.Run("process", func(b *testing.B) {
		table, _ := steady(Filter{})
		s := &scene{table: table}
		b.ReportAllocs()
		i := uint64(0)
		for b.Loop() {
			i++
			p := prog{uint32(1000 + i%30000), 1000 + i, 0, "job"}
			fork(srv, p)(s)
			execBy(p.start, srv, p)(s)
			exit(p.start, p, 0)(s)
		}
	})
}
