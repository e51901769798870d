// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"testing"
)

func isSock(r *Record) string {
	if r.Sock == nil {
		return ""
	}
	return line(r)
}

// failures are the records that explain themselves.
func failures(r *Record) string {
	if !r.Failed() {
		return ""
	}
	return line(r)
}

func TestBind(t *testing.T) {
	play(t, []scenario{
		{
			name:  "the port that was asked for",
			steps: []step{bind(100, 1, srv, "127.0.0.1:80")},
			want:  []string{"100ms #1 bind srv/10 127.0.0.1:80"},
		},
		{
			name:  "a port of the kernel's choice",
			steps: []step{bind(100, 1, srv, "127.0.0.1:49152", asked("127.0.0.1:0"))},
			want:  []string{"100ms #1 bind srv/10 127.0.0.1:49152 asked=127.0.0.1:0 ephemeral"},
		},
		{
			name:  "no port at all yet (IP_BIND_ADDRESS_NO_PORT), then listen",
			steps: []step{bind(100, 1, srv, "127.0.0.1:0", asked("127.0.0.1:0")), listen(101, 1, srv, "127.0.0.1:49152"), refusedBind(102, 2, oth, "127.0.0.1:49152")},
			want: []string{
				"100ms #1 bind srv/10 127.0.0.1:?",
				"101ms #1 listen srv/10 127.0.0.1:49152 backlog=0",
				"102ms #2 bind oth/30 127.0.0.1:49152 holder={listener srv/10 127.0.0.1:49152 since=101ms} errno=98",
			},
		},
		{
			name:  "implicit, by listen()",
			steps: []step{bind(100, 1, srv, "0.0.0.0:49152", implicit), listen(100, 1, srv, "0.0.0.0:49152", backlog(5))},
			want: []string{
				"100ms #1 bind srv/10 0.0.0.0:49152 unasked ephemeral implicit",
				"100ms #1 listen srv/10 0.0.0.0:49152 backlog=5 exposed warn",
			},
		},
		{
			name:  "exposed on a port that was asked for is no warning",
			steps: []step{serve(100, 1, srv, "[::]:80", flags(FlagV6Only))},
			want: []string{
				"100ms #1 bind srv/10 [::]:80 v6only",
				"100ms #1 listen srv/10 [::]:80 backlog=0 exposed",
			},
		},
		{
			name:  "IPv4 through an IPv6 socket is IPv4",
			steps: []step{bind(100, 1, srv, "[::ffff:127.0.0.1]:80")},
			want:  []string{"100ms #1 bind srv/10 127.0.0.1:80"},
		},
		{
			name:  "a thread called",
			steps: []step{bind(100, 1, srv, "127.0.0.1:80", onThread("worker")), listen(101, 1, srv, "127.0.0.1:80", onThread("worker")), refusedBind(102, 2, oth, "127.0.0.1:80")},
			want: []string{
				"100ms #1 bind srv/10:worker 127.0.0.1:80",
				"101ms #1 listen srv/10:worker 127.0.0.1:80 backlog=0",
				"102ms #2 bind oth/30 127.0.0.1:80 holder={listener srv/10 127.0.0.1:80 since=101ms} errno=98",
			},
		},
		{
			name:  "errors that have no holder",
			steps: []step{bind(100, 1, srv, "127.0.0.1:80", failed(13)), bind(101, 2, srv, "127.0.0.1:0", failed(99))},
			want: []string{
				"100ms #1 bind srv/10 127.0.0.1:80 errno=13",
				"101ms #2 bind srv/10 127.0.0.1:? errno=99",
			},
		},
		{
			name: "what is not reachable on loopback is known, and not told",
			steps: []step{
				serve(100, 1, srv, "192.0.2.1:80"), refusedBind(101, 2, oth, "192.0.2.1:80"), refusedBind(102, 3, oth, "0.0.0.0:80"),
				release(103, 1, srv, "192.0.2.1:80"),
			},
			want: []string{"102ms #3 bind oth/30 0.0.0.0:80 holder={listener srv/10 192.0.2.1:80 since=100ms} errno=98"},
		},
		{
			name:  "--local tells it",
			cfg:   Config{Filter: Filter{Local: true}},
			steps: []step{serve(100, 1, srv, "192.0.2.1:80"), release(103, 1, srv, "192.0.2.1:80")},
			want: []string{
				"100ms #1 bind srv/10 192.0.2.1:80",
				"100ms #1 listen srv/10 192.0.2.1:80 backlog=0 exposed",
				"103ms #1 release srv/10 192.0.2.1:80 held=3ms reason=close",
			},
		},
		{
			name: "bound again after a disconnect took its port: the old port is free",
			look: failures,
			steps: []step{
				bind(100, 1, srv, "127.0.0.1:49152", udp, implicit), bind(110, 1, srv, "127.0.0.1:53", udp),
				refusedBind(120, 2, oth, "127.0.0.1:53", udp), refusedBind(121, 3, oth, "127.0.0.1:49152", udp),
				release(130, 1, srv, "127.0.0.1:53", udp), afterwards,
			},
			want: []string{
				"120ms #2 bind oth/30 127.0.0.1:53 holder={bound srv/10 127.0.0.1:53 since=110ms} udp errno=98",
				"121ms #3 bind oth/30 127.0.0.1:49152 udp errno=98",
				nothing,
			},
		},
		{
			name:  "told twice",
			look:  func(*Record) string { return "" },
			steps: []step{serve(100, 1, srv, "127.0.0.1:80"), serve(100, 1, srv, "127.0.0.1:80"), release(110, 1, srv, "127.0.0.1:80"), release(110, 1, srv, "127.0.0.1:80"), afterwards, heldPorts},
			want:  []string{nothing, "0 sockets on ports, 0 listening"},
		},
	})
}

// heldPorts writes what the ports, rather than the sockets, say of who holds them.
var heldPorts = note(func(t *Table) string {
	held, listening := 0, 0
	for _, p := range t.ports {
		held += len(p.socks)
	}
	for _, set := range t.servers {
		for k := range set {
			if k.listening {
				listening++
			}
		}
	}
	return fmt.Sprintf("%d sockets on ports, %d listening", held, listening)
})

func TestRelease(t *testing.T) {
	play(t, []scenario{
		{
			name: "connect() picked its port: held since then",
			look: isSock,
			steps: []step{
				bind(100, 2, cli, "127.0.0.5:0"), tcp(7, cli, "127.0.0.5:40000", "127.0.0.1:80").of(2).connect(110), heldPorts,
				release(150, 2, cli, "127.0.0.5:40000"), heldPorts,
			},
			want: []string{
				"100ms #2 bind cli/20 127.0.0.5:?", "1 sockets on ports, 0 listening",
				"150ms #2 release cli/20 127.0.0.5:40000 held=41ms reason=close", "0 sockets on ports, 0 listening",
			},
		},
		{
			name: "closed by another process than bound it",
			look: isSock,
			steps: []step{
				bind(100, 1, srv, "127.0.0.1:80"), observeTask(task(KindReceived, 105, nobody, oth)), release(110, 1, oth, "127.0.0.1:80"), afterwards, heldPorts,
			},
			want: []string{
				"100ms #1 bind srv/10 127.0.0.1:80",
				"110ms #1 release oth/30 127.0.0.1:80 held=10ms reason=close",
				nothing, "0 sockets on ports, 0 listening",
			},
		},
		{
			name:  "a process that never held it only walked by: who closed it is not known",
			look:  isSock,
			steps: []step{bind(100, 1, srv, "127.0.0.1:80"), release(110, 1, oth, "127.0.0.1:80")},
			want:  []string{"100ms #1 bind srv/10 127.0.0.1:80", "110ms #1 release - 127.0.0.1:80 held=10ms"},
		},
		{
			name:  "a child of one that held it may have been the last",
			look:  isSock,
			steps: []step{bind(100, 1, srv, "127.0.0.1:80"), fork(srv, prog{11, 1400, 1000, "kid"}), release(110, 1, prog{11, 1400, 1000, "kid"}, "127.0.0.1:80")},
			want:  []string{"100ms #1 bind srv/10 127.0.0.1:80", "110ms #1 release kid/11 127.0.0.1:80 held=10ms reason=close"},
		},
		{
			name:  "nobody knows who closed it, or why",
			steps: []step{bind(100, 1, srv, "127.0.0.1:80"), release(110, 1, nobody, "127.0.0.1:80", reason(ReasonUnknown, 0))},
			want: []string{
				"100ms #1 bind srv/10 127.0.0.1:80",
				"110ms #1 release - 127.0.0.1:80 held=10ms",
			},
		},
		{
			name:  "the kernel has cleared the address by then",
			steps: []step{serve(100, 1, srv, "127.0.0.1:80"), release(110, 1, srv, "0.0.0.0:80")},
			want: []string{
				"100ms #1 bind srv/10 127.0.0.1:80",
				"100ms #1 listen srv/10 127.0.0.1:80 backlog=0",
				"110ms #1 release srv/10 127.0.0.1:80 held=10ms reason=close",
			},
		},
		{
			name:  "its bind was lost",
			steps: []step{release(110, 1, srv, "127.0.0.1:80", since(100))},
			want:  []string{"110ms #1 release srv/10 127.0.0.1:80 held=10ms reason=close"},
		},
		{
			name:  "a socket that has no bind or listen record has no release",
			steps: []step{release(110, 1, srv, "127.0.0.1:80")},
			want:  nil,
		},
		{
			name: "shutdown of a listener on a port of the kernel's choice frees it",
			steps: []step{
				bind(100, 1, srv, "127.0.0.1:49152", asked("127.0.0.1:0")), listen(101, 1, srv, "127.0.0.1:49152"),
				release(110, 1, srv, "127.0.0.1:49152", reason(ReasonShutdown, 0)), afterwards, heldPorts,
				refusedBind(112, 2, oth, "127.0.0.1:49152"),
			},
			want: []string{
				"100ms #1 bind srv/10 127.0.0.1:49152 asked=127.0.0.1:0 ephemeral",
				"101ms #1 listen srv/10 127.0.0.1:49152 backlog=0",
				"110ms #1 release srv/10 127.0.0.1:49152 held=10ms reason=shutdown",
				nothing, "0 sockets on ports, 0 listening",
				"112ms #2 bind oth/30 127.0.0.1:49152 errno=98",
			},
		},
		{
			name: "shutdown of a listener on a port that was asked for keeps it",
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"),
				release(110, 1, srv, "127.0.0.1:80", reason(ReasonShutdown, 0), flags(FlagKept)), heldPorts,
				refusedBind(112, 2, oth, "127.0.0.1:80"),
				release(120, 1, srv, "127.0.0.1:80"), afterwards, heldPorts,
			},
			want: []string{
				"100ms #1 bind srv/10 127.0.0.1:80",
				"100ms #1 listen srv/10 127.0.0.1:80 backlog=0",
				"1 sockets on ports, 0 listening",
				"112ms #2 bind oth/30 127.0.0.1:80 holder={bound srv/10 127.0.0.1:80 since=100ms} errno=98",
				"120ms #1 release srv/10 127.0.0.1:80 held=20ms reason=close",
				nothing, "0 sockets on ports, 0 listening",
			},
		},
		{
			name: "and may listen on it again",
			look: isSock,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"),
				release(110, 1, srv, "127.0.0.1:80", reason(ReasonShutdown, 0), flags(FlagKept)),
				listen(115, 1, srv, "127.0.0.1:80"), refusedBind(118, 2, oth, "127.0.0.1:80"),
				release(120, 1, srv, "127.0.0.1:80"), heldPorts,
			},
			want: []string{
				"100ms #1 bind srv/10 127.0.0.1:80",
				"100ms #1 listen srv/10 127.0.0.1:80 backlog=0",
				"115ms #1 listen srv/10 127.0.0.1:80 backlog=0",
				"118ms #2 bind oth/30 127.0.0.1:80 holder={listener srv/10 127.0.0.1:80 since=115ms} errno=98",
				"120ms #1 release srv/10 127.0.0.1:80 held=20ms reason=close",
				"0 sockets on ports, 0 listening",
			},
		},
	})
}

// Who is in the way of a bind, by address, family and namespace.
func TestHolderOverlap(t *testing.T) {
	const held = "holder={listener srv/10 %s since=100ms} errno=98"
	for _, tc := range []struct {
		name       string
		has, wants string
		hasOnly    bool // IPV6_V6ONLY
		wantsOnly  bool
		elsewhere  bool // the holder is in another namespace
		inTheWay   bool
	}{
		{name: "the same address", has: "127.0.0.1:80", wants: "127.0.0.1:80", inTheWay: true},
		{name: "another port", has: "127.0.0.1:81", wants: "127.0.0.1:80"},
		{name: "another address", has: "127.0.0.2:80", wants: "127.0.0.1:80"},
		{name: "wildcard holds, specific asked", has: "0.0.0.0:80", wants: "127.0.0.1:80", inTheWay: true},
		{name: "specific holds, wildcard asked", has: "127.0.0.1:80", wants: "0.0.0.0:80", inTheWay: true},
		{name: "both wildcards", has: "0.0.0.0:80", wants: "0.0.0.0:80", inTheWay: true},
		{name: "dual-stack holds, IPv4 asked", has: "[::]:80", wants: "127.0.0.1:80", inTheWay: true},
		{name: "dual-stack holds, IPv4 wildcard asked", has: "[::]:80", wants: "0.0.0.0:80", inTheWay: true},
		{name: "v6only holds, IPv4 asked", has: "[::]:80", hasOnly: true, wants: "127.0.0.1:80"},
		{name: "v6only holds, IPv4 wildcard asked", has: "[::]:80", hasOnly: true, wants: "0.0.0.0:80"},
		{name: "v6only holds, IPv6 asked", has: "[::]:80", hasOnly: true, wants: "[::1]:80", inTheWay: true},
		{name: "v6only holds, dual-stack asked", has: "[::]:80", hasOnly: true, wants: "[::]:80", inTheWay: true},
		{name: "IPv4 holds, dual-stack asked", has: "127.0.0.1:80", wants: "[::]:80", inTheWay: true},
		{name: "IPv4 holds, v6only asked", has: "127.0.0.1:80", wants: "[::]:80", wantsOnly: true},
		{name: "IPv4 wildcard holds, dual-stack asked", has: "0.0.0.0:80", wants: "[::]:80", inTheWay: true},
		{name: "IPv4 wildcard holds, v6only asked", has: "0.0.0.0:80", wants: "[::]:80", wantsOnly: true},
		{name: "IPv4 wildcard holds, IPv6 asked", has: "0.0.0.0:80", wants: "[::1]:80"},
		{name: "IPv6 holds, IPv4 wildcard asked", has: "[::1]:80", wants: "0.0.0.0:80"},
		{name: "IPv6 holds, dual-stack asked", has: "[::1]:80", wants: "[::]:80", inTheWay: true},
		{name: "IPv6 holds, IPv4 asked", has: "[::1]:80", wants: "127.0.0.1:80"},
		{name: "mapped IPv4 asked", has: "127.0.0.1:80", wants: "[::ffff:127.0.0.1]:80", inTheWay: true},
		{name: "another namespace", has: "127.0.0.1:80", wants: "127.0.0.1:80", elsewhere: true},
	} {
		var has, wants []opt
		if tc.hasOnly {
			has = append(has, flags(FlagV6Only))
		}
		if tc.wantsOnly {
			wants = append(wants, flags(FlagV6Only))
		}
		if tc.elsewhere {
			has = append(has, inNetns(2))
		}
		want := "errno=98"
		if tc.inTheWay {
			want = fmt.Sprintf(held, tc.has)
		}
		play(t, []scenario{{
			name: tc.name,
			look: func(r *Record) string {
				if !r.Failed() {
					return ""
				}
				w := &words{}
				w.add2("holder", r.Sock.Holder.text())
				w.add("errno=%d", r.Errno)
				return w.String()
			},
			steps: []step{serve(100, 1, srv, tc.has, has...), refusedBind(120, 2, oth, tc.wants, wants...)},
			want:  []string{want},
		}})
	}
}

// The kinds of holders, in the order in which they are looked for.
func TestHolderKinds(t *testing.T) {
	out := tcp(7, cli, "127.0.0.1:80", "192.0.2.9:443")
	in := tcp(8, cli, "127.0.0.1:40000", "127.0.0.1:80")
	child := prog{11, 105, 1000, "srv"}
	play(t, []scenario{
		{
			name:  "bound, never listened",
			look:  failures,
			steps: []step{bind(100, 1, srv, "127.0.0.1:80"), refusedBind(120, 2, oth, "127.0.0.1:80")},
			want:  []string{"120ms #2 bind oth/30 127.0.0.1:80 holder={bound srv/10 127.0.0.1:80 since=100ms} errno=98"},
		},
		{
			name:  "a listener before a bound socket",
			look:  failures,
			steps: []step{bind(100, 1, srv, "127.0.0.1:80"), serve(110, 2, cli, "127.0.0.1:80"), bind(111, 3, srv, "127.0.0.1:80"), refusedBind(120, 4, oth, "127.0.0.1:80")},
			want:  []string{"120ms #4 bind oth/30 127.0.0.1:80 holder={listener cli/20 127.0.0.1:80 since=110ms} errno=98"},
		},
		{
			name: "SO_REUSEPORT on both sides is not in the way: the other socket is",
			look: failures,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80", flags(FlagReusePort)), serve(101, 2, cli, "127.0.0.2:80"),
				refusedBind(120, 3, oth, "0.0.0.0:80", flags(FlagReusePort)),
			},
			want: []string{"120ms #3 bind oth/30 0.0.0.0:80 holder={listener cli/20 127.0.0.2:80 since=101ms} errno=98"},
		},
		{
			name: "SO_REUSEADDR on both sides is not in the way of a bind: the other socket is",
			look: failures,
			steps: []step{
				bind(100, 1, srv, "127.0.0.1:80", flags(FlagReuse)), bind(101, 2, cli, "127.0.0.2:80"),
				refusedBind(120, 3, oth, "0.0.0.0:80", flags(FlagReuse)),
			},
			want: []string{"120ms #3 bind oth/30 0.0.0.0:80 holder={bound cli/20 127.0.0.2:80 since=101ms} errno=98"},
		},
		{
			name:  "listen() that fails: not its own socket",
			look:  failures,
			steps: []step{bind(100, 1, srv, "127.0.0.1:80", flags(FlagReuse)), bind(101, 2, oth, "127.0.0.1:80", flags(FlagReuse)), listen(110, 1, srv, "127.0.0.1:80"), listen(120, 2, oth, "127.0.0.1:80", failed(eaddrinuse)), heldPorts},
			want: []string{
				"120ms #2 listen oth/30 127.0.0.1:80 backlog=0 holder={listener srv/10 127.0.0.1:80 since=110ms} errno=98",
				"2 sockets on ports, 1 listening",
			},
		},
		{
			name:  "a client's source port",
			look:  failures,
			steps: []step{out.connect(110), refusedBind(120, 2, oth, "127.0.0.1:80")},
			want:  []string{"120ms #2 bind oth/30 127.0.0.1:80 holder={connection cli/20 127.0.0.1:80 since=110ms peer=192.0.2.9:443} errno=98"},
		},
		{
			name:  "a client's source port, the dialling thread's name is not the holder's",
			look:  failures,
			steps: []step{out.connect(110, onThread("dialler")), refusedBind(120, 2, oth, "127.0.0.1:80")},
			want:  []string{"120ms #2 bind oth/30 127.0.0.1:80 holder={connection cli/20 127.0.0.1:80 since=110ms peer=192.0.2.9:443} errno=98"},
		},
		{
			name:  "a client's source port on another address",
			look:  failures,
			steps: []step{tcp(7, cli, "127.0.0.2:80", "127.0.0.3:443").connect(110), refusedBind(120, 2, oth, "127.0.0.1:80"), refusedBind(121, 3, oth, "0.0.0.0:80")},
			want: []string{
				"120ms #2 bind oth/30 127.0.0.1:80 errno=98",
				"121ms #3 bind oth/30 0.0.0.0:80 holder={connection cli/20 127.0.0.2:80 since=110ms peer=127.0.0.3:443} errno=98",
			},
		},
		{
			name: "an accepted connection that outlived its listener",
			look: failures,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), in.connect(110), in.accept(112, srv), release(115, 1, srv, "127.0.0.1:80"),
				refusedBind(120, 2, oth, "127.0.0.1:80"),
			},
			want: []string{"120ms #2 bind oth/30 127.0.0.1:80 holder={connection srv/10 127.0.0.1:80 since=110ms peer=127.0.0.1:40000} errno=98"},
		},
		{
			name: "the listener before a connection that it accepted",
			look: failures,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), in.connect(110), in.accept(112, child), refusedBind(120, 2, oth, "127.0.0.1:80"),
			},
			want: []string{"120ms #2 bind oth/30 127.0.0.1:80 holder={listener srv/10 127.0.0.1:80 since=100ms} errno=98"},
		},
		{
			name:  "a connection that has ended holds nothing",
			look:  failures,
			steps: []step{out.connect(110), out.close(115, nobody), refusedBind(120, 2, oth, "127.0.0.1:80")},
			want:  []string{"120ms #2 bind oth/30 127.0.0.1:80 errno=98"},
		},
		{
			name:  "TIME_WAIT of the client that closed first",
			look:  failures,
			steps: []step{out.connect(110), out.close(1000, nobody, closedBy(CloserClient)), exit(1001, cli, 0), refusedBind(11000, 2, oth, "127.0.0.1:80")},
			want:  []string{"11000ms #2 bind oth/30 127.0.0.1:80 holder={time_wait cli/20 127.0.0.1:80 since=1s expires=50s} errno=98"},
		},
		{
			name: "TIME_WAIT of the server that closed first",
			look: failures,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), in.connect(110), in.accept(112, srv), in.close(1000, srv, closedBy(CloserServer)),
				release(1001, 1, srv, "127.0.0.1:80"), refusedBind(60_999, 2, oth, "127.0.0.1:80"), refusedBind(61_000, 3, oth, "127.0.0.1:80"),
			},
			want: []string{
				"60999ms #2 bind oth/30 127.0.0.1:80 holder={time_wait srv/10 127.0.0.1:80 since=1s expires=1ms} errno=98",
				"61000ms #3 bind oth/30 127.0.0.1:80 errno=98",
			},
		},
		{
			name: "a reset, or an end that nobody saw begin, leaves no TIME_WAIT",
			look: failures,
			steps: []step{
				out.connect(110), out.close(115, nobody, closedBy(CloserClient), flags(FlagReset)), refusedBind(120, 2, oth, "127.0.0.1:80"),
				out.connect(130), out.close(135, nobody, closedBy(CloserUnknown)), refusedBind(140, 3, oth, "127.0.0.1:80"),
			},
			want: []string{"120ms #2 bind oth/30 127.0.0.1:80 errno=98", "140ms #3 bind oth/30 127.0.0.1:80 errno=98"},
		},
		{
			name: "TIME_WAIT on one address is not ended by one on another",
			look: failures,
			steps: []step{
				out.connect(110), out.close(1000, nobody, closedBy(CloserClient)),
				tcp(9, oth, "127.0.0.2:80", "127.0.0.3:443").connect(1010), tcp(9, oth, "127.0.0.2:80", "127.0.0.3:443").close(1020, nobody, closedBy(CloserClient)),
				refusedBind(2000, 2, srv, "127.0.0.1:80"),
			},
			want: []string{"2000ms #2 bind srv/10 127.0.0.1:80 holder={time_wait cli/20 127.0.0.1:80 since=1s expires=59s} errno=98"},
		},
		{
			name: "UDP: the socket that is bound there, and no TCP socket",
			look: failures,
			steps: []step{
				serve(90, 9, cli, "127.0.0.1:53"), bind(100, 1, srv, "127.0.0.1:53", udp),
				refusedBind(120, 2, oth, "127.0.0.1:53", udp),
			},
			want: []string{"120ms #2 bind oth/30 127.0.0.1:53 holder={bound srv/10 127.0.0.1:53 since=100ms} udp errno=98"},
		},
		{
			name: "UDP, and another that lets it in (SO_REUSEADDR)",
			look: failures,
			steps: []step{
				bind(100, 1, srv, "127.0.0.2:53", udp), bind(101, 3, cli, "127.0.0.1:53", udp, flags(FlagReuse)), refusedBind(120, 2, oth, "0.0.0.0:53", udp, flags(FlagReuse)),
			},
			want: []string{"120ms #2 bind oth/30 0.0.0.0:53 holder={bound srv/10 127.0.0.2:53 since=100ms} udp errno=98"},
		},
		{
			name: "whoever listened is dead, its child holds the socket",
			look: failures,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), fork(srv, child), look(350, row(1, srv, "127.0.0.1:80"), row(1, child, "127.0.0.1:80")),
				exit(400, srv, 0), refusedBind(420, 2, oth, "127.0.0.1:80"),
			},
			want: []string{"420ms #2 bind oth/30 127.0.0.1:80 holder={listener srv/11(snapshot) 127.0.0.1:80 since=100ms} errno=98"},
		},
	})
}

// TestSocketOfNobody: a socket that is open in no process is nobody's, even if who made it lives.
func TestSocketOfNobody(t *testing.T) {
	held := row(1, srv, "127.0.0.1:80")
	inUse := "holder={listener srv/10 127.0.0.1:80 since=100ms} errno=98"
	child := prog{11, 1400, 1000, "kid"}
	play(t, []scenario{
		{
			name: "two looks in a row do not find it; a later one does",
			look: failures,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), wants(100), look(600, held), look(1100), refusedBind(1110, 2, oth, "127.0.0.1:80"),
				look(1300), refusedBind(1310, 3, oth, "127.0.0.1:80"), fork(srv, child), look(1800, row(1, child, "127.0.0.1:80")), refusedBind(1810, 4, oth, "127.0.0.1:80"),
			},
			want: []string{
				"no", "1110ms #2 bind oth/30 127.0.0.1:80 " + inUse, "1310ms #3 bind oth/30 127.0.0.1:80 holder={listener - 127.0.0.1:80 since=100ms} errno=98",
				"1810ms #4 bind oth/30 127.0.0.1:80 holder={listener kid/11(snapshot) 127.0.0.1:80 since=100ms} errno=98",
			},
		},
		{
			name: "one that no look has ever found: its process is not to be seen from here",
			look: failures,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), wants(100), look(600), look(1100), look(1600), refusedBind(1610, 2, oth, "127.0.0.1:80"),
			},
			want: []string{"no", "1610ms #2 bind oth/30 127.0.0.1:80 " + inUse},
		},
		{
			name: "a walk that broke off says nothing of those that it did not find",
			look: failures,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), wants(100), look(600, held), look(1100),
				func(s *scene) { s.table.WantsLook(2000 * msec); s.table.Look(nil, 0, false) }, refusedBind(2010, 2, oth, "127.0.0.1:80"),
			},
			want: []string{"no", "2010ms #2 bind oth/30 127.0.0.1:80 " + inUse},
		},
	})
}

// row is what the table of open files says of one process and one socket that listens.
func row(id uint64, p prog, addr string, opts ...opt) SockEvent {
	return *sockEvent(KindListen, 0, id, p, addr, append([]opt{flags(FlagLive)}, opts...))
}

func look(at uint64, rows ...SockEvent) step {
	for i := range rows {
		rows[i].Time = at * msec
	}
	return func(s *scene) {
		if !s.table.WantsLook(at * msec) {
			s.text = append(s.text, "nobody wants a look")
		}
		s.table.Look(rows, 0, true)
	}
}
