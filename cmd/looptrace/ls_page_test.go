// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

func program(pid uint32, name, owner string) *flow.Process {
	return &flow.Process{ProcessID: flow.ProcessID{PID: pid}, Comm: name, Owner: owner}
}

func held(by ...*flow.Process) flow.Actor {
	a := flow.Actor{P: by[0]}
	if len(by) > 1 {
		for _, p := range by {
			a.Holders = append(a.Holders, flow.Actor{P: p})
		}
	}
	return a
}

func listens(netns uint32, at string, by flow.Actor) *flow.Record {
	to := netip.MustParseAddrPort(at)
	return &flow.Record{Event: "listen", Proto: flow.TCP, Netns: netns, Port: to.Port(), Sock: &flow.SockRecord{Address: to.Addr(), Process: by}}
}

func isConnected(netns uint32, from, to string, client, server flow.Actor) *flow.Record {
	c, s := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	return &flow.Record{Event: "connect", Proto: flow.TCP, Netns: netns, Port: s.Port(), Conn: &flow.ConnRecord{
		Client: flow.End{Address: c.Addr(), Port: c.Port(), HasPort: true, Process: client},
		Server: flow.End{Address: s.Addr(), Port: s.Port(), HasPort: true, Process: server},
	}}
}

// TestLsPage: what ls prints as text, to the byte.
func TestLsPage(t *testing.T) {
	own := netnsHere()
	nginx, worker, curl := program(10, "nginx", "root"), program(11, "nginx", "root"), program(20, "curl", "")
	curl.UID = 1000
	evil := program(30, "e\x1b[2Jv\u202eil", "root")
	evil.Container = flow.Container{ID: "0123456789abcdef0123456789abcdef"}
	v6only := listens(own, "[::]:80", held(worker))
	v6only.Sock.V6Only = true
	queued := isConnected(own, "127.0.0.1:40003", "127.0.0.2:80", held(curl), flow.Actor{})
	queued.Conn.Server.Holders = []flow.Actor{{P: nginx}, {P: worker}, {P: evil}}
	udp := listens(own, "0.0.0.0:53", held(evil))
	udp.Event, udp.Proto = "bind", flow.UDP
	for _, tc := range []struct {
		name    string
		records []*flow.Record
		waiting []tracer.Waiting
		want    []string
	}{
		{name: "nothing", want: []string{"STATE  PROTO  ADDRESS  PROCESS  USER  REACH  CLIENTS"}},
		{
			name: "clients are counted by the listener that they met",
			records: []*flow.Record{
				listens(own, "127.0.0.1:80", held(nginx, worker)), listens(own, "0.0.0.0:80", held(nginx)), v6only, udp,
				isConnected(own, "127.0.0.1:40000", "127.0.0.1:80", held(curl), held(nginx)),
				isConnected(own, "127.0.0.1:40001", "127.0.0.1:80", held(curl), held(nginx, worker)),
				isConnected(own, "127.0.0.1:40002", "127.0.0.2:80", flow.Actor{}, held(nginx)),
				queued,
				isConnected(own, "[::1]:40004", "[::1]:80", held(curl), flow.Actor{}),
			},
			want: []string{
				`STATE      PROTO  ADDRESS                         PROCESS                               USER  REACH     CLIENTS`,
				`listening  tcp    127.0.0.1:80                    nginx[10] and 1 more                  root  loopback  2`,
				`listening  tcp    0.0.0.0:80                      nginx[10]                             root  network   2`,
				`listening  tcp    [::]:80                         nginx[11]                             root  network   1`,
				`bound      udp    0.0.0.0:53                      e\x1b[2Jv\u202eil[30] (0123456789ab)  root  network`,
				`connected  tcp    127.0.0.1:40000 → 127.0.0.1:80  curl[20] → nginx[10]                  1000`,
				`connected  tcp    127.0.0.1:40001 → 127.0.0.1:80  curl[20] → nginx[10] and 1 more       1000`,
				`connected  tcp    127.0.0.1:40002 → 127.0.0.2:80  - → nginx[10]`,
				`connected  tcp    127.0.0.1:40003 → 127.0.0.2:80  curl[20] → nginx[10] or 2 more        1000`,
				`connected  tcp    [::1]:40004 → [::1]:80          curl[20] → -                          1000`,
			},
		},
		{
			name:    "a wildcard of IPv6 takes IPv4 too",
			records: []*flow.Record{listens(own, "[::]:80", held(nginx)), isConnected(own, "127.0.0.1:1", "127.0.0.1:80", held(curl), held(nginx))},
			want: []string{
				`STATE      PROTO  ADDRESS                     PROCESS               USER  REACH    CLIENTS`,
				`listening  tcp    [::]:80                     nginx[10]             root  network  1`,
				`connected  tcp    127.0.0.1:1 → 127.0.0.1:80  curl[20] → nginx[10]  1000`,
			},
		},
		{
			name:    "TIME_WAITs, and namespaces where there is more than this one",
			records: []*flow.Record{listens(7, "127.0.0.1:80", held(nginx)), isConnected(8, "127.0.0.1:1", "127.0.0.1:80", held(curl), held(nginx))},
			waiting: []tracer.Waiting{
				{Netns: 7, Holder: flow.Holder{Address: netip.MustParseAddr("127.0.0.1"), Port: 80, Peer: netip.MustParseAddrPort("127.0.0.1:2"), Expires: 12400 * time.Millisecond}},
				{Netns: 7, Holder: flow.Holder{Address: netip.MustParseAddr("::1"), Port: 80, Peer: netip.MustParseAddrPort("[::1]:3"), Expires: -1}},
			},
			want: []string{
				`STATE      PROTO  ADDRESS                     PROCESS               USER  REACH     CLIENTS  NETNS`,
				`listening  tcp    127.0.0.1:80                nginx[10]             root  loopback           7`,
				`connected  tcp    127.0.0.1:1 → 127.0.0.1:80  curl[20] → nginx[10]  1000                     8`,
				`time_wait  tcp    127.0.0.1:80 → 127.0.0.1:2  free in 12 s                                   7`,
				`time_wait  tcp    [::1]:80 → [::1]:3                                                         7`,
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var p lsPage
			for _, r := range tc.records {
				if r.Sock != nil {
					p.addSocket(r)
				} else {
					p.addConnection(r)
				}
			}
			for _, w := range tc.waiting {
				p.addWaiting(w)
			}
			var b strings.Builder
			if err := p.print(&b, ""); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.Join(tc.want, "\n")+"\n", b.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
