// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// probed asks for a port again and again until the holder is told like this; only the last answer
// counts. looptrace looks at the table of open files after a fork, and says it within a second.
func (s *stage) probed(at netip.AddrPort, holder string) {
	s.t.Helper()
	prober := s.actor("prober")
	s.lastOf = prober.pid
	prober.do("socket x tcp4")
	eventually(s.t, "holder "+holder, func() bool {
		prober.fail(unix.EADDRINUSE, "bind x %s", at)
		got := "no record"
		for _, r := range of(s.shared.rec.records(s.t), "bind") {
			if r.number("process.pid") == prober.pid {
				got = s.value("holder.process", r.at("holder.process"))
			}
		}
		return got == holder
	})
}

func handoverScenes() []scene {
	return []scene{
		{
			name: "fork_after_listen", does: "the listener's process forked; the child accepts. listener.process is who called listen()",
			play: func(s *stage) {
				parent, client := s.actor("parent"), s.actor("client")
				at := parent.listen("l", "tcp4", "127.0.0.1:0", "P")
				child := parent.fork("child", 0)
				s.probed(at, "parent(shared[child(snapshot), parent])")
				client.dial("c", "tcp4", at)
				child.do("accept l s")
				client.do("close c")
				child.do("recv s 1")
				child.do("close s")
			},
			want: []string{
				"bind process=parent address=127.0.0.1 port=P",
				"listen process=parent address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=prober address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=parent(shared[child(snapshot), parent])",
				"accept port=P client.process=client server.process=child listener.process=parent",
				"close port=P client.process=client server.process=child closed_by=client",
			},
		},
		{
			name: "prefork", does: "a parent and two children that it forked accept from one listener; the last to leave releases it",
			play: func(s *stage) {
				parent, client := s.actor("parent"), s.actor("client")
				at := parent.listen("l", "tcp4", "127.0.0.1:0", "P")
				one, two := parent.fork("one", 0), parent.fork("two", 0)
				s.probed(at, "parent(shared[one(snapshot), parent, two(snapshot)])")
				for i, acceptor := range []*player{one, two, parent} {
					client.dial(fmt.Sprint("c", i), "tcp4", at)
					acceptor.do("accept l s%d", i)
				}
				parent.do("close l")
				one.exit(0)
				two.exit(4)
			},
			want: []string{
				"bind process=parent address=127.0.0.1 port=P",
				"listen process=parent address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=prober address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=parent(shared[one(snapshot), parent, two(snapshot)])",
				"accept port=P client.process=client server.process=one listener.process=parent",
				"connect port=P client.process=client server.process=parent(shared[one(snapshot), parent, two(snapshot)])",
				"accept port=P client.process=client server.process=two listener.process=parent",
				"connect port=P client.process=client server.process=parent(shared[one(snapshot), parent, two(snapshot)])",
				"accept port=P client.process=client server.process=parent",
				"release process=two address=127.0.0.1 port=P reason=exit process.exit.code=4",
			},
		},
		{
			name: "scm_rights", does: "a listener is passed over a UNIX socket; the receiver accepts",
			play: func(s *stage) {
				giver, taker, client := s.actor("giver"), s.actor("taker"), s.actor("client")
				at := giver.listen("l", "tcp4", "127.0.0.1:0", "P")
				giver.give("l", taker, "m")
				s.probed(at, "giver(shared[giver, taker(snapshot)])")
				client.dial("c", "tcp4", at)
				taker.do("accept m s")
				giver.exit(0)
				taker.do("close m")
			},
			want: []string{
				"bind process=giver address=127.0.0.1 port=P",
				"listen process=giver address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=prober address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=giver(shared[giver, taker(snapshot)])",
				"accept port=P client.process=client server.process=taker listener.process=giver",
				"release process=taker address=127.0.0.1 port=P reason=close",
			},
		},
		{
			name: "scm_rights_accepted", does: "an accepted connection is passed on: accept and close name who accepted it",
			play: func(s *stage) {
				giver, taker, client := s.actor("giver"), s.actor("taker"), s.actor("client")
				at := giver.listen("l", "tcp4", "127.0.0.1:0", "P")
				client.dial("c", "tcp4", at)
				giver.do("accept l s")
				giver.give("s", taker, "s")
				giver.do("close s")
				taker.do("send s 9")
				client.do("recvall c 9")
				taker.do("close s")
				client.do("recv c 1")
				client.do("close c")
			},
			show: []string{"bytes.server_to_client"},
			want: []string{
				"bind process=giver address=127.0.0.1 port=P",
				"listen process=giver address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=giver",
				"accept port=P client.process=client server.process=giver",
				"close port=P client.process=client server.process=giver closed_by=server bytes.server_to_client=9",
			},
		},
		{
			name: "socket_activation", does: "systemd-socket-activate listens, and becomes the program that accepts",
			play: func(s *stage) {
				probe, client := s.actor("probe"), s.actor("client")
				at := probe.bind("b", "tcp4", "127.0.0.1:0", "P")
				probe.do("close b")
				s.activated(at.String())
				client.dial("c", "tcp4", at)
				service := s.join("service")
				service.do("accept l s")
				service.exit(0)
			},
			want: []string{
				"bind process=probe address=127.0.0.1 port=P",
				"release process=probe address=127.0.0.1 port=P reason=close",
				"bind process=activator address=127.0.0.1 port=P",
				"listen process=activator address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=activator",
				"accept port=P client.process=client server.process=service",
				"release process=service address=127.0.0.1 port=P reason=exit process.exit.code=0",
			},
		},
		{
			name: "reuseport", does: "two processes share a port (SO_REUSEPORT): connect names both, accept the one that took it",
			play: func(s *stage) {
				one, two, client := s.actor("one"), s.actor("two"), s.actor("client")
				one.do("socket l tcp4")
				one.do("set l reuseport")
				one.do("bind l 127.0.0.1:0")
				at := one.addr("l")
				s.port("P", at.Port())
				one.do("listen l 16")
				two.do("socket l tcp4")
				two.do("set l reuseport")
				two.do("bind l %s", at)
				two.do("listen l 16")
				two.do("set l steer1") // the kernel's choice is a hash, which this replaces
				client.dial("c", "tcp4", at)
				two.do("accept l s")
			},
			want: []string{
				"bind process=one address=127.0.0.1 port=P",
				"listen process=one address=127.0.0.1 port=P",
				"bind process=two address=127.0.0.1 port=P",
				"listen process=two address=127.0.0.1 port=P",
				"connect port=P client.process=client server.holders=[one, two]",
				"accept port=P client.process=client server.process=two",
			},
		},
		{
			name: "shared_by_fork", does: "a second process holds the listener since a fork: the holder is shared", show: holderShow,
			play: func(s *stage) {
				parent := s.actor("parent")
				at := parent.listen("l", "tcp4", "127.0.0.1:0", "P")
				parent.fork("child", 0)
				s.probed(at, "parent(shared[child(snapshot), parent])")
			},
			want: []string{
				"bind process=parent address=127.0.0.1 port=P",
				"listen process=parent address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=prober address=127.0.0.1 port=P holder.kind=listener holder.address=127.0.0.1 holder.process=parent(shared[child(snapshot), parent])",
			},
		},
		{
			name: "shared_by_scm_rights", does: "a second process holds the listener since it was passed: the holder is shared", show: holderShow,
			play: func(s *stage) {
				giver, taker := s.actor("giver"), s.actor("taker")
				at := giver.listen("l", "tcp4", "127.0.0.1:0", "P")
				giver.give("l", taker, "m")
				s.probed(at, "giver(shared[giver, taker(snapshot)])")
			},
			want: []string{
				"bind process=giver address=127.0.0.1 port=P",
				"listen process=giver address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=prober address=127.0.0.1 port=P holder.kind=listener holder.address=127.0.0.1 holder.process=giver(shared[giver, taker(snapshot)])",
			},
		},
		{
			name: "in_flight", does: "the listener is on its way through a UNIX socket and open in no process: its holder is nobody", show: holderShow,
			play: func(s *stage) {
				giver, taker := s.actor("giver"), s.actor("taker")
				at := giver.listen("l", "tcp4", "127.0.0.1:0", "P")
				time.Sleep(2 * idle) // only what a look has seen can be missed by the next
				giver.do("give l %d", taker.pid)
				giver.do("close l")
				s.probed(at, "")
			},
			want: []string{
				"bind process=giver address=127.0.0.1 port=P",
				"listen process=giver address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=prober address=127.0.0.1 port=P holder.kind=listener holder.address=127.0.0.1",
			},
		},
		{
			name: "orphaned_listener", does: "who called listen() is gone: the only holder stands for the listener", show: holderShow,
			play: func(s *stage) {
				parent, client := s.actor("parent"), s.actor("client")
				at := parent.listen("l", "tcp4", "127.0.0.1:0", "P")
				child := parent.fork("child", 0)
				parent.exit(0)
				s.probed(at, "child(snapshot)")
				client.dial("c", "tcp4", at)
				child.do("accept l s")
			},
			want: []string{
				"bind process=parent address=127.0.0.1 port=P",
				"listen process=parent address=127.0.0.1 port=P",
				"bind error.type=EADDRINUSE process=prober address=127.0.0.1 port=P holder.kind=listener holder.address=127.0.0.1 holder.process=child(snapshot)",
				"connect port=P client.process=client server.process=child(snapshot)",
				"accept port=P client.process=client server.process=child listener.process=parent",
			},
		},
		{
			name: "dup", does: "a listener has two descriptors: only the last close releases it",
			play: func(s *stage) {
				server, client := s.actor("server"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				server.do("dup l m")
				server.do("close l")
				client.dial("c", "tcp4", at)
				server.do("accept m s")
				server.do("close m")
			},
			want: []string{
				"bind process=server address=127.0.0.1 port=P",
				"listen process=server address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=server",
				"accept port=P client.process=client server.process=server",
				"release process=server address=127.0.0.1 port=P reason=close",
			},
		},
		{
			name: "exec_inherited", does: "a launcher listens and becomes the program that accepts on the inherited socket",
			play: func(s *stage) {
				server, client := s.actor("launcher"), s.actor("client")
				at := server.listen("l", "tcp4", "127.0.0.1:0", "P")
				server.do("inherit l")
				server.exec("program")
				client.dial("c", "tcp4", at)
				server.do("accept l s")
				server.exit(0)
			},
			want: []string{
				"bind process=launcher address=127.0.0.1 port=P",
				"listen process=launcher address=127.0.0.1 port=P",
				"connect port=P client.process=client server.process=program",
				"accept port=P client.process=client server.process=program",
				"release process=program address=127.0.0.1 port=P reason=exit process.exit.code=0",
			},
		},
		{
			name: "exec_closes", does: "a socket that is closed on exec is released by it",
			play: func(s *stage) {
				server := s.actor("launcher")
				server.listen("l", "tcp4", "127.0.0.1:0", "P")
				server.exec("program")
			},
			want: []string{
				"bind process=launcher address=127.0.0.1 port=P",
				"listen process=launcher address=127.0.0.1 port=P",
				"release process=program address=127.0.0.1 port=P reason=close",
			},
		},
	}
}

// activated starts systemd-socket-activate(1), which waits for a connection and then becomes an
// actor that has the listener as l.
func (s *stage) activated(at string) {
	s.t.Helper()
	needProgram(s.t, "systemd-socket-activate")
	binary, err := actorBinary()
	if err != nil {
		s.t.Fatal(err)
	}
	// Its descriptor 3 is the socket (sd_listen_fds(3)); with 0 as its control the actor dials the driver.
	cmd := exec.Command("systemd-socket-activate", "-l", at, binary, s.ln.Addr().String(), "0", "l=3")
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it is gone by then unless the scene failed
		_ = cmd.Wait()
	})
	eventually(s.t, "systemd-socket-activate listens", func() bool {
		out, err := exec.Command("ss", "-Hltn", "src", at).Output()
		return err == nil && strings.Contains(string(out), "LISTEN")
	})
	s.enter("activator", cmd.Process.Pid)
}

// TestKernelPassed: a descriptor that a process gets from another is seen as it comes, however seldom the
// table of open files may be looked at for itself.
func TestKernelPassed(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		for _, by := range []string{"take", "pidfd_getfd"} {
			t.Run(by, func(t *testing.T) {
				s := newStage(t, t)
				giver, taker := s.actor("giver"), s.actor("taker")
				s.shared = startWith(t, Config{Hooks: form, Snapshot: true}, func(tracer *Tracer) error {
					tracer.table.Look(nil, 24*time.Hour, false)
					return nil
				})
				at := giver.listen("l", "tcp4", "127.0.0.1:0", "P")
				if by == "take" {
					giver.give("l", taker, "m")
				} else {
					taker.do("getfd m %d %s", giver.pid, giver.do("dup l again"))
				}
				s.probed(at, "giver(shared[giver, taker(snapshot)])")
			})
		}
	})
}
