// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// peerScenes are our own versions of cases that other tracers test (traps.md lists them).
func peerScenes() []scene {
	return []scene{
		{
			name: "peer_coroot", does: "listener and connection older than the tracer, then a dial to the dead port", early: true, show: lastFields,
			play: func(s *stage) {
				server, client, to := s.pair("tcp4", "127.0.0.1:0")
				s.trace()
				server.do("close l")
				server.do("close s")
				client.do("recv c 1")
				client.do("close c")
				client.do("socket d tcp4")
				client.fail(unix.ECONNREFUSED, "connect d %s", to)
			},
			want: []string{
				"listen preexisting=true process=server(snapshot) address=127.0.0.1 port=P",
				"connect preexisting=true port=P client.process=client(snapshot) server.process=server(snapshot)",
				"release preexisting=true process=server address=127.0.0.1 port=P reason=close",
				"close preexisting=true port=P client.process=client(snapshot) server.process=server(snapshot) closed_by=server",
				"connect error.type=ECONNREFUSED port=P client.process=client last_listener.process=server last_listener.reason=close",
			},
		},
		{
			name: "peer_one_process", does: "one process is both ends (elastic/ebpf): one connect, one accept, one close",
			play: func(s *stage) {
				a := s.actor("a")
				at := a.listen("l", "tcp4", "127.0.0.1:0", "P")
				a.dial("c", "tcp4", at)
				a.do("accept l s")
				a.do("close c")
				a.do("close s")
			},
			want: []string{
				"bind process=a address=127.0.0.1 port=P",
				"listen process=a address=127.0.0.1 port=P",
				"connect port=P client.process=a server.process=a",
				"accept port=P client.process=a server.process=a",
				"close port=P client.process=a server.process=a closed_by=client",
			},
		},
		{
			name: "peer_one_process_v6", does: "the same over ::1",
			play: func(s *stage) {
				a := s.actor("a")
				at := a.listen("l", "tcp6", "[::1]:0", "P")
				a.dial("c", "tcp6", at)
				a.do("accept l s")
				a.do("close s")
				a.do("close c")
			},
			want: []string{
				"bind process=a address=::1 port=P",
				"listen process=a address=::1 port=P",
				"connect port=P client.process=a server.process=a",
				"accept port=P client.process=a server.process=a",
				"close port=P client.process=a server.process=a closed_by=server",
			},
		},
		{
			name: "peer_blocked_before", does: "a thread is blocked in accept() since before tracing began (weave)", early: true,
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				server.do("thread blocked accept l s")
				s.blocked(server, 1)
				s.trace()
				client.dial("c", "tcp4", at)
				server.do("join")
			},
			want: []string{
				"listen preexisting=true process=server(snapshot) address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server(snapshot)",
				"accept port=P client.process=client server.process=server",
			},
		},
		{
			name: "peer_fifty_blocked", does: "50 threads are blocked in accept(): kretprobes lose most of these (weave)",
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				for i := range fifty {
					server.do("thread t%d accept l s%d", i, i)
				}
				s.blocked(server, fifty)
				for i := range fifty {
					client.dial(fmt.Sprint("c", i), "tcp4", at)
				}
				if got := server.do("join"); got != fmt.Sprint(fifty) {
					s.t.Fatalf("%s accepts, want %d", got, fifty)
				}
			},
			folded: true,
			want: []string{
				"1 × bind process=server address=127.0.0.1 port=P",
				"1 × listen process=server address=127.0.0.1 port=P",
				"50 × connect port=P client.process=client server.process=server",
				"50 × accept port=P client.process=client server.process=server",
			},
		},
		{
			name: "peer_refusals", does: "20,000 refusals in a row (weave): each has its record, and no table of the kernel side grows",
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.bind("b", "tcp4", "127.0.0.1:0", "P")
				before := s.tables()
				if got := client.do("refused %d %s", refusals, at); got != fmt.Sprint(refusals) {
					s.t.Fatalf("%s refusals, want %d", got, refusals)
				}
				for name, n := range s.tables() {
					if n > before[name]+tolerated {
						s.t.Errorf("map %s grew from %d to %d entries", name, before[name], n)
					}
				}
			},
			folded: true,
			want: []string{
				"1 × bind process=server address=127.0.0.1 port=P",
				fmt.Sprintf("%d × connect error.type=ECONNREFUSED port=P client.process=client", refusals),
			},
		},
		{
			name: "peer_burst", does: "200 connections in a row, opened and closed by a client that does nothing else (picosnitch)",
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				for range burstSize {
					client.dial("c", "tcp4", at)
					client.do("close c")
					server.do("accept l s")
					server.do("close s")
				}
			},
			folded: true,
			want: []string{
				"1 × bind process=server address=127.0.0.1 port=P",
				"1 × listen process=server address=127.0.0.1 port=P",
				"200 × connect port=P client.process=client server.process=server",
				"200 × accept port=P client.process=client server.process=server",
				"200 × close port=P client.process=client server.process=server closed_by=client",
			},
		},
		{
			name: "peer_container_loopback", does: "both ends in a container's own network namespace (picosnitch)", show: []string{"client.container.id"},
			play: func(s *stage) {
				a := s.contained("a")
				a.do("netns")
				s.enterNetns(a.pid, a.pid)
				at := a.listen("l", "tcp4", "127.0.0.1:0", "P")
				a.dial("c", "tcp4", at)
				a.do("accept l s")
			},
			want: []string{
				"bind process=a address=127.0.0.1 port=P",
				"listen process=a address=127.0.0.1 port=P",
				"connect port=P client.process=a server.process=a client.container.id=" + containerID,
				"accept port=P client.process=a server.process=a client.container.id=" + containerID,
			},
		},
	}
}

const (
	fifty     = 50
	refusals  = 20000
	burstSize = 200
	// tolerated is how many entries other processes of the host may add meanwhile.
	tolerated = 100
)
