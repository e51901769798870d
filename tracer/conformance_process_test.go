// SPDX-License-Identifier: Apache-2.0

package tracer

import "golang.org/x/sys/unix"

func processScenes() []scene {
	return []scene{
		{
			name: "short_lived", does: "a client that forks, connects and exits at once is named in full",
			play: func(s *stage) {
				server, parent := s.actor("server"), s.actor("parent")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				client := parent.fork("client", 0)
				client.dial("c", "tcp4", at)
				client.exit(0)
				server.do("accept l s")
				server.do("close s")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server",
				"accept port=P client.process=client server.process=server",
				"close port=P client.process=client server.process=server closed_by=client",
			},
		},
		{
			name: "across_exec", does: "a shell opens a socket, the program that it becomes uses it",
			play: func(s *stage) {
				p, server := s.actor("shell"), s.actor("server")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				p.do("socket c tcp4 inherit")
				p.do("bind c 127.0.0.1:0")
				s.port("C", p.addr("c").Port())
				p.exec("program")
				p.do("connect c %s", at)
				server.do("accept l s")
				p.do("close c")
				server.do("close s")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"bind process=shell address=127.0.0.1 port=C",
				"connect port=P client.process=program server.process=server",
				"accept port=P client.process=program server.process=server",
				"release process=program address=127.0.0.1 port=C reason=close",
				"close port=P client.process=program server.process=server closed_by=client",
			},
		},
		{
			name: "threads", does: "threads bind, connect and accept: the record names the program, and the thread apart",
			show: []string{"process.thread.name", "client.process.thread.name", "server.process.thread.name"},
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				server.do("socket l tcp4")
				server.do("thread binder bind l 127.0.0.1:0")
				server.do("join")
				server.do("listen l 16")
				at := server.addr("l")
				s.port("P", at.Port())
				client.do("socket c tcp4")
				client.do("thread dialler connect c %s", at)
				client.do("join")
				server.do("thread worker accept l s")
				server.do("join")
				client.do("thread closer close c")
				client.do("join")
				server.do("close s")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P process.thread.name=binder",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server client.process.thread.name=dialler",
				"accept port=P client.process=client server.process=server",
				"close port=P client.process=client server.process=server closed_by=client",
			},
		},
		{
			name: "renamed", does: "a program that renamed itself goes by its new name, and is the same process",
			play: func(s *stage) {
				server := s.actor("server")
				server.bind("a", "tcp4", "127.0.0.1:0", "A")
				server.do("rename renamed")
				s.enter("renamed", server.pid)
				server.bind("b", "tcp4", "127.0.0.1:0", "B")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=A",
				"bind process=renamed address=127.0.0.1 port=B",
			},
		},
		{
			name: "changed_user", does: "a program that changed its user is told with the user of each call", show: []string{"process.owner"},
			play: func(s *stage) {
				server := s.actor("server")
				server.bind("a", "tcp4", "127.0.0.1:0", "A")
				server.do("setuid 65534")
				s.enter("nobodys", server.pid)
				server.bind("b", "tcp4", "127.0.0.1:0", "B")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=A process.owner=root",
				"bind process=nobodys address=127.0.0.1 port=B process.owner=nobody",
			},
		},
		{
			name: "failed_calls", does: "calls that fail say what was asked and why", show: []string{"requested.address", "requested.port"},
			play: func(s *stage) {
				a := s.actor("a")
				s.port("P", 4000)
				a.do("socket x tcp4")
				a.fail(unix.EADDRNOTAVAIL, "bind x 192.0.2.1:4000") // on no interface of this namespace
				a.do("bind x 127.0.0.1:4000")
				a.fail(unix.EINVAL, "bind x 127.0.0.1:4000")
			},
			want: []string{
				// An address that loopback cannot reach is no concern of it.
				"bind process=a address=127.0.0.1 port=P requested.address=127.0.0.1 requested.port=P",
				"bind error.type=EINVAL process=a address=127.0.0.1 port=P requested.address=127.0.0.1 requested.port=P",
			},
		},
	}
}
