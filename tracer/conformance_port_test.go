// SPDX-License-Identifier: Apache-2.0

package tracer

import "golang.org/x/sys/unix"

func portScenes() []scene {
	return []scene{
		{
			name: "ephemeral_bind", does: "a port is asked of the kernel", show: []string{"requested.port", "ephemeral", "level"},
			play: func(s *stage) { s.actor("a").listen("l", "tcp4", "0.0.0.0:0", "P") },
			want: []string{
				"bind process=a address=0.0.0.0 port=P requested.port=0 ephemeral=true level=info",
				"listen process=a address=0.0.0.0 port=P level=warn",
			},
		},
		{
			name: "asked_bind", does: "a port is asked for by number", show: []string{"requested.port", "ephemeral", "level"},
			play: func(s *stage) { s.actor("a").listen("l", "tcp4", "0.0.0.0:4321", "P") },
			want: []string{
				"bind process=a address=0.0.0.0 port=P requested.port=P ephemeral=false level=info",
				"listen process=a address=0.0.0.0 port=P level=info",
			},
		},
		{
			name: "listen_unbound", does: "listen() without bind(): the kernel binds", show: []string{"requested.port", "ephemeral"},
			play: func(s *stage) {
				a := s.actor("a")
				a.do("socket l tcp4")
				a.do("listen l 16")
				s.port("P", a.addr("l").Port())
			},
			want: []string{
				"bind process=a address=0.0.0.0 port=P ephemeral=true",
				"listen process=a address=0.0.0.0 port=P",
			},
		},
		{
			name: "udp_unbound", does: "a datagram without bind(): the kernel binds", show: []string{"requested.port", "ephemeral"},
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.bind("u", "udp4", "127.0.0.1:0", "P")
				client.do("socket u udp4")
				client.do("sendto u 3 %s", at)
				s.port("C", client.addr("u").Port())
				client.do("close u")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P requested.port=0 ephemeral=true",
				"bind process=client address=0.0.0.0 port=C ephemeral=true",
				"connect port=P client.process=client server.process=server ephemeral=true",
				"close port=P client.process=client server.process=server closed_by=client",
				"release process=client address=0.0.0.0 port=C reason=close",
			},
		},
		{
			name: "bind_without_port", does: "IP_BIND_ADDRESS_NO_PORT: an address is bound, the port comes with connect()",
			show: []string{"requested.address", "requested.port", "ephemeral", "client.port"},
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				client.do("socket c tcp4")
				client.do("set c noport")
				client.do("bind c 127.0.0.5:0")
				client.do("connect c %s", at)
				s.port("C", client.addr("c").Port())
				server.do("accept l s")
				client.do("close c")
				server.do("close s")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P requested.address=127.0.0.1 requested.port=0 ephemeral=true",
				"listen process=server address=127.0.0.1 port=P",
				"bind process=client address=127.0.0.5 requested.address=127.0.0.5 requested.port=0 ephemeral=false",
				"connect port=P client.process=client server.process=server ephemeral=true client.port=C",
				"accept port=P client.process=client server.process=server client.port=C",
				"release process=client address=127.0.0.5 port=C reason=close",
				"close port=P client.process=client server.process=server closed_by=client client.port=C",
			},
		},
		{
			name: "bind_never_a_port", does: "an address is bound without a port, and nothing more: there is no port to release",
			play: func(s *stage) {
				client := s.actor("client")
				client.do("socket c tcp4")
				client.do("set c noport")
				client.do("bind c 127.0.0.5:0")
				client.do("close c")
			},
			want: []string{"bind process=client address=127.0.0.5"},
		},
		{
			name: "shutdown_ephemeral", does: "a listener on a port that the kernel picked is shut down: the port is free at once",
			play: func(s *stage) {
				a, b := s.actor("a"), s.actor("b")
				at := a.listen("l", "tcp4", "127.0.0.1:0", "P")
				a.do("shutdown l 2")
				b.bind("l", "tcp4", at.String(), "P")
			},
			want: []string{
				"bind process=a address=127.0.0.1 port=P",
				"listen process=a address=127.0.0.1 port=P",
				"release process=a address=127.0.0.1 port=P reason=shutdown",
				"bind process=b address=127.0.0.1 port=P",
			},
		},
		{
			name: "range_used_up_bind", does: "bind() to port 0 with every port of the range taken",
			play: func(s *stage) {
				s.sysctl("ip_local_port_range", "20000 20003")
				a, b := s.actor("a"), s.actor("b")
				for _, name := range []string{"1", "2", "3", "4"} {
					a.bind("x"+name, "tcp4", "127.0.0.1:0", "P") // picked in no order
				}
				b.do("socket x tcp4")
				b.fail(unix.EADDRINUSE, "bind x 127.0.0.1:0")
			},
			want: []string{
				"bind process=a address=127.0.0.1 port=P", "bind process=a address=127.0.0.1 port=P",
				"bind process=a address=127.0.0.1 port=P", "bind process=a address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=b address=127.0.0.1",
			},
		},
		{
			name: "range_used_up_connect", does: "connect() with every port of the range taken for its destination",
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				s.sysctl("ip_local_port_range", "20000 20001")
				for _, name := range []string{"1", "2"} {
					client.dial("c"+name, "tcp4", at)
				}
				client.do("socket x tcp4")
				client.fail(unix.EADDRNOTAVAIL, "connect x %s", at)
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server",
				"connect port=P client.process=client server.process=server",
				"connect error.type=EADDRNOTAVAIL port=P client.process=client",
			},
		},
	}
}
