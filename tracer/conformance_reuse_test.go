// SPDX-License-Identifier: Apache-2.0

package tracer

import "golang.org/x/sys/unix"

func reuseScenes() []scene {
	return []scene{
		{
			name: "pid_reused", does: "a process has the number of one that is gone: each record names its own", show: lastFields,
			play: func(s *stage) {
				parent := s.actor("parent")
				first := parent.fork("first", 0)
				at := first.listen("l", "tcp4", "127.0.0.1:0", "P")
				pid := first.pid
				first.exit(1)
				s.elapse()
				second := parent.fork("second", pid)
				second.do("socket c tcp4")
				second.fail(unix.ECONNREFUSED, "connect c %s", at)
				second.listen("l", "tcp4", at.String(), "P")
			},
			want: []string{
				"bind process=first address=127.0.0.1 port=P",
				"listen process=first address=127.0.0.1 port=P",
				"release process=first address=127.0.0.1 port=P reason=exit process.exit.code=1",
				"connect error.type=ECONNREFUSED port=P client.process=second last_listener.process=first last_listener.reason=exit last_listener.exit.code=1",
				"bind process=second address=127.0.0.1 port=P",
				"listen process=second address=127.0.0.1 port=P",
			},
		},
		{
			name: "port_reused", does: "a client's port is used again at once by another process, for another connection", show: []string{"client.port"},
			play: func(s *stage) {
				server, one, two := s.actor("server"), s.actor("one"), s.actor("two")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				one.dial("c", "tcp4", at)
				from := one.addr("c")
				s.port("C", from.Port())
				server.do("accept l s")
				one.do("set c linger0") // no TIME_WAIT
				one.do("close c")
				server.do("close s")
				two.do("socket c tcp4")
				two.do("bind c %s", from)
				two.do("connect c %s", at)
				server.do("accept l s")
				two.do("close c")
				server.do("close s")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=one server.process=server client.port=C",
				"accept port=P client.process=one server.process=server client.port=C",
				"close port=P client.process=one server.process=server closed_by=client reset=true client.port=C",
				"bind process=two address=127.0.0.1 port=C",
				"connect port=P client.process=two server.process=server client.port=C",
				"accept port=P client.process=two server.process=server client.port=C",
				"release process=two address=127.0.0.1 port=C reason=close",
				"close port=P client.process=two server.process=server closed_by=client client.port=C",
			},
		},
	}
}
