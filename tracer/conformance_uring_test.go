// SPDX-License-Identifier: Apache-2.0

package tracer

import "golang.org/x/sys/unix"

func uringScenes() []scene {
	return []scene{
		{
			needs: map[Form]need{Auto: {"6.11", "IORING_OP_BIND and IORING_OP_LISTEN"}},
			name:  "uring", does: "io_uring binds, listens, connects and accepts, without the system calls", show: []string{"requested.address", "requested.port"},
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				server.do("socket l tcp4")
				server.do("uring bind l 127.0.0.1:0")
				server.do("uring listen l 16")
				at := server.addr("l")
				s.port("P", at.Port())
				client.do("socket c tcp4")
				client.do("uring connect c %s", at)
				server.do("uring accept l s")
				client.do("close c")
				server.do("close s")
				server.do("close l")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P requested.address=127.0.0.1 requested.port=0",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server",
				"accept port=P client.process=client server.process=server",
				"close port=P client.process=client server.process=server closed_by=client",
				"release process=server address=127.0.0.1 port=P reason=close",
			},
			differs: map[Form]difference{Tracepoint: {
				why: "the completion does not say what bind() was asked for: `requested` is absent",
				want: []string{
					"bind process=server address=127.0.0.1 port=P",
					"listen process=server address=127.0.0.1 port=P",
					"connect port=P client.process=client server.process=server",
					"accept port=P client.process=client server.process=server",
					"close port=P client.process=client server.process=server closed_by=client",
					"release process=server address=127.0.0.1 port=P reason=close",
				},
			}},
		},
		{
			name: "uring_refused", does: "io_uring connects to a dead port", show: lastFields,
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				server.do("close l")
				client.do("socket c tcp4")
				client.fail(unix.ECONNREFUSED, "uring connect c %s", at)
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"release process=server address=127.0.0.1 port=P reason=close",
				"connect error.type=ECONNREFUSED port=P client.process=client last_listener.process=server last_listener.reason=close",
			},
		},
		{
			needs: map[Form]need{Auto: {"6.11", "IORING_OP_BIND and IORING_OP_LISTEN"}},
			name:  "uring_in_use", does: "io_uring asks for a port that is held", show: holderShow,
			play: func(s *stage) {
				at := s.actor("server").listen("l", "tcp4", "127.0.0.1:0", "P")
				other := s.actor("other")
				other.do("socket x tcp4")
				other.fail(unix.EADDRINUSE, "uring bind x %s", at)
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.kind=listener holder.address=127.0.0.1 holder.process=server",
			},
			differs: map[Form]difference{Tracepoint: {
				why: "the completion does not say what bind() was asked for: the failure is left out, since nobody could tell of which port it is",
				want: []string{
					"bind process=server address=127.0.0.1 port=P",
					"listen process=server address=127.0.0.1 port=P",
				},
			}},
		},
	}
}
