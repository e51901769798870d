// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"net/netip"
	"os/exec"

	"golang.org/x/sys/unix"
)

// pair makes a connection of client's c to server's listener l, accepted as s.
func (s *stage) pair(kind, at string) (server, client *player, to netip.AddrPort) {
	server, client = s.actor("server"), s.actor("client")
	to = server.listen("l", kind, at, "P")
	client.dial("c", kind, to)
	server.do("accept l s")
	return server, client, to
}

// paired are the rows of pair.
func paired(address string, more ...string) []string {
	return append([]string{
		"bind process=server address=" + address + " port=P",
		"listen process=server address=" + address + " port=P",
		"connect port=P client.process=client server.process=server",
		"accept port=P client.process=client server.process=server",
	}, more...)
}

// route adds a route for one loopback address, whose packets then go nowhere.
func (s *stage) route(how, address string) {
	s.t.Helper()
	if out, err := exec.Command("ip", "route", "add", how, address+"/32", "table", "local").CombinedOutput(); err != nil {
		s.t.Fatalf("ip route: %v\n%s", err, out)
	}
}

func connectionScenes() []scene {
	bytes := []string{"bytes.client_to_server", "bytes.server_to_client"}
	return []scene{
		{
			name: "tcp4", does: "a connection over 127.0.0.1, with payload both ways", show: bytes,
			play: func(s *stage) {
				server, client, _ := s.pair("tcp4", "127.0.0.1:0")
				client.do("send c 1000")
				server.do("recvall s 1000")
				server.do("send s 7")
				client.do("recvall c 7")
				client.do("close c")
				server.do("recv s 1")
				server.do("close s")
			},
			want: paired("127.0.0.1", "close port=P client.process=client server.process=server closed_by=client bytes.client_to_server=1000 bytes.server_to_client=7"),
		},
		{
			name: "tcp6", does: "a connection over ::1", show: bytes,
			play: func(s *stage) {
				server, client, _ := s.pair("tcp6", "[::1]:0")
				client.do("send c 5")
				server.do("recvall s 5")
				server.do("close s")
				client.do("recv c 1")
				client.do("close c")
			},
			want: paired("::1", "close port=P client.process=client server.process=server closed_by=server bytes.client_to_server=5 bytes.server_to_client=0"),
		},
		{
			name: "mapped", does: "an IPv4 client, a dual-stack server: both ends are written as IPv4", show: []string{"client.address", "server.address", "network.type"},
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := on("127.0.0.1", server.listen("l", "tcp6", "[::]:0", "P"))
				client.dial("c", "tcp4", at)
				server.do("accept l s")
				client.dial("d", "tcp6", at)
				server.do("accept l t")
			},
			want: []string{
				"bind process=server address=:: port=P network.type=ipv6",
				"listen process=server address=:: port=P network.type=ipv6",
				"connect port=P client.process=client server.process=server client.address=127.0.0.1 server.address=127.0.0.1 network.type=ipv4",
				"accept port=P client.process=client server.process=server client.address=127.0.0.1 server.address=127.0.0.1 network.type=ipv4",
				"connect port=P client.process=client server.process=server client.address=127.0.0.1 server.address=127.0.0.1 network.type=ipv4",
				"accept port=P client.process=client server.process=server client.address=127.0.0.1 server.address=127.0.0.1 network.type=ipv4",
			},
		},
		{
			name: "three_listeners", does: "0.0.0.0, 127.0.0.1 and ::1 of one port are three programs'; each client reached the one that it did",
			play: func(s *stage) {
				wild, four, six, client := s.actor("wild"), s.actor("four"), s.actor("six"), s.actor("client")
				six.do("socket l tcp6")
				six.do("bind l [::1]:0")
				at := six.addr("l")
				s.port("P", at.Port())
				six.do("listen l 16")
				wild.do("socket l tcp4")
				wild.do("set l reuseaddr") // both have it, and neither listens yet
				wild.do("bind l %s", on("0.0.0.0", at))
				four.do("socket l tcp4")
				four.do("set l reuseaddr")
				four.do("bind l %s", on("127.0.0.1", at))
				four.do("listen l 16")
				client.dial("a", "tcp4", on("127.0.0.1", at))
				four.do("accept l s")
				client.dial("b", "tcp6", at)
				six.do("accept l s")
				four.do("close l")
				wild.do("listen l 16")
				client.dial("c", "tcp4", on("127.0.0.9", at))
				wild.do("accept l s")
			},
			want: []string{
				"bind process=six address=::1 port=P",
				"listen process=six address=::1 port=P",
				"bind process=wild address=0.0.0.0 port=P",
				"bind process=four address=127.0.0.1 port=P",
				"listen process=four address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=four",
				"accept port=P client.process=client server.process=four",
				"connect port=P client.process=client server.process=six",
				"accept port=P client.process=client server.process=six",
				"release process=four address=127.0.0.1 port=P reason=close",
				"listen process=wild address=0.0.0.0 port=P",
				"connect port=P client.process=client server.process=wild",
				"accept port=P client.process=client server.process=wild",
			},
		},
		{
			name: "never_accepted", does: "the kernel made the connection and no process took it",
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				client.dial("c", "tcp4", server.listen("l", "tcp4", "127.0.0.1:0", "P"))
				client.do("close c")
				server.do("close l")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server",
				"release process=server address=127.0.0.1 port=P reason=close",
				"close port=P client.process=client server.process=server closed_by=client reset=true accepted=false",
			},
		},
		{
			name: "queue_full", does: "the accept queue is full, SYNs are dropped until the server accepts", show: []string{"syn_retransmits", "accept_queue.length", "accept_queue.limit"},
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				server.do("socket l tcp4")
				server.do("bind l 127.0.0.1:0")
				server.do("listen l 0")
				at := server.addr("l")
				s.port("P", at.Port())
				client.dial("a", "tcp4", at) // a backlog of 0 has room for one
				client.do("socket b tcp4")
				client.do("nonblock b")
				client.fail(unix.EINPROGRESS, "connect b %s", at)
				server.do("accept l s")
				client.do("finish b") // a second later, by its second SYN
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server",
				"accept port=P client.process=client server.process=server",
				"connect port=P client.process=client server.process=server syn_retransmits=1 accept_queue.length=0 accept_queue.limit=0", // as its second SYN met it
			},
		},
		{
			name: "queue_full_timeout", does: "the accept queue stays full: the client gives up", show: []string{"syn_retransmits", "accept_queue.length", "accept_queue.limit"},
			play: func(s *stage) {
				s.sysctl("tcp_syn_retries", "1")
				s.sysctl("tcp_syn_linear_timeouts", "0") // since 6.5
				server, client := s.actor("server"), s.actor("client")
				server.do("socket l tcp4")
				server.do("bind l 127.0.0.1:0")
				server.do("listen l 0")
				at := server.addr("l")
				s.port("P", at.Port())
				client.dial("a", "tcp4", at)
				client.do("socket b tcp4")
				client.fail(unix.ETIMEDOUT, "connect b %s", at)
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server",
				"connect error.type=ETIMEDOUT port=P client.process=client server.process=server syn_retransmits=1 accept_queue.length=1 accept_queue.limit=0",
			},
		},
		{
			name: "given_up", does: "the client closes its socket before there was an answer",
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				server.do("socket l tcp4")
				server.do("bind l 127.0.0.1:0")
				server.do("listen l 0")
				at := server.addr("l")
				s.port("P", at.Port())
				client.dial("a", "tcp4", at)
				client.do("socket b tcp4")
				client.do("nonblock b")
				client.fail(unix.EINPROGRESS, "connect b %s", at)
				client.do("close b")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server",
				"connect error.type=ECANCELED port=P client.process=client server.process=server",
			},
		},
		{
			name: "self_connect", does: "a socket connects to its own port: it is both ends, and there is one close",
			play: func(s *stage) {
				a := s.actor("a")
				at := a.bind("c", "tcp4", "127.0.0.1:0", "P")
				a.do("connect c %s", at)
				a.do("close c")
			},
			want: []string{
				"bind process=a address=127.0.0.1 port=P",
				"connect port=P client.process=a server.process=a self=true",
				"release process=a address=127.0.0.1 port=P reason=close",
				"close port=P client.process=a server.process=a closed_by=client",
			},
		},
		{
			name: "half_open", does: "the client shuts its side down, the server sends on; it is over when both have closed", show: bytes,
			play: func(s *stage) {
				server, client, _ := s.pair("tcp4", "127.0.0.1:0")
				client.do("send c 3")
				client.do("shutdown c 1")
				server.do("recvall s 3")
				server.do("recv s 1")
				server.do("send s 500")
				client.do("recvall c 500")
				server.do("close s")
				client.do("recv c 1")
				client.do("close c")
			},
			want: paired("127.0.0.1", "close port=P client.process=client server.process=server closed_by=client bytes.client_to_server=3 bytes.server_to_client=500"),
		},
		{
			name: "reset_by_client", does: "the client resets", show: bytes,
			play: func(s *stage) {
				server, client, _ := s.pair("tcp4", "127.0.0.1:0")
				client.do("send c 4")
				client.do("set c linger0")
				client.do("close c")
				server.do("close s")
			},
			want: paired("127.0.0.1", "close port=P client.process=client server.process=server closed_by=client reset=true bytes.client_to_server=4 bytes.server_to_client=0"),
		},
		{
			name: "reset_by_server", does: "the server resets",
			play: func(s *stage) {
				server, client, _ := s.pair("tcp4", "127.0.0.1:0")
				server.do("set s linger0")
				server.do("close s")
				client.fail(unix.ECONNRESET, "recv c 1")
				client.do("close c")
			},
			want: paired("127.0.0.1", "close port=P client.process=client server.process=server closed_by=server reset=true"),
		},
		{
			name: "reset_by_unread", does: "the server closes with data unread, which resets",
			play: func(s *stage) {
				server, client, _ := s.pair("tcp4", "127.0.0.1:0")
				client.do("send c 4")
				server.do("recvall s 2")
				server.do("close s")
				client.fail(unix.ECONNRESET, "recv c 1")
				client.do("close c")
			},
			want: paired("127.0.0.1", "close port=P client.process=client server.process=server closed_by=server reset=true"),
		},
		{
			name: "killed_client", does: "the client is killed: the kernel closes for it",
			play: func(s *stage) {
				server, client, _ := s.pair("tcp4", "127.0.0.1:0")
				client.kill()
				server.do("recv s 1")
				server.do("close s")
			},
			want: paired("127.0.0.1", "close port=P client.process=client server.process=server closed_by=client"),
		},
		{
			name: "nonblocking", does: "connect() does not block, the connection is made",
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				client.do("socket c tcp4")
				client.do("nonblock c")
				client.fail(unix.EINPROGRESS, "connect c %s", at)
				client.do("finish c")
				server.do("accept l s")
			},
			want: paired("127.0.0.1"),
		},
		{
			name: "blackhole", does: "a loopback address is routed into a black hole", show: []string{"server.address"},
			play: func(s *stage) {
				s.route("blackhole", "127.0.0.66")
				client := s.actor("client")
				client.do("socket c tcp4")
				client.fail(unix.EINVAL, "connect c 127.0.0.66:4000")
			},
			want: []string{"connect error.type=EINVAL port=4000 client.process=client server.address=127.0.0.66"},
		},
		{
			name: "unreachable", does: "a loopback address has no route", show: []string{"server.address"},
			play: func(s *stage) {
				s.route("unreachable", "127.0.0.66")
				client := s.actor("client")
				client.do("socket c tcp4")
				client.do("nonblock c")
				client.fail(unix.EHOSTUNREACH, "connect c 127.0.0.66:4000")
			},
			want: []string{"connect error.type=EHOSTUNREACH port=4000 client.process=client server.address=127.0.0.66"},
		},
		{
			name: "prohibited", does: "a loopback address is forbidden", show: []string{"server.address"},
			play: func(s *stage) {
				s.route("prohibit", "127.0.0.66")
				client := s.actor("client")
				client.do("socket c tcp4")
				client.fail(unix.EACCES, "connect c 127.0.0.66:4000")
			},
			want: []string{"connect error.type=EACCES port=4000 client.process=client server.address=127.0.0.66"},
		},
		{
			needs: map[Form]need{Auto: {"5.11", "MPTCP (Debian builds 5.10 without CONFIG_MPTCP)"}},
			name:  "mptcp", does: "an MPTCP client and listener: one connection, not one for each subflow",
			play: func(s *stage) {
				server, client, _ := s.pair("mptcp4", "127.0.0.1:0")
				client.do("close c")
				server.do("recv s 1")
				server.do("close s")
			},
			want: paired("127.0.0.1", "close port=P client.process=client server.process=server closed_by=client"),
		},
		{
			name: "reconnected", does: "a socket is disconnected, and connects anew: two connections of one socket",
			play: func(s *stage) {
				server, client, to := s.pair("tcp4", "127.0.0.1:0")
				client.do("disconnect c")
				client.do("connect c %s", to)
				server.do("accept l t")
				client.do("close c")
				server.do("close s")
				server.do("close t")
			},
			want: paired("127.0.0.1",
				"close port=P client.process=client server.process=server closed_by=client reset=true",
				"connect port=P client.process=client server.process=server",
				"accept port=P client.process=client server.process=server",
				"close port=P client.process=client server.process=server closed_by=client"),
		},
	}
}
