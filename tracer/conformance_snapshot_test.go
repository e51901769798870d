// SPDX-License-Identifier: Apache-2.0

package tracer

import "golang.org/x/sys/unix"

func snapshotScenes() []scene {
	return []scene{
		{
			name: "before", does: "a listener, a bound socket, a UDP socket and a connection that were there before tracing", early: true,
			play: func(s *stage) {
				server, client, _ := s.pair("tcp4", "127.0.0.1:0")
				client.bind("b", "tcp4", "127.0.0.1:0", "B")
				client.bind("u", "udp4", "127.0.0.1:0", "U")
				s.trace()
				client.do("send c 10")
				server.do("recvall s 10")
				client.do("close c")
				server.do("recv s 1")
				server.do("close s")
				server.do("close l")
				client.do("close b")
				client.exit(0)
			},
			want: []string{
				"listen preexisting=true process=server(snapshot) address=127.0.0.1 port=P",
				"bind preexisting=true process=client(snapshot) address=127.0.0.1 port=B",
				"bind preexisting=true process=client(snapshot) address=127.0.0.1 port=U",
				"connect preexisting=true port=P client.process=client(snapshot) server.process=server(snapshot)",
				"close preexisting=true port=P client.process=client(snapshot) server.process=server(snapshot) closed_by=client",
				"release preexisting=true process=server address=127.0.0.1 port=P reason=close",
				"release preexisting=true process=client address=127.0.0.1 port=B reason=close",
				"release preexisting=true process=client address=127.0.0.1 port=U reason=exit process.exit.code=0",
			},
		},
		{
			name: "before_refused", does: "a listener that was there before tracing is closed; the next client is told who it was", early: true, show: lastFields,
			play: func(s *stage) {
				server := s.actor("server")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				s.trace()
				server.exit(1)
				refused(s, "tcp4", at)
			},
			want: []string{
				"listen preexisting=true process=server(snapshot) address=127.0.0.1 port=P",
				"release preexisting=true process=server address=127.0.0.1 port=P reason=exit process.exit.code=1",
				"connect error.type=ECONNREFUSED port=P client.process=client last_listener.process=server last_listener.reason=exit last_listener.exit.code=1",
			},
		},
		{
			name: "before_shared", does: "a listener that two processes held before tracing: the record lists both", early: true,
			play: func(s *stage) {
				parent := s.actor("parent")
				parent.listen("l", "tcp4", "127.0.0.1:0", "P")
				parent.fork("child", 0)
				s.trace()
			},
			want: []string{
				"listen preexisting=true process=parent(shared[child(snapshot), parent(snapshot)]) address=127.0.0.1 port=P",
			},
		},
		{
			name: "before_self", does: "a socket that was connected to itself before tracing", early: true,
			play: func(s *stage) {
				a := s.actor("a")
				at := a.bind("c", "tcp4", "127.0.0.1:0", "P")
				a.do("connect c %s", at)
				s.trace()
				a.do("close c")
			},
			want: []string{
				"connect preexisting=true port=P client.process=a(snapshot) server.process=a(snapshot) self=true",
				"close preexisting=true port=P client.process=a(snapshot) server.process=a(snapshot) closed_by=client",
			},
		},
		{
			name: "before_closed", does: "what was gone before tracing began has no record", early: true,
			play: func(s *stage) {
				server, client, _ := s.pair("tcp4", "127.0.0.1:0")
				client.do("close c")
				server.exit(0)
				s.trace()
				client.fail(unix.EBADF, "send c 1")
			},
			want: nil,
		},
	}
}
