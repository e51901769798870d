// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"testing"
	"time"
)

// Steps of the snapshot: rows, then the end of it.

func sockRow(kind Kind, at, id uint64, p prog, addr string, opts ...opt) step {
	opts = append([]opt{flags(FlagPreexisting), func(s *SockEvent, _ *ConnEvent) {
		s.Flags, s.ReqAddr, s.ReqPort = s.Flags&^FlagRequested, [16]byte{}, 0
	}}, opts...)
	ev := sockEvent(kind, at, id, p, addr, opts)
	return func(s *scene) { s.table.SnapshotSock(ev) }
}

func listens(at, id uint64, p prog, addr string, opts ...opt) step {
	return sockRow(KindListen, at, id, p, addr, opts...)
}

func holds(at, id uint64, p prog, addr string, opts ...opt) step {
	return sockRow(KindBind, at, id, p, addr, opts...)
}

// clientRow and serverRow are the two ends of a connection, each as one process has it open.
func (d dial) clientRow(at uint64, p prog, opts ...opt) step {
	return d.row(at, p, nobody, opts)
}

func (d dial) serverRow(at uint64, p prog, opts ...opt) step {
	return d.row(at, nobody, p, append([]opt{flags(FlagServer)}, opts...))
}

func (d dial) row(at uint64, client, server prog, opts []opt) step {
	d.ev.Client, d.ev.Server = client.id(), server.id()
	ev := d.event(KindConnect, at, append([]opt{flags(FlagPreexisting)}, opts...))
	return func(s *scene) { s.table.SnapshotConn(ev) }
}

func written(s *scene) { s.table.FinishSnapshot(true) }

func silent(s *scene) { s.table.FinishSnapshot(false) }

func TestSnapshot(t *testing.T) {
	c := tcp(7, nobody, "127.0.0.1:40000", "127.0.0.1:80")
	live := tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80")
	older := prog{5, 5, 1000, "old"}
	old := flags(FlagPreexisting)
	play(t, []scenario{
		{
			name: "listeners first, then bound sockets, then connections; their ends follow",
			steps: []step{
				holds(100, 2, oth, "127.0.0.1:81"), listens(101, 1, srv, "[::]:80", backlog(16), flags(FlagEphemeral)),
				c.clientRow(102, cli), c.serverRow(103, srv), mark("nothing yet"), written,
				live.close(120, srv, old, sent(1, 2), closedBy(CloserClient)),
				release(121, 1, srv, "[::]:80"), release(122, 2, oth, "127.0.0.1:81"), afterwards,
			},
			want: []string{
				"nothing yet",
				"101ms #1 listen srv/10(snapshot) [::]:80 backlog=16 exposed preexisting warn",
				"100ms #2 bind oth/30(snapshot) 127.0.0.1:81 preexisting",
				"102ms #7 connect cli/20(snapshot) 127.0.0.1:40000 > srv/10(snapshot) 127.0.0.1:80 preexisting",
				"120ms #7 close cli/20~(snapshot) 127.0.0.1:40000 > srv/10~(snapshot) 127.0.0.1:80 took=10ms bytes=1/2 by=client preexisting",
				"121ms #1 release srv/10 [::]:80 reason=close preexisting",
				"122ms #2 release oth/30 127.0.0.1:81 reason=close preexisting",
				nothing,
			},
		},
		{
			name:  "a listener that several hold: the oldest stands for them",
			steps: []step{listens(100, 1, cli, "127.0.0.1:80"), listens(100, 1, srv, "127.0.0.1:80"), listens(100, 1, cli, "127.0.0.1:80"), listens(100, 1, oth, "127.0.0.1:80"), written},
			want:  []string{"100ms #1 listen srv/10(shared srv/10,cli/20,oth/30) 127.0.0.1:80 backlog=0 preexisting"},
		},
		{
			name: "in an accept queue: one listener alone can have answered; one that the server closed was somebody's",
			look: isConn,
			steps: []step{
				listens(100, 1, srv, "127.0.0.1:80"), c.clientRow(100, cli),
				tcp(8, nobody, "127.0.0.1:40001", "127.0.0.1:80").clientRow(100, cli, flags(FlagEnding)), written,
			},
			want: []string{
				"100ms #7 connect cli/20(snapshot) 127.0.0.1:40000 > srv/10(snapshot) 127.0.0.1:80 preexisting",
				"100ms #8 connect cli/20(snapshot) 127.0.0.1:40001 > - 127.0.0.1:80 preexisting",
			},
		},
		{
			name:  "a new connection to a listener that several hold: who called listen() was not seen",
			steps: []step{exec(50, older), listens(100, 1, older, "127.0.0.1:80"), listens(100, 1, srv, "127.0.0.1:80"), silent, live.connect(110), live.accept(112, srv)},
			want: []string{
				"110ms #7 connect cli/20 127.0.0.1:40000 > old/5(shared old/5,srv/10) 127.0.0.1:80 took=1ms",
				"112ms #7 accept cli/20~ 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=2ms",
			},
		},
		{
			name: "its holders die one by one",
			look: isConn,
			steps: []step{
				listens(100, 1, srv, "127.0.0.1:80"), listens(100, 1, cli, "127.0.0.1:80"), listens(100, 1, oth, "127.0.0.1:80"), silent,
				exit(105, srv, 0), tcp(7, nobody, "127.0.0.1:40000", "127.0.0.1:80").connect(110), drain,
				exit(115, cli, 0), tcp(8, nobody, "127.0.0.1:40001", "127.0.0.1:80").connect(120), drain,
				exit(125, oth, 0), tcp(9, nobody, "127.0.0.1:40002", "127.0.0.1:80").connect(130), drain,
			},
			want: []string{
				"110ms #7 connect - 127.0.0.1:40000 > - 127.0.0.1:80 holders=cli/20,oth/30 took=1ms",
				"120ms #8 connect - 127.0.0.1:40001 > oth/30(snapshot) 127.0.0.1:80 took=1ms",
				"130ms #9 connect - 127.0.0.1:40002 > - 127.0.0.1:80 took=1ms",
			},
		},
		{
			name:  "a listener that was there is the holder; since when is not known",
			look:  failures,
			steps: []step{listens(100, 1, srv, "127.0.0.1:80"), holds(100, 2, cli, "127.0.0.1:81"), silent, refusedBind(110, 3, oth, "127.0.0.1:80"), refusedBind(111, 4, oth, "127.0.0.1:81")},
			want: []string{
				"110ms #3 bind oth/30 127.0.0.1:80 holder={listener srv/10(snapshot) 127.0.0.1:80} errno=98",
				"111ms #4 bind oth/30 127.0.0.1:81 holder={bound cli/20(snapshot) 127.0.0.1:81} errno=98",
			},
		},
		{
			name:  "a listener that was there is the last listener",
			look:  failures,
			steps: []step{listens(100, 1, srv, "127.0.0.1:80"), silent, release(110, 1, srv, "127.0.0.1:80"), live.refused(120)},
			want:  []string{"120ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms last={srv/10 ?-110ms close} errno=111"},
		},
		{
			name:  "a connection that was there is a holder",
			look:  failures,
			steps: []step{c.clientRow(100, cli), c.serverRow(100, srv), silent, refusedBind(110, 3, oth, "127.0.0.1:40000"), refusedBind(111, 4, oth, "127.0.0.1:80")},
			want: []string{
				"110ms #3 bind oth/30 127.0.0.1:40000 holder={connection cli/20(snapshot) 127.0.0.1:40000 peer=127.0.0.1:80} errno=98",
				"111ms #4 bind oth/30 127.0.0.1:80 holder={connection srv/10(snapshot) 127.0.0.1:80 peer=127.0.0.1:40000} errno=98",
			},
		},
		{
			name:  "rows that a hook was first to see are skipped",
			steps: []step{listens(100, 1, srv, "127.0.0.1:80", flags(FlagLive)), c.clientRow(100, cli, flags(FlagLive)), written, afterwards},
			want:  []string{nothing},
		},
		{
			name: "the live records of what the snapshot told are not told again",
			steps: []step{
				listens(100, 1, srv, "127.0.0.1:80"), holds(100, 2, oth, "127.0.0.1:81"), written,
				bind(90, 1, srv, "127.0.0.1:80"), listen(91, 1, srv, "127.0.0.1:80"), bind(92, 2, oth, "127.0.0.1:81"), heldPorts,
			},
			want: []string{
				"100ms #1 listen srv/10(snapshot) 127.0.0.1:80 backlog=0 preexisting",
				"100ms #2 bind oth/30(snapshot) 127.0.0.1:81 preexisting",
				"2 sockets on ports, 1 listening",
			},
		},
		{
			name:  "a bound socket that was there listens",
			steps: []step{holds(100, 1, srv, "127.0.0.1:80"), written, listen(110, 1, srv, "127.0.0.1:80", backlog(5)), live.connect(112)},
			want: []string{
				"100ms #1 bind srv/10(snapshot) 127.0.0.1:80 preexisting",
				"110ms #1 listen srv/10 127.0.0.1:80 backlog=5 preexisting",
				"112ms #7 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=1ms",
			},
		},
		{
			name:  "a bound socket that was there fails to listen: it was there nevertheless",
			look:  failures,
			steps: []step{holds(100, 1, srv, "127.0.0.1:80"), listens(100, 2, oth, "127.0.0.1:80"), written, listen(110, 1, srv, "127.0.0.1:80", failed(eaddrinuse))},
			want:  []string{"110ms #1 listen srv/10 127.0.0.1:80 backlog=0 holder={listener oth/30(snapshot) 127.0.0.1:80} preexisting errno=98"},
		},
		{
			name:  "--no-snapshot keeps the knowledge, and says all of it in the first record",
			steps: []step{listens(100, 1, srv, "127.0.0.1:80"), c.clientRow(100, cli), c.serverRow(100, srv), silent, live.close(120, srv, old)},
			want:  []string{"120ms #7 close cli/20(snapshot) 127.0.0.1:40000 > srv/10(snapshot) 127.0.0.1:80 took=10ms bytes=0/0 preexisting"},
		},
		{
			name:  "--no-snapshot: a connection in the queue, accepted and closed",
			steps: []step{listens(100, 1, srv, "127.0.0.1:80"), c.clientRow(100, cli), silent, live.accept(110, srv, old), live.close(120, srv, old)},
			want: []string{
				"110ms #7 accept cli/20(snapshot) 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=2ms preexisting",
				"120ms #7 close cli/20~(snapshot) 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=10ms bytes=0/0 preexisting",
			},
		},
		{
			name:  "a connection in the queue: who would answer, who did",
			look:  isConn,
			steps: []step{listens(100, 1, srv, "127.0.0.1:80"), c.clientRow(100, cli), written, live.accept(110, oth, old), live.close(120, oth, old)},
			want: []string{
				"100ms #7 connect cli/20(snapshot) 127.0.0.1:40000 > srv/10(snapshot) 127.0.0.1:80 preexisting",
				"110ms #7 accept cli/20~(snapshot) 127.0.0.1:40000 > oth/30 127.0.0.1:80 took=2ms preexisting",
				"120ms #7 close cli/20~(snapshot) 127.0.0.1:40000 > oth/30~ 127.0.0.1:80 took=10ms bytes=0/0 preexisting",
			},
		},
		{
			name:  "one end only",
			steps: []step{c.clientRow(100, cli), tcp(8, nobody, "127.0.0.1:40001", "127.0.0.1:80").serverRow(101, srv), written},
			want: []string{
				"100ms #7 connect cli/20(snapshot) 127.0.0.1:40000 > - 127.0.0.1:80 preexisting",
				"101ms #8 connect - 127.0.0.1:40001 > srv/10(snapshot) 127.0.0.1:80 preexisting",
			},
		},
		{
			name:  "an end that several hold",
			steps: []step{c.clientRow(100, cli), c.serverRow(100, srv), c.serverRow(100, oth), written},
			want:  []string{"100ms #7 connect cli/20(snapshot) 127.0.0.1:40000 > srv/10(shared srv/10,oth/30) 127.0.0.1:80 preexisting"},
		},
		{
			name:  "an end that two hold by several descriptors each: each is listed once",
			steps: []step{c.clientRow(100, cli), c.serverRow(100, srv), c.serverRow(100, srv), c.serverRow(100, oth), c.serverRow(100, oth), c.serverRow(100, oth), written},
			want:  []string{"100ms #7 connect cli/20(snapshot) 127.0.0.1:40000 > srv/10(shared srv/10,oth/30) 127.0.0.1:80 preexisting"},
		},
		{
			name:  "the rows of one process need not stand together",
			steps: []step{c.serverRow(100, srv), c.serverRow(100, oth), c.serverRow(100, srv), written},
			want:  []string{"100ms #7 connect - 127.0.0.1:40000 > srv/10(shared srv/10,oth/30) 127.0.0.1:80 preexisting"},
		},
		{
			name:  "a connection that closed before the snapshot's end: nothing is left of it",
			steps: []step{c.clientRow(100, cli), c.serverRow(100, srv), written, live.close(99, srv, old), afterwards},
			want: []string{
				"100ms #7 connect cli/20(snapshot) 127.0.0.1:40000 > srv/10(snapshot) 127.0.0.1:80 preexisting",
				"99ms #7 close cli/20~(snapshot) 127.0.0.1:40000 > srv/10~(snapshot) 127.0.0.1:80 took=10ms bytes=0/0 preexisting",
				nothing,
			},
		},
		{
			name:  "sockets that nobody is known to hold",
			steps: []step{listens(100, 1, nobody, "127.0.0.1:80"), listens(100, 1, nobody, "127.0.0.1:80"), written, live.connect(110), drain, refusedBind(120, 2, oth, "127.0.0.1:80")},
			want: []string{
				"100ms #1 listen - 127.0.0.1:80 backlog=0 preexisting",
				"110ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms",
				"120ms #2 bind oth/30 127.0.0.1:80 holder={listener - 127.0.0.1:80} errno=98",
			},
		},
	})
}

// The table of open files is looked at again after a holder forked.
func TestLook(t *testing.T) {
	c := tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80")
	child, second := prog{11, 150, 1000, "kid"}, prog{12, 151, 1000, "sib"}
	start := []step{serve(100, 1, srv, "127.0.0.1:80"), fork(srv, child)}
	play(t, []scenario{
		{
			name: "wanted soon after a holder's fork, twice a second while a port is held, and not else",
			look: isConn,
			steps: []step{
				wants(99), serve(100, 1, srv, "127.0.0.1:80"), wants(149), fork(srv, child), wants(child.start + 199), wants(child.start + 200),
				wants(849), look(850, row(1, srv, "127.0.0.1:80")), wants(1349), wants(1350),
				release(5001, 1, srv, "127.0.0.1:80"), fork(srv, second), wants(9000),
			},
			want: []string{"no", "no", "no", "yes", "no", "no", "yes", "no"},
		},
		{
			name: "who called listen() holds it with others",
			look: isConn,
			steps: append(start[:2:2], look(400, row(1, child, "127.0.0.1:80"), row(1, srv, "127.0.0.1:80")),
				c.connect(410), c.accept(412, child), c.close(420, child)),
			want: []string{
				"410ms #7 connect cli/20 127.0.0.1:40000 > srv/10(shared srv/10,kid/11) 127.0.0.1:80 took=1ms",
				"412ms #7 accept cli/20~ 127.0.0.1:40000 > kid/11 127.0.0.1:80 took=2ms listener=srv/10~",
				"420ms #7 close cli/20~ 127.0.0.1:40000 > kid/11~ 127.0.0.1:80 took=10ms bytes=0/0",
			},
		},
		{
			name: "a look that began before another called listen() on the socket",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), wants(700), wants(1300), listen(1350, 1, oth, "127.0.0.1:80"),
				func(s *scene) { s.table.Look([]SockEvent{row(1, srv, "127.0.0.1:80")}, 0, true) }, c.connect(1360), drain,
			},
			want: []string{"no", "yes", "1360ms #7 connect cli/20 127.0.0.1:40000 > oth/30(shared srv/10,oth/30) 127.0.0.1:80 took=1ms"},
		},
		{
			name: "who called listen() is dead, one other holds it: listener.process is who called listen()",
			look: isConn,
			steps: append(start[:2:2], exit(300, srv, 0), look(400, row(1, child, "127.0.0.1:80")),
				c.connect(410), c.accept(412, child)),
			want: []string{
				"410ms #7 connect cli/20 127.0.0.1:40000 > kid/11(snapshot) 127.0.0.1:80 took=1ms",
				"412ms #7 accept cli/20~ 127.0.0.1:40000 > kid/11~ 127.0.0.1:80 took=2ms listener=srv/10",
			},
		},
		{
			name: "who called listen() is dead, several others hold it",
			look: isConn,
			steps: append(start[:2:2], fork(srv, second), exit(300, srv, 0), look(400, row(1, child, "127.0.0.1:80"), row(1, second, "127.0.0.1:80")),
				c.connect(410), drain, c.accept(412, second)),
			want: []string{
				"410ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 holders=kid/11,sib/12 took=1ms",
				"412ms #7 accept cli/20~ 127.0.0.1:40000 > sib/12 127.0.0.1:80 took=2ms listener=srv/10",
			},
		},
		{
			name: "who called listen() closed it and lives on: who holds it is the holder",
			look: failures,
			steps: append(start[:2:2], fork(srv, second), look(400, row(1, child, "127.0.0.1:80"), row(1, second, "127.0.0.1:80")),
				refusedBind(410, 2, oth, "127.0.0.1:80")),
			want: []string{"410ms #2 bind oth/30 127.0.0.1:80 holder={listener kid/11(shared kid/11,sib/12) 127.0.0.1:80 since=100ms} errno=98"},
		},
		{
			name: "a group's member is held by another now",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80", flags(FlagReusePort)), serve(101, 2, oth, "127.0.0.1:80", flags(FlagReusePort)),
				fork(oth, child), exit(300, oth, 0), look(400, row(1, srv, "127.0.0.1:80"), row(2, child, "127.0.0.1:80")), c.connect(410), drain,
			},
			want: []string{"410ms #7 connect cli/20 127.0.0.1:40000 > - 127.0.0.1:80 holders=srv/10,kid/11 took=1ms"},
		},
		{
			name: "a group whose callers are dead is one process's now: which of them called listen() nobody knows",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80", flags(FlagReusePort)), fork(srv, oth), serve(101, 2, oth, "127.0.0.1:80", flags(FlagReusePort)),
				fork(oth, child), exit(300, srv, 0), exit(301, oth, 0), look(400, row(1, child, "127.0.0.1:80"), row(2, child, "127.0.0.1:80")),
				c.connect(410), c.accept(412, child),
			},
			want: []string{
				"410ms #7 connect cli/20 127.0.0.1:40000 > kid/11(snapshot) 127.0.0.1:80 took=1ms",
				"412ms #7 accept cli/20~ 127.0.0.1:40000 > kid/11~ 127.0.0.1:80 took=2ms",
			},
		},
		{
			name: "a descriptor that is passed on is followed by a look, however long the last one took",
			look: isConn,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), func(s *scene) { s.table.Look(nil, time.Hour, false) }, wants(1000),
				observeTask(task(KindReceived, 1000, nobody, child)), wants(1199), wants(1200), wants(1201),
			},
			want: []string{"no", "no", "yes", "no"},
		},
		{
			name:  "rows of sockets that have gone, or of nobody",
			look:  isConn,
			steps: append(start[:2:2], look(400, row(9, child, "127.0.0.1:81"), row(1, srv, "127.0.0.1:80"), row(1, nobody, "127.0.0.1:80")), c.connect(410)),
			want:  []string{"410ms #7 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.1:80 took=1ms"},
		},
	})
}

func wants(at uint64) step {
	return func(s *scene) {
		s.text = append(s.text, map[bool]string{true: "yes", false: "no"}[s.table.WantsLook(at*msec)])
	}
}
