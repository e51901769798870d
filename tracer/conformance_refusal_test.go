// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"

	"golang.org/x/sys/unix"
)

var lastFields = []string{
	"last_listener.process", "last_listener.reason", "last_listener.exit.code", "last_listener.exit.signal",
	"nearby",
}

// refused: a client dials a port that nobody listens on.
func refused(s *stage, kind string, at any) {
	client := s.actor("client")
	client.do("socket c %s", kind)
	client.fail(unix.ECONNREFUSED, "connect c %s", at)
}

func refusalScenes() []scene {
	return []scene{
		{
			name: "last_listener_closed", does: "the listener was closed, its process lives", show: lastFields,
			play: func(s *stage) {
				server := s.actor("server")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				server.do("close l")
				refused(s, "tcp4", at)
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"release process=server address=127.0.0.1 port=P reason=close",
				"connect error.type=ECONNREFUSED port=P client.process=client last_listener.process=server last_listener.reason=close",
			},
		},
		{
			name: "last_listener_exited", does: "the listener's process exited with a status", show: lastFields,
			play: func(s *stage) {
				server := s.actor("server")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				server.exit(3)
				refused(s, "tcp4", at)
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"release process=server address=127.0.0.1 port=P reason=exit process.exit.code=3",
				"connect error.type=ECONNREFUSED port=P client.process=client last_listener.process=server last_listener.reason=exit last_listener.exit.code=3",
			},
		},
		{
			name: "last_listener_killed", does: "the listener's process was killed", show: lastFields,
			play: func(s *stage) {
				server := s.actor("server")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				server.kill()
				refused(s, "tcp4", at)
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"release process=server address=127.0.0.1 port=P reason=exit process.exit.signal=SIGKILL",
				"connect error.type=ECONNREFUSED port=P client.process=client last_listener.process=server last_listener.reason=exit last_listener.exit.signal=SIGKILL",
			},
		},
		{
			name: "last_listener_shutdown", does: "the listener was shut down; a port that was asked for stays held", show: lastFields,
			play: func(s *stage) {
				server := s.actor("server")
				free := server.bind("probe", "tcp4", "127.0.0.1:0", "P")
				server.do("close probe")
				server.listen("l", "tcp4", free.String(), "P")
				server.do("shutdown l 2")
				refused(s, "tcp4", free)
				other := s.actor("other")
				other.do("socket x tcp4")
				other.fail(unix.EADDRINUSE, "bind x %s", free)
				server.do("close l")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"release process=server address=127.0.0.1 port=P reason=close",
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect error.type=ECONNREFUSED port=P client.process=client last_listener.process=server last_listener.reason=shutdown",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P",
				"release process=server address=127.0.0.1 port=P reason=close",
			},
		},
		{
			name: "last_listener_latest", does: "two listened on the port, one after the other: the later one is named", show: lastFields,
			play: func(s *stage) {
				first, second := s.actor("first"), s.actor("second")
				at := first.listen("l", "tcp4", "127.0.0.1:0", "P")
				first.exit(1)
				second.listen("l", "tcp4", at.String(), "P")
				second.exit(2)
				refused(s, "tcp4", at)
			},
			want: []string{
				"bind process=first address=127.0.0.1 port=P",
				"listen process=first address=127.0.0.1 port=P",
				"release process=first address=127.0.0.1 port=P reason=exit process.exit.code=1",
				"bind process=second address=127.0.0.1 port=P",
				"listen process=second address=127.0.0.1 port=P",
				"release process=second address=127.0.0.1 port=P reason=exit process.exit.code=2",
				"connect error.type=ECONNREFUSED port=P client.process=client last_listener.process=second last_listener.reason=exit last_listener.exit.code=2",
			},
		},
		{
			name: "never_listened", does: "the port is bound, and nobody ever listened on it", show: lastFields,
			play: func(s *stage) { refused(s, "tcp4", s.actor("server").bind("b", "tcp4", "127.0.0.1:0", "P")) },
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"connect error.type=ECONNREFUSED port=P client.process=client",
			},
		},
		{
			name: "nearby_family", does: "the port's listener is on ::1, the client dialled 127.0.0.1", show: lastFields,
			play: func(s *stage) {
				refused(s, "tcp4", on("127.0.0.1", s.actor("server").listen("l", "tcp6", "[::1]:0", "P")))
			},
			want: []string{
				"bind process=server address=::1 port=P",
				"listen process=server address=::1 port=P",
				"connect error.type=ECONNREFUSED port=P client.process=client nearby=[::1 P server family]",
			},
		},
		{
			name: "nearby_address", does: "the port's listener is on 127.0.0.2, the client dialled 127.0.0.1", show: lastFields,
			play: func(s *stage) {
				refused(s, "tcp4", on("127.0.0.1", s.actor("server").listen("l", "tcp4", "127.0.0.2:0", "P")))
			},
			want: []string{
				"bind process=server address=127.0.0.2 port=P",
				"listen process=server address=127.0.0.2 port=P",
				"connect error.type=ECONNREFUSED port=P client.process=client nearby=[127.0.0.2 P server address]",
			},
		},
		{
			name: "nearby_netns", does: "the port's listener is in another network namespace", show: lastFields,
			play: func(s *stage) {
				server := s.actor("server")
				server.do("netns")
				s.enterNetns(server.pid, server.pid)
				refused(s, "tcp4", server.listen("l", "tcp4", "127.0.0.1:0", "P"))
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect error.type=ECONNREFUSED port=P client.process=client nearby=[127.0.0.1 P server netns]",
			},
		},
		{
			name: "nearby_container", does: "the port's listener is in a container of another network namespace",
			show: lastFields,
			play: func(s *stage) {
				server := s.contained("server")
				server.do("netns")
				s.enterNetns(server.pid, server.pid)
				refused(s, "tcp4", server.listen("l", "tcp4", "127.0.0.1:0", "P"))
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect error.type=ECONNREFUSED port=P client.process=client nearby=[127.0.0.1 P server container 0123456789ab netns]",
			},
		},
		{
			name: "refused_nonblocking", does: "a connect() that does not block is refused", show: lastFields,
			play: func(s *stage) {
				server := s.actor("server")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				server.do("close l")
				client := s.actor("client")
				client.do("socket c tcp4")
				client.do("nonblock c")
				// On loopback the refusal comes before connect() returns, or after it.
				if _, err := client.try("connect c %s", at); errors.Is(err, unix.EINPROGRESS) {
					client.fail(unix.ECONNREFUSED, "finish c")
				} else if !errors.Is(err, unix.ECONNREFUSED) {
					s.t.Fatal(err)
				}
				client.do("close c") // and this is not a close record
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"release process=server address=127.0.0.1 port=P reason=close",
				"connect error.type=ECONNREFUSED port=P client.process=client last_listener.process=server last_listener.reason=close",
			},
		},
		{
			name: "refused_v6", does: "::1 is refused, and the IPv4 listener is nearby", show: lastFields,
			play: func(s *stage) {
				refused(s, "tcp6", on("::1", s.actor("server").listen("l", "tcp4", "127.0.0.1:0", "P")))
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect error.type=ECONNREFUSED port=P client.process=client nearby=[127.0.0.1 P server family]",
			},
		},
		{
			name: "refused_any", does: "0.0.0.0 is dialled: the record says what the socket was connected to", show: append([]string{"server.address"}, lastFields...),
			play: func(s *stage) {
				server := s.actor("server")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				server.do("close l")
				refused(s, "tcp4", on("0.0.0.0", at))
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"release process=server address=127.0.0.1 port=P reason=close",
				"connect error.type=ECONNREFUSED port=P client.process=client server.address=127.0.0.1 last_listener.process=server last_listener.reason=close",
			},
		},
	}
}
