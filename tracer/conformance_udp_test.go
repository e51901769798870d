// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// connectedUDP: no system call's tracepoint knows which socket sends.
var connectedUDP = need{"6.3", "sock_send_length, which tells of datagrams of connected sockets"}

func udpScenes() []scene {
	return []scene{
		{
			name: "udp_unconnected", does: "sendto() both ways: one flow, whose first sender is the client", show: []string{"client.port"},
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.bind("u", "udp4", "127.0.0.1:0", "P")
				from := client.bind("u", "udp4", "127.0.0.1:0", "C")
				for range 3 {
					client.do("sendto u 5 %s", at)
					server.do("recv u 5")
					server.do("sendto u 6 %s", from)
					client.do("recv u 6")
				}
				server.do("close u")
				client.do("close u")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"bind process=client address=127.0.0.1 port=C",
				"connect port=P client.process=client server.process=server client.port=C",
				"close port=P client.process=client server.process=server closed_by=server client.port=C",
				"release process=server address=127.0.0.1 port=P reason=close",
				"release process=client address=127.0.0.1 port=C reason=close",
			},
		},
		{
			needs: map[Form]need{Tracepoint: connectedUDP},
			name:  "udp_connected", does: "both sockets are connected; connect() itself sends nothing", show: []string{"client.port"},
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.bind("u", "udp4", "127.0.0.1:0", "P")
				client.do("socket u udp4")
				client.do("connect u %s", at)
				from := client.addr("u")
				s.port("C", from.Port())
				client.do("send u 5")
				server.do("recv u 5")
				server.do("connect u %s", from)
				server.do("send u 5")
				client.do("recv u 5")
				client.do("close u")
				server.do("close u")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"bind process=client address=127.0.0.1 port=C",
				"connect port=P client.process=client server.process=server client.port=C",
				"close port=P client.process=client server.process=server closed_by=client client.port=C",
				"release process=client address=127.0.0.1 port=C reason=close",
				"release process=server address=127.0.0.1 port=P reason=close",
			},
		},
		{
			name: "udp_connect_only", does: "a UDP socket is connected and sends nothing: there is no flow",
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.bind("u", "udp4", "127.0.0.1:0", "P")
				client.do("socket u udp4")
				client.do("connect u %s", at)
				s.port("C", client.addr("u").Port())
				client.do("close u")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"bind process=client address=127.0.0.1 port=C",
				"release process=client address=127.0.0.1 port=C reason=close",
			},
		},
		{
			name: "udp_dns", does: "a resolver asks a server on a wildcard twice, from a new socket each time", show: []string{"server.address"},
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := on("127.0.0.1", server.bind("u", "udp4", "0.0.0.0:0", "P"))
				for _, name := range []string{"A", "B"} {
					client.do("socket q udp4")
					client.do("sendto q 30 %s", at)
					s.port(name, client.addr("q").Port())
					server.do("recv u 30")
					server.do("sendto u 90 %s", netip.AddrPortFrom(at.Addr(), client.addr("q").Port()))
					client.do("recv q 90")
					client.do("close q")
				}
			},
			want: []string{
				"bind process=server address=0.0.0.0 port=P",
				"bind process=client address=0.0.0.0 port=A",
				"connect port=P client.process=client server.process=server server.address=127.0.0.1",
				"close port=P client.process=client server.process=server closed_by=client server.address=127.0.0.1",
				"release process=client address=0.0.0.0 port=A reason=close",
				"bind process=client address=0.0.0.0 port=B",
				"connect port=P client.process=client server.process=server server.address=127.0.0.1",
				"close port=P client.process=client server.process=server closed_by=client server.address=127.0.0.1",
				"release process=client address=0.0.0.0 port=B reason=close",
			},
		},
		{
			needs: map[Form]need{Auto: {"5.14", "inet_sk_error_report, which tells of refused datagrams"}, Tracepoint: connectedUDP},
			name:  "udp_refused", does: "a connected socket's datagram meets a dead port", show: append([]string{"client.port"}, lastFields...),
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.bind("u", "udp4", "127.0.0.1:0", "P")
				server.do("close u")
				client.do("socket u udp4")
				client.do("connect u %s", at)
				s.port("C", client.addr("u").Port())
				client.do("send u 1")
				client.fail(unix.ECONNREFUSED, "recv u 1")
				client.do("close u")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"release process=server address=127.0.0.1 port=P reason=close",
				"bind process=client address=127.0.0.1 port=C",
				"connect error.type=ECONNREFUSED port=P client.process=client client.port=C last_listener.process=server last_listener.reason=close",
				"release process=client address=127.0.0.1 port=C reason=close",
			},
		},
		{
			name: "udp_refused_unconnected", does: "a socket that is not connected is never told that its datagram met a dead port; no server is named",
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.bind("u", "udp4", "127.0.0.1:0", "P")
				server.do("close u")
				client.do("socket u udp4")
				client.do("sendto u 1 %s", at)
				s.port("C", client.addr("u").Port())
				client.do("close u")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"release process=server address=127.0.0.1 port=P reason=close",
				"bind process=client address=0.0.0.0 port=C",
				"connect port=P client.process=client",
				"close port=P client.process=client closed_by=client",
				"release process=client address=0.0.0.0 port=C reason=close",
			},
		},
		{
			needs: map[Form]need{Tracepoint: connectedUDP},
			name:  "udp_not_sent", does: "the kernel sends none of it: a broadcast without SO_BROADCAST, and what comes after an error that nobody has read", show: []string{"client.port"},
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.bind("u", "udp4", "127.0.0.1:0", "P")
				client.do("socket u udp4")
				client.fail(unix.EACCES, "sendto u 1 127.255.255.255:%d", at.Port())
				s.port("C", client.addr("u").Port())
				client.do("connect u 127.0.0.1:9")
				client.do("send u 1")
				client.fail(unix.ECONNREFUSED, "sendto u 1 %s", at)
				client.do("sendto u 1 %s", at)
				server.do("recv u 1")
				client.do("close u")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"bind process=client address=0.0.0.0 port=C",
				"connect error.type=ECONNREFUSED port=9 client.process=client client.port=C",
				"connect port=P client.process=client server.process=server client.port=C",
				"close port=P client.process=client server.process=server closed_by=client client.port=C",
				"release process=client address=0.0.0.0 port=C reason=close",
			},
		},
		{
			name: "udp_connected_elsewhere", does: "of two sockets on the port the one that fits better is connected to somebody else: the other gets the datagram", show: []string{"client.port"},
			play: func(s *stage) {
				server, other, client := s.actor("server"), s.actor("other"), s.actor("client")
				for _, p := range []*player{server, other} {
					p.do("socket u udp4")
					p.do("set u reuseaddr")
				}
				server.do("bind u 0.0.0.0:5353")
				other.do("bind u 127.0.0.1:5353")
				other.do("connect u 127.0.0.1:9")
				client.do("socket u udp4")
				client.do("sendto u 1 127.0.0.1:5353")
				s.port("C", client.addr("u").Port())
				server.do("recv u 1")
				server.do("close u")
				client.do("close u")
			},
			want: []string{
				"bind process=server address=0.0.0.0 port=5353",
				"bind process=other address=127.0.0.1 port=5353",
				"bind process=client address=0.0.0.0 port=C",
				"connect port=5353 client.process=client server.process=server client.port=C",
				"close port=5353 client.process=client server.process=server closed_by=server client.port=C",
				"release process=server address=0.0.0.0 port=5353 reason=close",
				"release process=client address=0.0.0.0 port=C reason=close",
			},
		},
		{
			name: "udp6", does: "a flow over ::1", show: []string{"network.type"},
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.bind("u", "udp6", "[::1]:0", "P")
				client.do("socket u udp6")
				client.do("sendto u 1 %s", at)
				s.port("C", client.addr("u").Port())
				server.do("recv u 1")
			},
			want: []string{
				"bind process=server address=::1 port=P network.type=ipv6",
				"bind process=client address=:: port=C network.type=ipv6",
				"connect port=P client.process=client server.process=server network.type=ipv6",
			},
		},
	}
}
