// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bound is a client that binds its port and then dials.
func (s *tale) bound(sec float64, id uint64, who Actor, addr string, asked uint16) {
	b := s.sock("bind", sec, id, who, addr)
	b.Sock.HasRequested, b.Sock.Requested = true, netip.AddrPortFrom(b.Sock.Address, asked)
}

// udp makes flows of all so far.
func (s *tale) udp() {
	for _, r := range s.records {
		r.Proto = UDP
	}
}

// TestExplainBoundClient: a client that bound its port, and one of UDP, of which the kernel keeps no flows, are clients.
func TestExplainBoundClient(t *testing.T) {
	web, curl, dns := person(10, "web", 5), person(30, "curl", 6), person(40, "dns", 6)
	look := "advice look $ sudo looptrace explain 127.0.0.1:8080"
	for _, tc := range []struct {
		name   string
		target string
		past   func(*tale)
		live   func(*tale)
		change func(*Inquiry)
		want   []string
	}{
		{
			name: "connected", target: "127.0.0.1:7003",
			past: func(s *tale) {
				s.bound(100, 1, curl, "127.0.0.1:7003", 7003)
				s.conn("connect", 101, 2, curl, 7003, web, "127.0.0.1:8080")
			},
			live: func(s *tale) { s.conn("connect", 1000, 77, curl, 7003, web, "127.0.0.1:8080").Preexisting = true },
			want: []string{"client 30", "address", "advice 30 free $ kill 30", look, "known"},
		},
		{
			name: "while it was connected", target: "127.0.0.1:7003",
			past: func(s *tale) {
				s.bound(100, 1, curl, "127.0.0.1:7003", 7003)
				s.conn("connect", 101, 2, curl, 7003, web, "127.0.0.1:8080")
			},
			change: func(q *Inquiry) { q.At, q.AtEnd = at(102), at(102) },
			want:   []string{"client 30 then", "address", look, "known"},
		},
		{
			name: "before it dialled", target: "127.0.0.1:7003",
			past: func(s *tale) {
				s.bound(100, 1, curl, "127.0.0.1:7003", 7003)
				s.conn("connect", 110, 2, curl, 7003, web, "127.0.0.1:8080")
			},
			change: func(q *Inquiry) { q.At, q.AtEnd = at(105), at(105) },
			want: []string{
				"bound 30 then", "reused 30 then", "address", "holder 30 then", "process 30", "origin 30 own", "never_listening 30 then", "known",
			},
		},
		{
			name: "connected to itself, as it asked for", target: "127.0.0.1:7003",
			past: func(s *tale) {
				s.bound(100, 1, curl, "127.0.0.1:7003", 7003)
				s.conn("connect", 101, 2, curl, 7003, curl, "127.0.0.1:7003").Conn.Self = true
			},
			live: func(s *tale) {
				r := s.conn("connect", 1000, 77, curl, 7003, curl, "127.0.0.1:7003")
				r.Preexisting, r.Conn.Self = true, true
			},
			want: []string{"client 30", "address", "self_connected 30", "advice 30 free $ kill 30", "known"},
		},
		{
			name: "UDP, connected, which no look has", target: "127.0.0.1:7003",
			past: func(s *tale) { s.conn("connect", 101, 2, dns, 7003, web, "127.0.0.1:8080"); s.udp() },
			live: func(*tale) {},
			want: []string{"client 40", "address", look, "known"},
		},
		{
			name: "UDP, connected, and the recorder ended", target: "127.0.0.1:7003",
			past:   func(s *tale) { s.conn("connect", 101, 2, dns, 7003, web, "127.0.0.1:8080"); s.udp() },
			live:   func(*tale) {},
			change: func(q *Inquiry) { q.Watches[0].Goes = false },
			want:   []string{"nobody 40 client", "client 40 then", "address", look, "known", "unwatched"},
		},
		{
			name: "UDP, not connected", target: "7003",
			past: func(s *tale) {
				b := s.sock("bind", 100, 1, dns, "0.0.0.0:7003")
				b.Sock.Implicit, b.Sock.Ephemeral = true, true
				s.conn("connect", 100, 2, dns, 7003, web, "127.0.0.1:8080")
				s.udp()
			},
			live: func(s *tale) { s.sock("bind", 1000, 77, dns, "0.0.0.0:7003").Preexisting = true; s.udp() },
			want: []string{"client 40", "address", look, "known"},
		},
		{
			name: "UDP, over", target: "7003",
			past: func(s *tale) {
				s.sock("bind", 100, 1, dns, "0.0.0.0:7003").Sock.Implicit = true
				s.conn("connect", 100, 2, dns, 7003, web, "127.0.0.1:8080")
				s.conn("close", 110, 2, dns, 7003, web, "127.0.0.1:8080")
				s.release(110, 1, dns, "0.0.0.0:7003")
				s.udp()
			},
			live: func(*tale) {},
			want: []string{"nobody 40 client", "client 40 then", "address", look, "known"},
		},
		{
			name: "UDP, a server", target: "8080",
			past: func(s *tale) { s.bound(100, 1, web, "0.0.0.0:8080", 8080); s.udp() },
			want: []string{"server 10", "address", "holder 10", "process 10", "reach 10 network", "origin 10 own", "known"},
		},
		{
			name: "UDP, of which nobody knows what it is for", target: "8080",
			live: func(s *tale) { s.sock("bind", 1000, 77, web, "127.0.0.1:8080").Preexisting = true; s.udp() },
			want: []string{"bound 10", "address", "holder 10", "process 10", "reach 10", "origin 10 own", "advice 10 free $ kill 10", "known"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := inquiry(tc.target)
			q.Watches = []Watch{{From: at(0), Until: at(900), Goes: true}}
			var past, live tale
			if tc.past != nil {
				tc.past(&past)
			}
			if q.Past = past.records; tc.live != nil {
				tc.live(&live)
				q.Looked, q.Live = true, live.records
			}
			if tc.change != nil {
				tc.change(q)
			}
			e := Explain(q)
			if diff := cmp.Diff(tc.want, kinds(e)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, f := range e.Findings {
				if f.Kind == FindSelf && (f.Other == nil || f.Other.Event != "bind") {
					t.Errorf("self-connected, and how it got the port: %v", f.Other)
				}
			}
			if n := len(e.Now) + len(e.History); n != len(q.Past)+len(q.Live) {
				t.Errorf("%d records told", n)
			}
		})
	}
}

// TestExplainUnaccepted: that nobody has accepted a connection is said while it is so, and only where it is known.
func TestExplainUnaccepted(t *testing.T) {
	web, curl := person(10, "web", 5), person(30, "curl", 6)
	for _, tc := range []struct {
		name   string
		change func(*Inquiry)
		want   string
	}{
		{"waits", func(*Inquiry) {}, "never_accepted 30 waiting ×1"},
		{"live, too", func(q *Inquiry) {
			var s tale
			s.conn("connect", 1000, 77, curl, 50000, web, "127.0.0.1:8080").Preexisting = true
			q.Looked, q.Live = true, s.records
		}, "never_accepted 30 waiting ×1"},
		{"accepted", func(q *Inquiry) {
			var s tale
			s.conn("accept", 120, 2, curl, 50000, web, "127.0.0.1:8080")
			q.Past = append(q.Past, s.records...)
		}, ""},
		{"over", func(q *Inquiry) {
			var s tale
			s.conn("close", 120, 2, curl, 50000, web, "127.0.0.1:8080")
			q.Past = append(q.Past, s.records...)
		}, "never_accepted 30 ×1"},
		{"not there any more", func(q *Inquiry) { q.Looked = true }, ""},
		{"a moment ago", func(q *Inquiry) { q.Now = at(102) }, ""},
		{"nobody watches", func(q *Inquiry) { q.Watches[0].Goes = false }, ""},
		{"something was lost", func(q *Inquiry) {
			q.Past = append(q.Past, &Record{Event: "lost", Time: at(200), Lost: &LostRecord{Count: 1}})
		}, ""},
		{"accepts are not recorded", func(q *Inquiry) { q.Past[0].Start.Filters = map[string]any{"event": "connect"} }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s tale
			s.add(&Record{Event: "start", Time: at(0), Start: &StartRecord{}})
			s.serve(100, 1, web, "127.0.0.1:8080", 8080)
			s.conn("connect", 101, 2, curl, 50000, web, "127.0.0.1:8080")
			q := inquiry("127.0.0.1:8080")
			q.Past, q.Watches = s.records, []Watch{{From: at(0), Until: at(900), Goes: true}}
			tc.change(q)
			got := ""
			for _, line := range kinds(Explain(q)) {
				if strings.HasPrefix(line, FindUnaccepted) {
					got += line
				}
			}
			if got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
