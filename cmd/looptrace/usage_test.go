// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

// TestUsage: a port is counted once, whether bind() took it, a connection or a first datagram.
func TestUsage(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	program := func(pid uint32, comm, exe string) flow.Actor {
		return flow.Actor{P: &flow.Process{ProcessID: flow.ProcessID{PID: pid, UID: 1000}, Comm: comm, ExeName: exe, CommandLine: comm + " -x", Owner: "ann"}}
	}
	curl, python, node := program(1, "curl", "curl"), program(2, "python3", "python3.11"), program(3, "node", "node")
	bind := func(event string, port uint16, who flow.Actor) *flow.Record {
		return &flow.Record{
			Event: event, Time: at, Proto: flow.TCP, Netns: 1, Port: port, HasPort: true,
			Sock: &flow.SockRecord{Address: netip.IPv6Loopback(), Process: who, Ephemeral: true, Held: -1},
		}
	}
	connect := func(proto, port, server uint16, who flow.Actor) *flow.Record {
		return &flow.Record{
			Event: "connect", Time: at, Proto: proto, Netns: 1, Port: server, HasPort: true,
			Conn: &flow.ConnRecord{Client: flow.End{Port: port, HasPort: true, Process: who}, HasEphemeral: true, Ephemeral: true},
		}
	}
	chosen := connect(flow.TCP, 5000, 80, curl)
	chosen.Conn.Ephemeral = false
	refused := connect(flow.TCP, 40003, 81, curl)
	refused.Errno = 111
	before := connect(flow.TCP, 40004, 80, curl)
	before.Preexisting = true
	sum := &flow.Record{Event: "summary", Time: at, Proto: flow.TCP, Port: 80, HasPort: true, Summary: &flow.SummaryRecord{
		Client:       flow.Program{Comm: "python3", ExeName: "python3.11", HasUser: true, UID: 1000, Owner: "ann"},
		HasEphemeral: true, Ephemeral: true, Count: 500, First: at, Last: at,
	}}
	vague := &flow.Record{Event: "summary", Time: at, Proto: flow.TCP, Port: 80, HasPort: true, Summary: &flow.SummaryRecord{Client: flow.Program{Comm: "curl"}, Count: 7}}
	records := []*flow.Record{
		connect(flow.TCP, 40000, 80, curl), connect(flow.TCP, 40001, 80, curl), chosen, refused, before,
		bind("bind", 40002, node), connect(flow.TCP, 40002, 80, node), bind("release", 40002, node), // one port
		connect(flow.TCP, 40002, 80, curl),                                         // another's, later
		connect(flow.UDP, 40005, 53, python), connect(flow.UDP, 40005, 54, python), // one socket's flows
		sum, vague,
	}
	for by, want := range map[string][]string{
		"program": {"curl 4 taken of 4 ports, 1 programs", "node 1 taken of 1 ports, 1 programs", "python3 501 taken of 1 ports, 1 programs", "unplaced 7"},
		"user":    {"ann 506 taken of 5 ports, 3 programs", "unplaced 7"},
		"port": {
			"40000 1 taken of 1 ports, 1 programs", "40001 1 taken of 1 ports, 1 programs", "40002 2 taken of 1 ports, 2 programs",
			"40003 1 taken of 1 ports, 1 programs", "40005 1 taken of 1 ports, 1 programs", "unplaced 507",
		},
	} {
		u := newUsage(by, formatText)
		for _, r := range records {
			if err := u.print(r, ""); err != nil {
				t.Fatal(err)
			}
		}
		got := []string{fmt.Sprint("unplaced ", u.unplaced)}
		for _, g := range u.groups {
			got = append(got, fmt.Sprintf("%s %d taken of %d ports, %d programs", g.name, g.times, len(g.ports), len(g.owners)))
		}
		slices.Sort(got)
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("by %s:\n%s\nwant\n%s", by, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
