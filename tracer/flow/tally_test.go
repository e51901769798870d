// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"testing"
	"time"
)

func TestHandshakePercentiles(t *testing.T) {
	for name, tc := range map[string]struct {
		slots   map[int]uint32
		longest time.Duration
		want    Handshake
	}{
		"nothing":       {},
		"one":           {map[int]uint32{20: 1}, 45 * time.Microsecond, Handshake{40_960, 40_960, 40_960, 45_000}},
		"never over it": {map[int]uint32{20: 1}, 33 * time.Microsecond, Handshake{33_000, 33_000, 33_000, 33_000}},
		"a tail": {
			map[int]uint32{0: 50, 20: 40, 40: 9, 60: 1},
			40 * time.Millisecond,
			Handshake{1_280, 40_960, 1_310_720, 40_000_000},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tally := Tally{Longest: uint64(tc.longest)}
			for slot, n := range tc.slots {
				tally.Slots[slot] = n
			}
			if got := tally.handshake(); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// counted is what a scene looks at of a summary.
func counted(r *Record) string {
	if r.Summary == nil {
		return ""
	}
	s := r.Summary
	side := func(p Program) string {
		if p.P != nil {
			return fmt.Sprintf("%s/%d", p.Comm, p.P.PID)
		}
		return p.Comm
	}
	return fmt.Sprintf("%s > %s port=%d proto=%d errno=%d count=%d bytes=%d/%d", side(s.Client), side(s.Server), r.Port, r.Proto, r.Errno, s.Count, s.C2S, s.S2C)
}

func TestSummarize(t *testing.T) {
	summarize := func(keys []TallyKey, tallies []Tally) step {
		return func(s *scene) { s.table.Summarize(keys, tallies, 200*msec) }
	}
	key := func(errno int32) TallyKey {
		return TallyKey{Client: chars("cli"), Server: chars("srv"), Port: 80, Error: errno}
	}
	on := Config{Summary: true}
	play(t, []scenario{
		{
			name: "one process at each end has its pid",
			cfg:  on, look: counted,
			steps: []step{summarize([]TallyKey{key(0)}, []Tally{{Count: 3, C2S: 30, S2C: 9, Client: cli.id(), Server: srv.id()}})},
			want:  []string{"cli/20 > srv/10 port=80 proto=6 errno=0 count=3 bytes=30/9"},
		},
		{
			name: "of several there is none",
			cfg:  on, look: counted,
			steps: []step{summarize([]TallyKey{key(econnrefused)}, []Tally{{Count: 2, Client: cli.id(), ManyClients: 1, ManyServers: 1, Server: srv.id()}})},
			want:  []string{"cli > srv port=80 proto=6 errno=111 count=2 bytes=0/0"},
		},
		{
			name: "UDP flows are counted here, once an interval",
			cfg:  on, look: counted,
			steps: []step{
				bind(100, 1, srv, "0.0.0.0:53", udp), bind(101, 2, cli, "127.0.0.1:40000", udp), bind(102, 3, oth, "127.0.0.1:40001", udp),
				datagrams(7, cli, 2, "127.0.0.1:40000", 1, "127.0.0.1:53").connect(110),
				datagrams(8, cli, 2, "127.0.0.1:40000", 1, "127.0.0.2:53").connect(111),
				drain, summarize(nil, nil), mark("next"), release(112, 2, cli, "127.0.0.1:40000", udp), summarize(nil, nil),
			},
			want: []string{"cli/20 > srv/10 port=53 proto=17 errno=0 count=2 bytes=0/0", "next"},
		},
	})
}
