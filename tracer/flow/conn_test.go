// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"testing"
)

// afterwards writes what the ledger still holds of connections and sockets: scenes that end
// everything leave nothing.
var afterwards = note(func(t *Table) string {
	ends := 0
	for _, p := range t.ports {
		for l := p.conns.first; l != nil; l = l.next {
			ends++
		}
	}
	return fmt.Sprintf("left: %d sockets, %d connections, %d ends, %d flows", len(t.socks), len(t.conns), ends, t.flows)
})

const nothing = "left: 0 sockets, 0 connections, 0 ends, 0 flows"

func isConn(r *Record) string {
	if r.Conn == nil {
		return ""
	}
	return line(r)
}

func TestConnect(t *testing.T) {
	c := tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80")
	play(t, []scenario{
		{
			name:  "a thread dialled, and had to try again",
			look:  isConn,
			steps: []step{serve(100, 1, srv, "127.0.0.1:80"), c.connect(110, onThread("worker"), retransmits(2))},
			want:  []string{"110ms #7 connect cli/20:worker 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=1ms retransmits=2"},
		},
		{
			name:  "the client is not known",
			look:  isConn,
			steps: []step{serve(100, 1, srv, "127.0.0.1:80"), tcp(7, nobody, "127.0.0.1:40000", "127.0.0.1:80").connect(110)},
			want:  []string{"110ms #7 connect - 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=1ms"},
		},
		{
			name: "a dual-stack server and an IPv4 client",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "[::]:80"), c.connect(110), c.accept(112, srv),
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=1ms",
				"112ms #7 accept cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=2ms",
			},
		},
		{
			name:  "a v6only server is not whom an IPv4 client met",
			look:  isConn,
			steps: []step{serve(100, 1, srv, "[::]:80", flags(FlagV6Only)), c.connect(110), drain},
			want:  []string{"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms"},
		},
		{
			name: "the exact address before a wildcard",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "0.0.0.0:80"), serve(101, 2, oth, "127.0.0.1:80"), c.connect(110),
				tcp(8, cli, "127.0.0.2:40001", "127.0.0.2:80").connect(111), drain,
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > oth/30 127.0.0.1:80 took=1ms",
				"111ms #8 connect cli/20 127.0.0.2:40001 > srv/10 127.0.0.2:80 took=1ms",
			},
		},
		{
			name: "its own family's wildcard before the other's",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "[::]:80", flags(FlagReusePort)), serve(101, 2, oth, "0.0.0.0:80", flags(FlagReusePort)), c.connect(110),
				tcp(8, cli, "[::1]:40001", "[::1]:80").connect(111), drain,
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > oth/30 127.0.0.1:80 took=1ms",
				"111ms #8 connect cli/20 [::1]:40001 > srv/10 [::1]:80 took=1ms",
			},
		},
		{
			name: "every namespace has its own 127.0.0.1",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), serve(101, 2, oth, "127.0.0.1:80", inNetns(2)),
				c.in(2).connect(110), tcp(8, cli, "127.0.0.1:40000", "127.0.0.1:80").connect(111),
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > oth/30 127.0.0.1:80 took=1ms netns=2",
				"111ms #8 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=1ms",
			},
		},
		{
			name: "a better fit that began before, and is told after",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "0.0.0.0:80"), c.connect(110), serve(109, 2, oth, "127.0.0.1:80"), c.accept(111, oth),
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > oth/30 127.0.0.1:80 took=1ms",
				"111ms #7 accept cli/20~ 127.0.0.1:40000 > oth/30~ 127.0.0.1:80 took=2ms",
			},
		},
		{
			name: "a close whose connect was filtered out names who listened when it began, not who came since",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), release(112, 1, srv, "127.0.0.1:80"), serve(113, 2, oth, "127.0.0.1:80"), c.close(120, nobody),
			},
			want: []string{"120ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=10ms bytes=0/0 unaccepted"},
		},
		{
			name:  "a bound socket that never listened serves nobody",
			look:  isConn,
			steps: []step{bind(100, 1, srv, "127.0.0.1:80"), c.connect(110), drain},
			want:  []string{"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms"},
		},
		{
			name: "TCP self-connect",
			steps: []step{
				tcp(7, cli, "127.0.0.1:80", "127.0.0.1:80").connect(110, flags(FlagSelf)), mark("at once"),
				tcp(7, cli, "127.0.0.1:80", "127.0.0.1:80").close(120, cli, flags(FlagSelf), sent(5, 5), closedBy(CloserClient)), afterwards,
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:80 > cli/20 127.0.0.1:80 took=1ms self", "at once",
				"120ms #7 close cli/20~ 127.0.0.1:80 > cli/20~ 127.0.0.1:80 took=10ms self bytes=5/5 by=client",
				nothing,
			},
		},
		{
			name: "a self-connect that stole a server's port",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), release(105, 1, srv, "127.0.0.1:80"),
				tcp(7, cli, "127.0.0.1:80", "127.0.0.1:80").connect(110, flags(FlagSelf)),
			},
			want: []string{"110ms #7 connect cli/20 127.0.0.1:80 > cli/20 127.0.0.1:80 took=1ms self"},
		},
		{
			name: "given up by its owner, unreachable, timed out",
			steps: []step{
				c.connect(110, failed(125)), tcp(8, cli, "127.0.0.1:40001", "127.0.0.1:80").connect(111, failed(101)),
				tcp(9, cli, "127.0.0.1:40002", "127.0.0.1:80").connect(112, failed(110), retransmits(6)), afterwards,
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms errno=125",
				"111ms #8 connect cli/20 127.0.0.1:40001 > - 127.0.0.1:80 took=1ms errno=101",
				"112ms #9 connect cli/20 127.0.0.1:40002 > - 127.0.0.1:80 took=1ms retransmits=6 errno=110",
				nothing,
			},
		},
	})
}

func TestAccept(t *testing.T) {
	c := tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80")
	child := prog{11, 105, 1000, "srv"}
	worker := prog{12, 106, 1000, "srv"}
	play(t, []scenario{
		{
			name:  "another process than the listener's accepts",
			look:  isConn,
			steps: []step{serve(100, 1, srv, "127.0.0.1:80"), fork(srv, child), c.connect(110), c.accept(112, child), c.close(120, child)},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=1ms",
				"112ms #7 accept cli/20~ 127.0.0.1:40000 > srv/11 127.0.0.1:80 took=2ms listener=srv/10~",
				"120ms #7 close cli/20~ 127.0.0.1:40000 > srv/11~ 127.0.0.1:80 took=10ms bytes=0/0",
			},
		},
		{
			name: "whoever listened is dead and nobody is known to hold it",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), fork(srv, child), exit(107, srv, 0),
				c.connect(110), drain, c.accept(112, child),
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms",
				"112ms #7 accept cli/20~ 127.0.0.1:40000 > srv/11 127.0.0.1:80 took=2ms listener=srv/10",
			},
		},
		{
			name:  "the client itself accepts: it was given in full as the client",
			look:  isConn,
			steps: []step{serve(100, 1, srv, "127.0.0.1:80"), fork(srv, child), tcp(7, child, "127.0.0.1:40000", "127.0.0.1:80").connect(110), tcp(7, child, "127.0.0.1:40000", "127.0.0.1:80").accept(112, child)},
			want: []string{
				"110ms #7 connect srv/11 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=1ms",
				"112ms #7 accept srv/11~ 127.0.0.1:40000 > srv/11~ 127.0.0.1:80 took=2ms listener=srv/10~",
			},
		},
		{
			name:  "a thread accepts",
			look:  isConn,
			steps: []step{serve(100, 1, srv, "127.0.0.1:80"), c.connect(110), c.accept(112, srv, onThread("io")), c.close(120, srv)},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=1ms",
				"112ms #7 accept cli/20~ 127.0.0.1:40000 > srv/10:io~ 127.0.0.1:80 took=2ms",
				"120ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=10ms bytes=0/0",
			},
		},
		{
			name: "SO_REUSEPORT, one process",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80", flags(FlagReusePort)), serve(101, 2, srv, "127.0.0.1:80", flags(FlagReusePort)),
				c.connect(110), mark("who else?"), c.accept(112, srv),
			},
			want: []string{
				"who else?", "110ms #7 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=1ms",
				"112ms #7 accept cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=2ms",
			},
		},
		{
			name: "SO_REUSEPORT, two processes",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80", flags(FlagReusePort)), serve(101, 2, oth, "127.0.0.1:80", flags(FlagReusePort)),
				c.connect(110), mark("who else?"), c.accept(112, oth), c.close(120, oth),
			},
			want: []string{
				"who else?", "110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 holders=srv/10,oth/30 took=1ms",
				"112ms #7 accept cli/20~ 127.0.0.1:40000 > oth/30 127.0.0.1:80 took=2ms",
				"120ms #7 close cli/20~ 127.0.0.1:40000 > oth/30~ 127.0.0.1:80 took=10ms bytes=0/0",
			},
		},
		{
			name: "SO_REUSEPORT, one of two processes has gone",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80", flags(FlagReusePort)), serve(101, 2, oth, "127.0.0.1:80", flags(FlagReusePort)),
				exit(105, oth, 0), release(105, 2, oth, "127.0.0.1:80", reason(ReasonExit, 0)), c.connect(110), drain,
			},
			want: []string{"110ms #7 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=1ms"},
		},
		{
			name: "SO_REUSEPORT: the dead hold nothing, whoever inherited their socket",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80", flags(FlagReusePort)), serve(101, 2, oth, "127.0.0.1:80", flags(FlagReusePort)),
				fork(oth, worker), exit(107, oth, 0), c.connect(110), drain,
			},
			want: []string{"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 holders=srv/10 took=1ms"},
		},
		{
			name:  "its connect was filtered in the kernel: it is as short as without the filter",
			look:  isConn,
			steps: []step{serve(100, 1, srv, "127.0.0.1:80"), c.accept(112, srv), c.close(120, srv), afterwards},
			want: []string{
				"112ms #7 accept cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=2ms",
				"120ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=10ms bytes=0/0",
				"left: 1 sockets, 0 connections, 0 ends, 0 flows",
			},
		},
		{
			name:  "its connect was filtered, and another process accepts: that one is new",
			look:  isConn,
			steps: []step{serve(100, 1, srv, "127.0.0.1:80"), fork(srv, child), c.accept(112, child), c.close(120, child)},
			want: []string{
				"112ms #7 accept cli/20~ 127.0.0.1:40000 > srv/11 127.0.0.1:80 took=2ms listener=srv/10~",
				"120ms #7 close cli/20~ 127.0.0.1:40000 > srv/11~ 127.0.0.1:80 took=10ms bytes=0/0",
			},
		},
		{
			name:  "told before its connect, as with TCP Fast Open: nothing is left over",
			look:  func(*Record) string { return "" },
			steps: []step{c.accept(109, srv), c.connect(110), c.close(120, srv), drain, afterwards},
			want:  []string{nothing},
		},
	})
}

func TestClose(t *testing.T) {
	c := tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80")
	up := []step{serve(100, 1, srv, "127.0.0.1:80"), c.connect(110)}
	child := prog{11, 105, 1000, "srv"}
	closes := func(r *Record) string {
		if r.Event != "close" {
			return ""
		}
		return line(r)
	}
	play(t, []scenario{
		{
			name:  "never accepted",
			look:  closes,
			steps: append(up[:2:2], c.close(120, nobody, closedBy(CloserClient), sent(3, 0)), afterwards),
			want: []string{
				"120ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=10ms bytes=3/0 by=client unaccepted",
				"left: 1 sockets, 0 connections, 0 ends, 0 flows",
			},
		},
		{
			name:  "reset by the server",
			look:  closes,
			steps: append(up[:2:2], c.accept(112, srv), c.close(120, srv, closedBy(CloserServer), flags(FlagReset))),
			want:  []string{"120ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=10ms bytes=0/0 by=server reset"},
		},
		{
			name:  "the kernel gave up",
			look:  closes,
			steps: append(up[:2:2], c.accept(112, srv), c.close(120, srv)),
			want:  []string{"120ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=10ms bytes=0/0"},
		},
		{
			name:  "its accept was filtered: the event says who that was",
			look:  closes,
			steps: append(up[:2:2], fork(srv, child), c.close(120, child)),
			want:  []string{"120ms #7 close cli/20~ 127.0.0.1:40000 > srv/11~ 127.0.0.1:80 took=10ms bytes=0/0"},
		},
		{
			name:  "all before it was filtered",
			steps: []step{c.close(120, srv, sent(1, 2), closedBy(CloserClient)), afterwards},
			want: []string{
				"120ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=10ms bytes=1/2 by=client",
				nothing,
			},
		},
		{
			name:  "all before it was filtered, and nobody accepted",
			look:  closes,
			steps: []step{up[0], c.close(120, nobody)},
			want:  []string{"120ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=10ms bytes=0/0 unaccepted"},
		},
		{
			name: "a group's member that was not named before is given in full",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80", flags(FlagReusePort)), serve(101, 2, oth, "127.0.0.1:80", flags(FlagReusePort)),
				c.connect(110), c.close(120, nobody),
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 holders=srv/10,oth/30 took=1ms",
				"120ms #7 close cli/20~ 127.0.0.1:40000 > - 127.0.0.1:80 took=10ms bytes=0/0 unaccepted",
			},
		},
		{
			name:  "the tuple is not an identity: a port used again is another connection",
			look:  closes,
			steps: append(up[:2:2], c.close(120, srv), tcp(8, oth, "127.0.0.1:40000", "127.0.0.1:80").connect(121), tcp(8, oth, "127.0.0.1:40000", "127.0.0.1:80").close(130, srv)),
			want: []string{
				"120ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=10ms bytes=0/0",
				"130ms #8 close oth/30~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=10ms bytes=0/0",
			},
		},
		{
			name:  "told twice",
			look:  func(*Record) string { return "" },
			steps: append(up[:2:2], c.connect(110), c.accept(112, srv), c.accept(112, srv), c.close(120, srv), c.close(120, srv), drain, afterwards),
			want:  []string{"left: 1 sockets, 0 connections, 0 ends, 0 flows"},
		},
	})
}

func TestRefused(t *testing.T) {
	c := tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80")
	child := prog{11, 105, 1000, "srv"}
	const dialled = "130ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms "
	gone := func(id uint64, addr string, why uint16, status int32) []step {
		return []step{serve(100, id, srv, addr), release(120, id, srv, addr, reason(why, status))}
	}
	play(t, []scenario{
		{
			name:  "nobody ever listened",
			look:  isConn,
			steps: []step{c.refused(130), afterwards},
			want:  []string{dialled + "errno=111", nothing},
		},
		{
			name:  "the listener closed",
			look:  isConn,
			steps: append(gone(1, "127.0.0.1:80", ReasonClose, 0), c.refused(130)),
			want:  []string{dialled + "last={srv/10 100ms-120ms close} errno=111"},
		},
		{
			name:  "the listener exited",
			look:  isConn,
			steps: append(gone(1, "127.0.0.1:80", ReasonExit, 3<<8), c.refused(130)),
			want:  []string{dialled + "last={srv/10 100ms-120ms exit exit=code 3} errno=111"},
		},
		{
			name:  "the listener exited well",
			look:  isConn,
			steps: append(gone(1, "127.0.0.1:80", ReasonExit, 0), c.refused(130)),
			want:  []string{dialled + "last={srv/10 100ms-120ms exit exit=code 0} errno=111"},
		},
		{
			name:  "the listener was killed, and dumped core",
			look:  isConn,
			steps: append(gone(1, "127.0.0.1:80", ReasonExit, 11|0x80), c.refused(130)),
			want:  []string{dialled + "last={srv/10 100ms-120ms exit exit=signal 11} errno=111"},
		},
		{
			name: "the listener was shut down and holds the port it asked for",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), release(120, 1, srv, "127.0.0.1:80", reason(ReasonShutdown, 0), flags(FlagKept)), c.refused(130),
			},
			want: []string{dialled + "last={srv/10 100ms-120ms shutdown} errno=111"},
		},
		{
			name:  "who closed is not known",
			look:  isConn,
			steps: append(gone(1, "127.0.0.1:80", ReasonUnknown, 0), c.refused(130)),
			want:  []string{dialled + "last={srv/10 100ms-120ms } errno=111"},
		},
		{
			name: "the last of several listeners",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), release(110, 1, srv, "127.0.0.1:80"),
				serve(112, 2, oth, "0.0.0.0:80"), release(120, 2, oth, "0.0.0.0:80"), c.refused(130),
			},
			want: []string{dialled + "last={oth/30 112ms-120ms close} errno=111"},
		},
		{
			name: "a server's two sockets, one a family: the last that this client could have met",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "0.0.0.0:80"), serve(101, 2, srv, "[::]:80", flags(FlagV6Only)),
				release(120, 1, srv, "0.0.0.0:80"), release(121, 2, srv, "[::]:80"), c.refused(130),
			},
			want: []string{dialled + "last={srv/10 100ms-120ms close} errno=111"},
		},
		{
			name:  "a listener on another address is not the last",
			look:  isConn,
			steps: append(gone(1, "127.0.0.2:80", ReasonClose, 0), c.refused(130)),
			want:  []string{dialled + "errno=111"},
		},
		{
			name: "a listener in another namespace is not the last",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80", inNetns(2)), release(120, 1, srv, "127.0.0.1:80", inNetns(2)), c.refused(130),
			},
			want: []string{dialled + "errno=111"},
		},
		{
			name:  "a dual-stack listener was the last for IPv4 too",
			look:  isConn,
			steps: append(gone(1, "[::]:80", ReasonClose, 0), c.refused(130)),
			want:  []string{dialled + "last={srv/10 100ms-120ms close} errno=111"},
		},
		{
			name:  "nearby, of the other family",
			look:  isConn,
			steps: []step{serve(100, 1, srv, "[::1]:80"), c.refused(130)},
			want:  []string{dialled + "nearby={srv/10 ::1:80 netns=1 family} errno=111"},
		},
		{
			name:  "nearby, v6only",
			look:  isConn,
			steps: []step{serve(100, 1, srv, "[::]:80", flags(FlagV6Only)), c.refused(130)},
			want:  []string{dialled + "nearby={srv/10 :::80 netns=1 family} errno=111"},
		},
		{
			name:  "nearby, on another address",
			look:  isConn,
			steps: []step{serve(100, 1, srv, "127.0.0.2:80"), c.refused(130)},
			want:  []string{dialled + "nearby={srv/10 127.0.0.2:80 netns=1 address} errno=111"},
		},
		{
			name: "nearby, held by a child alone, after both did",
			look: isConn,
			steps: []step{
				serve(20, 1, srv, "127.0.0.2:80"), fork(srv, child), look(350, row(1, srv, "127.0.0.2:80"), row(1, child, "127.0.0.2:80")),
				look(900, row(1, child, "127.0.0.2:80")), c.refused(950),
			},
			want: []string{"950ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms nearby={srv/11(snapshot) 127.0.0.2:80 netns=1 address} errno=111"},
		},
		{
			name:  "nearby, in another namespace",
			look:  isConn,
			steps: []step{serve(100, 1, srv, "127.0.0.1:80", inNetns(2)), c.refused(130)},
			want:  []string{dialled + "nearby={srv/10 127.0.0.1:80 netns=2 netns} errno=111"},
		},
		{
			name: "nearby, all three, and not those that are gone or never listened",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80", inNetns(2)), serve(101, 2, oth, "[::1]:80"), serve(102, 3, srv, "192.0.2.1:80"),
				serve(103, 4, srv, "127.0.0.3:80"), release(104, 4, srv, "127.0.0.3:80"), bind(105, 5, srv, "127.0.0.4:80"),
				serve(106, 6, srv, "127.0.0.2:81"), c.refused(130),
			},
			want: []string{dialled + "nearby={srv/10 192.0.2.1:80 netns=1 address} nearby={oth/30 ::1:80 netns=1 family} nearby={srv/10 127.0.0.1:80 netns=2 netns} errno=111"},
		},
		{
			name: "nearby ends at eight",
			look: func(r *Record) string {
				if r.Conn == nil {
					return ""
				}
				return fmt.Sprint(len(r.Conn.Nearby))
			},
			steps: func() []step {
				var all []step
				for i := range uint64(20) {
					all = append(all, serve(100, 1+i, srv, fmt.Sprintf("127.0.1.%d:80", i)))
				}
				return append(all, c.refused(130))
			}(),
			want: []string{"8"},
		},
		{
			name:  "a client that is not refused is told nothing of it",
			look:  isConn,
			steps: append(gone(1, "127.0.0.1:80", ReasonClose, 0), serve(100, 2, oth, "127.0.0.2:80"), c.connect(130, failed(110))),
			want:  []string{dialled + "errno=110"},
		},
	})
}

func TestUDP(t *testing.T) {
	flow := datagrams(7, cli, 2, "127.0.0.1:40000", 1, "127.0.0.1:53")
	sockets := []step{
		bind(100, 1, srv, "127.0.0.1:53", udp),
		bind(110, 2, cli, "0.0.0.0:40000", udp, implicit),
	}
	const connected = "110ms #7 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.1:53 took=0s udp"
	play(t, []scenario{
		{
			name:  "the client closes",
			steps: append(sockets[:2:2], flow.connect(110), tick(130), release(140, 2, cli, "0.0.0.0:40000", udp), release(150, 1, srv, "127.0.0.1:53", udp), afterwards),
			want: []string{
				"100ms #1 bind srv/10 127.0.0.1:53 udp",
				"110ms #2 bind cli/20 0.0.0.0:40000 unasked ephemeral implicit udp",
				connected,
				"140ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:53 took=30ms by=client udp",
				"140ms #2 release cli/20 0.0.0.0:40000 held=30ms reason=close udp",
				"150ms #1 release srv/10 127.0.0.1:53 held=50ms reason=close udp",
				nothing,
			},
		},
		{
			name:  "the server closes",
			look:  isConn,
			steps: append(sockets[:2:2], flow.connect(110), tick(130), release(140, 1, srv, "127.0.0.1:53", udp), release(150, 2, cli, "0.0.0.0:40000", udp), afterwards),
			want:  []string{connected, "140ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:53 took=30ms by=server udp", nothing},
		},
		{
			name:  "a close lets a waiting connect out first",
			look:  isConn,
			steps: append(sockets[:2:2], flow.connect(110), release(112, 2, cli, "0.0.0.0:40000", udp), tick(140)),
			want:  []string{connected, "112ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:53 took=2ms by=client udp"},
		},
		{
			name: "refused: nobody is bound there",
			steps: []step{
				sockets[1], datagrams(7, cli, 2, "127.0.0.1:40000", 0, "127.0.0.1:53").connect(110),
				flow.unreachable(111), tick(140), release(150, 2, cli, "0.0.0.0:40000", udp), afterwards,
			},
			want: []string{
				"110ms #2 bind cli/20 0.0.0.0:40000 unasked ephemeral implicit udp",
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:53 took=0s udp errno=111",
				"150ms #2 release cli/20 0.0.0.0:40000 held=40ms reason=close udp",
				nothing,
			},
		},
		{
			name: "refused: who had the port before, and who has it elsewhere",
			look: failures,
			steps: []step{
				bind(50, 1, srv, "127.0.0.1:53", udp), release(60, 1, srv, "127.0.0.1:53", udp, reason(ReasonExit, 9)),
				bind(70, 3, oth, "[::1]:53", udp), bind(71, 4, oth, "127.0.0.1:53", udp, inNetns(2)), sockets[1],
				datagrams(7, cli, 2, "127.0.0.1:40000", 0, "127.0.0.1:53").connect(110), flow.unreachable(111), tick(140),
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:53 took=0s last={srv/10 50ms-60ms exit exit=signal 9} " +
					"nearby={oth/30 ::1:53 netns=1 family} nearby={oth/30 127.0.0.1:53 netns=2 netns} udp errno=111",
			},
		},
		{
			name: "refused: the kernel picked the server's port, and a client's own is no server's",
			look: failures,
			steps: []step{
				bind(50, 1, srv, "127.0.0.1:41000", udp, implicit), datagrams(6, oth, 5, "127.0.0.1:40001", 1, "127.0.0.1:41000").connect(55),
				release(60, 1, srv, "127.0.0.1:41000", udp), sockets[1],
				datagrams(7, cli, 2, "127.0.0.1:40000", 0, "127.0.0.1:41000").connect(110), datagrams(7, cli, 2, "127.0.0.1:40000", 0, "127.0.0.1:41000").unreachable(111), tick(140),
				release(150, 2, cli, "0.0.0.0:40000", udp), bind(160, 9, oth, "127.0.0.1:40002", udp, implicit),
				datagrams(8, oth, 9, "127.0.0.1:40002", 0, "127.0.0.1:40000").connect(161), datagrams(8, oth, 9, "127.0.0.1:40002", 0, "127.0.0.1:40000").unreachable(162), tick(190),
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:41000 took=0s last={srv/10 50ms-60ms close} udp errno=111",
				"161ms #8 connect oth/30 127.0.0.1:40002 > - 127.0.0.1:40000 took=0s udp errno=111",
			},
		},
		{
			name: "a socket that is connected takes what its peer sends, and nothing else",
			look: isConn,
			steps: []step{
				bind(100, 1, srv, "0.0.0.0:53", udp), bind(101, 3, oth, "127.0.0.1:53", udp), bind(102, 3, oth, "127.0.0.1:53", udp, peer("127.0.0.1:9")), sockets[1],
				datagrams(7, cli, 2, "127.0.0.1:40000", 0, "127.0.0.1:53").connect(110), tick(131),
				bind(140, 3, oth, "127.0.0.1:53", udp, peer("127.0.0.1:40000")),
				datagrams(8, cli, 2, "127.0.0.1:40000", 0, "127.0.0.1:53").connect(150), tick(171),
				bind(180, 3, oth, "127.0.0.1:53", udp, peer("0.0.0.0:0")), bind(181, 3, oth, "127.0.0.1:53", udp, peer("127.0.0.1:9")), release(182, 1, srv, "0.0.0.0:53", udp),
				datagrams(9, cli, 2, "127.0.0.1:40000", 0, "127.0.0.1:53").connect(190), tick(211),
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.1:53 took=0s udp",
				"150ms #8 connect cli/20 127.0.0.1:40000 > oth/30 127.0.0.1:53 took=0s udp",
				"182ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:53 took=72ms by=server udp",
				"190ms #9 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:53 took=0s udp",
			},
		},
		{
			name:  "port unreachable after answers is no failed connect",
			look:  isConn,
			steps: append(sockets[:2:2], flow.connect(110), tick(130), flow.unreachable(135), release(140, 2, cli, "0.0.0.0:40000", udp)),
			want:  []string{connected, "140ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:53 took=30ms by=client udp"},
		},
		{
			name:  "one socket sends to itself",
			look:  isConn,
			steps: []step{sockets[0], datagrams(7, srv, 1, "127.0.0.1:53", 1, "127.0.0.1:53").connect(110), tick(130), release(140, 1, srv, "127.0.0.1:53", udp), afterwards},
			want: []string{
				"110ms #7 connect srv/10 127.0.0.1:53 > srv/10 127.0.0.1:53 took=0s udp",
				"140ms #7 close srv/10~ 127.0.0.1:53 > srv/10~ 127.0.0.1:53 took=30ms by=server udp",
				nothing,
			},
		},
		{
			name: "one server, several clients: each flow ends with its own",
			look: isConn,
			steps: append(sockets[:2:2], bind(111, 3, oth, "0.0.0.0:40001", udp, implicit),
				flow.connect(110), datagrams(8, oth, 3, "127.0.0.1:40001", 1, "127.0.0.1:53").connect(112), tick(140),
				release(141, 3, oth, "0.0.0.0:40001", udp), release(142, 1, srv, "127.0.0.1:53", udp), release(143, 2, cli, "0.0.0.0:40000", udp), afterwards),
			want: []string{
				connected,
				"112ms #8 connect oth/30 127.0.0.1:40001 > srv/10 127.0.0.1:53 took=0s udp",
				"141ms #8 close oth/30~ 127.0.0.1:40001 > srv/10~ 127.0.0.1:53 took=29ms by=client udp",
				"142ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:53 took=32ms by=server udp",
				nothing,
			},
		},
		{
			name: "the server's bind is told after the flow: its close ends the flow nevertheless",
			look: isConn,
			steps: []step{
				sockets[1], flow.connect(110), sockets[0], tick(130), release(140, 1, srv, "127.0.0.1:53", udp), release(150, 2, cli, "0.0.0.0:40000", udp),
			},
			want: []string{connected, "140ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:53 took=30ms by=server udp"},
		},
		{
			name: "of two sockets on the port the one of that address is met, and ends the flow",
			look: isConn,
			steps: []step{
				sockets[0], bind(101, 3, oth, "0.0.0.0:53", udp), sockets[1],
				datagrams(7, cli, 2, "127.0.0.1:40000", 0, "127.0.0.1:53").connect(110), tick(130), release(135, 3, oth, "0.0.0.0:53", udp),
				release(140, 1, srv, "127.0.0.1:53", udp), release(150, 2, cli, "0.0.0.0:40000", udp),
			},
			want: []string{connected, "140ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:53 took=30ms by=server udp"},
		},
		{
			name: "of two that share it nobody can say which",
			look: isConn,
			steps: []step{
				sockets[0], bind(101, 3, oth, "127.0.0.1:53", udp, flags(FlagReusePort)), sockets[1],
				datagrams(7, cli, 2, "127.0.0.1:40000", 0, "127.0.0.1:53").connect(110), tick(130), release(150, 2, cli, "0.0.0.0:40000", udp),
			},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:53 holders=srv/10,oth/30 took=0s udp",
				"150ms #7 close cli/20~ 127.0.0.1:40000 > - 127.0.0.1:53 took=40ms by=client udp",
			},
		},
		{
			name:  "a process of a thread sent the first datagram",
			look:  isConn,
			steps: append(sockets[:2:2], flow.connect(110, onThread("dns")), tick(130), release(140, 2, cli, "0.0.0.0:40000", udp)),
			want: []string{
				"110ms #7 connect cli/20:dns 127.0.0.1:40000 > srv/10 127.0.0.1:53 took=0s udp",
				"140ms #7 close cli/20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:53 took=30ms by=client udp",
			},
		},
		{
			name:  "told twice",
			look:  func(*Record) string { return "" },
			steps: append(sockets[:2:2], flow.connect(110), flow.connect(110), tick(130), bounded(release(140, 2, cli, "0.0.0.0:40000", udp)), bounded(release(141, 1, srv, "127.0.0.1:53", udp)), afterwards),
			want:  []string{nothing},
		},
	})
}
