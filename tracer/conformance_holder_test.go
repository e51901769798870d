// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

var holderShow = []string{"holder.kind", "holder.address", "holder.process"}

// on gives a port with another address.
func on(addr string, at netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), at.Port())
}

// taken: another process asks for a port that somebody holds.
func taken(s *stage, kind string, at netip.AddrPort) *player {
	other := s.actor("other")
	other.do("socket x %s", kind)
	other.fail(unix.EADDRINUSE, "bind x %s", at)
	return other
}

func holderScenes() []scene {
	return []scene{
		{
			name: "holder_listener", does: "a port that another process listens on is asked for", show: holderShow,
			play: func(s *stage) { taken(s, "tcp4", s.actor("server").listen("l", "tcp4", "127.0.0.1:0", "P")) },
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.kind=listener holder.address=127.0.0.1 holder.process=server",
			},
		},
		{
			name: "holder_bound", does: "the port's holder bound it and never listened: ss and lsof do not show it", show: holderShow,
			play: func(s *stage) { taken(s, "tcp4", s.actor("server").bind("b", "tcp4", "127.0.0.1:0", "P")) },
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.kind=bound holder.address=127.0.0.1 holder.process=server",
			},
		},
		{
			name: "holder_bound_before", does: "the holder bound the port before tracing began", show: holderShow, early: true,
			play: func(s *stage) {
				at := s.actor("server").bind("b", "tcp4", "127.0.0.1:0", "P")
				s.trace()
				taken(s, "tcp4", at)
			},
			want: []string{
				"bind preexisting=true process=server(snapshot) address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.kind=bound holder.address=127.0.0.1 holder.process=server(snapshot)",
			},
		},
		{
			name: "holder_client", does: "the wanted port is the source port of somebody's connection", show: append([]string{"holder.peer.port"}, holderShow...),
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				client.dial("c", "tcp4", at)
				server.do("accept l s")
				from := client.addr("c")
				s.port("C", from.Port())
				taken(s, "tcp4", from)
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server",
				"accept port=P client.process=client server.process=server",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=C holder.peer.port=P holder.kind=connection holder.address=127.0.0.1 holder.process=client",
			},
		},
		{
			name: "holder_accepted", does: "an accepted connection outlived its listener", show: append([]string{"holder.peer.port"}, holderShow...),
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				client.dial("c", "tcp4", at)
				server.do("accept l s")
				server.do("close l")
				s.port("C", client.addr("c").Port())
				taken(s, "tcp4", at)
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server",
				"accept port=P client.process=client server.process=server",
				"release process=server address=127.0.0.1 port=P reason=close",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.peer.port=C holder.kind=connection holder.address=127.0.0.1 holder.process=server",
			},
		},
		{
			name: "holder_time_wait", does: "only TIME_WAIT is left of the port: its last owner is named, dead or not", show: holderShow,
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				client.dial("c", "tcp4", at)
				server.do("accept l s")
				server.do("close s")
				client.do("recv c 1")
				client.do("close c")
				server.exit(0)
				taken(s, "tcp4", at)
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server",
				"accept port=P client.process=client server.process=server",
				"close port=P client.process=client server.process=server closed_by=server",
				"release process=server address=127.0.0.1 port=P reason=exit process.exit.code=0",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.kind=time_wait holder.address=127.0.0.1 holder.process=server",
			},
		},
		{
			name: "holder_time_wait_child", does: "a child of who accepted closes last, and first of both ends: TIME_WAIT is the child's", show: holderShow,
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				client.dial("c", "tcp4", at)
				server.do("accept l s")
				child := server.fork("child", 0)
				server.do("close s")
				server.do("close l")
				child.do("close l")
				child.do("close s")
				client.do("recv c 1")
				client.do("close c")
				taken(s, "tcp4", at)
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server",
				"accept port=P client.process=client server.process=server",
				"release process=child address=127.0.0.1 port=P reason=close",
				"close port=P client.process=client server.process=server closed_by=server",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.kind=time_wait holder.address=127.0.0.1 holder.process=child",
			},
		},
		{
			name: "holder_listen", does: "two SO_REUSEADDR binds succeed, the second listen() does not", show: holderShow,
			play: func(s *stage) {
				server, other := s.actor("server"), s.actor("other")
				server.do("socket l tcp4")
				server.do("set l reuseaddr")
				server.do("bind l 127.0.0.1:0")
				at := server.addr("l")
				s.port("P", at.Port())
				other.do("socket x tcp4")
				other.do("set x reuseaddr")
				other.do("bind x %s", at)
				server.do("listen l 16")
				other.fail(unix.EADDRINUSE, "listen x 16")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"bind process=other address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"listen error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.kind=listener holder.address=127.0.0.1 holder.process=server",
			},
		},
		{
			name: "holder_under_wildcard", does: "the wildcard is asked for where one address is held", show: holderShow,
			play: func(s *stage) {
				at := s.actor("server").listen("l", "tcp4", "127.0.0.2:0", "P")
				taken(s, "tcp4", on("0.0.0.0", at))
			},
			want: []string{
				"bind process=server address=127.0.0.2 port=P",
				"listen process=server address=127.0.0.2 port=P",
				"bind error.type=EADDRINUSE process=other address=0.0.0.0 port=P holder.kind=listener holder.address=127.0.0.2 holder.process=server",
			},
		},
		{
			name: "holder_wildcard", does: "one address is asked for where the wildcard is held", show: holderShow,
			play: func(s *stage) {
				at := s.actor("server").listen("l", "tcp4", "0.0.0.0:0", "P")
				taken(s, "tcp4", on("127.0.0.1", at))
			},
			want: []string{
				"bind process=server address=0.0.0.0 port=P",
				"listen process=server address=0.0.0.0 port=P",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.kind=listener holder.address=0.0.0.0 holder.process=server",
			},
		},
		{
			name: "holder_other_address", does: "another address of the port is free, and is not mistaken for the holder's", show: holderShow,
			play: func(s *stage) {
				server, other := s.actor("server"), s.actor("other")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				other.bind("x", "tcp4", on("127.0.0.2", at).String(), "P")
				third := s.actor("third")
				third.do("socket x tcp4")
				third.fail(unix.EADDRINUSE, "bind x %s", on("127.0.0.2", at))
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"bind process=other address=127.0.0.2 port=P",
				"bind error.type=EADDRINUSE process=third address=127.0.0.2 port=P holder.kind=bound holder.address=127.0.0.2 holder.process=other",
			},
		},
		{
			name: "holder_dual_stack", does: "an IPv6 wildcard holds the IPv4 port too", show: holderShow,
			play: func(s *stage) {
				at := s.actor("server").listen("l", "tcp6", "[::]:0", "P")
				taken(s, "tcp4", on("127.0.0.1", at))
			},
			want: []string{
				"bind process=server address=:: port=P",
				"listen process=server address=:: port=P",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.kind=listener holder.address=:: holder.process=server",
			},
		},
		{
			name: "holder_of_dual_stack", does: "an IPv4 address keeps an IPv6 wildcard out", show: holderShow,
			play: func(s *stage) {
				at := s.actor("server").listen("l", "tcp4", "127.0.0.1:0", "P")
				taken(s, "tcp6", on("::", at))
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=other address=:: port=P holder.kind=listener holder.address=127.0.0.1 holder.process=server",
			},
		},
		{
			name: "holder_v6only", does: "an IPv6-only wildcard and the IPv4 one share a port; each names its own holder", show: holderShow,
			play: func(s *stage) {
				six, four := s.actor("six"), s.actor("four")
				six.do("socket l tcp6")
				six.do("set l v6only")
				six.do("bind l [::]:0")
				at := six.addr("l")
				s.port("P", at.Port())
				four.bind("l", "tcp4", on("0.0.0.0", at).String(), "P")
				other := s.actor("other")
				other.do("socket x tcp4")
				other.fail(unix.EADDRINUSE, "bind x %s", on("127.0.0.1", at))
				other.do("socket y tcp6")
				other.fail(unix.EADDRINUSE, "bind y %s", on("::1", at))
			},
			want: []string{
				"bind process=six address=:: port=P",
				"bind process=four address=0.0.0.0 port=P",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.kind=bound holder.address=0.0.0.0 holder.process=four",
				"bind error.type=EADDRINUSE process=other address=::1 port=P holder.kind=bound holder.address=:: holder.process=six",
			},
		},
		{
			name: "holder_mapped", does: "an IPv6 socket holds an IPv4 address by its mapped form", show: holderShow,
			play: func(s *stage) {
				taken(s, "tcp4", s.actor("server").listen("l", "tcp6", "127.0.0.1:0", "P"))
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.kind=listener holder.address=127.0.0.1 holder.process=server",
			},
		},
		{
			name: "holder_other_user", does: "the holder belongs to another user", show: append([]string{"holder.process.owner"}, holderShow...),
			play: func(s *stage) {
				server := s.actor("server")
				server.do("setuid 65534")
				s.enter("server", server.pid)
				taken(s, "tcp4", server.listen("l", "tcp4", "127.0.0.1:0", "P"))
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.process.owner=nobody holder.kind=listener holder.address=127.0.0.1 holder.process=server",
			},
		},
		{
			name: "holder_container", does: "the holder is in a container that shares the network namespace",
			show: append([]string{"holder.container.id", "holder.container.runtime.name"}, holderShow...),
			play: func(s *stage) {
				server := s.contained("server")
				taken(s, "tcp4", server.listen("l", "tcp4", "127.0.0.1:0", "P"))
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.container.id=" + containerID +
					" holder.container.runtime.name=docker holder.kind=listener holder.address=127.0.0.1 holder.process=server",
			},
		},
		{
			name: "holder_moved", does: "the holder is moved into a container, and executes nothing there",
			show: append([]string{"holder.container.id", "holder.container.runtime.name"}, holderShow...),
			play: func(s *stage) {
				server := s.moved("server")
				taken(s, "tcp4", server.listen("l", "tcp4", "127.0.0.1:0", "P"))
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.container.id=" + containerID +
					" holder.container.runtime.name=docker holder.kind=listener holder.address=127.0.0.1 holder.process=server",
			},
		},
		{
			name: "holder_udp", does: "a UDP port that another process has bound", show: holderShow,
			play: func(s *stage) { taken(s, "udp4", s.actor("server").bind("u", "udp4", "127.0.0.1:0", "P")) },
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=other address=127.0.0.1 port=P holder.kind=bound holder.address=127.0.0.1 holder.process=server",
			},
		},
	}
}

const containerID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// contained starts an actor in a cgroup as Docker names them. As runtimes do, it is moved first and executes then.
func (s *stage) contained(name string) *player {
	s.t.Helper()
	p := s.moved(name)
	p.exec(name)
	return p
}

// moved starts an actor and moves it into a cgroup as Docker names them (systemd's driver), on a hierarchy that
// is mounted for this process alone.
func (s *stage) moved(name string) *player {
	s.t.Helper()
	files, err := openKernelFiles()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(files.Close)
	dir := filepath.Join(files.cgroup, fmt.Sprintf("looptrace-test-%d", os.Getpid()))
	inner := filepath.Join(dir, "docker-"+containerID+".scope")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		s.t.Fatal(err)
	}
	p := s.actor(name)
	s.t.Cleanup(func() {
		p.kill()
		for _, d := range []string{inner, dir} {
			if err := os.Remove(d); err != nil {
				s.t.Error(err)
			}
		}
	})
	if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte(strconv.Itoa(p.pid)), 0); err != nil {
		s.t.Fatal(err)
	}
	return p
}
