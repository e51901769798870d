// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"testing"
	"time"
)

// inUse is a bind that fails, and what it found in its way.
func inUse(at, id uint64, p prog, addr string, way HeldRow, opts ...opt) step {
	ev := sockEvent(KindBind, at, id, p, addr, append(opts, failed(eaddrinuse)))
	return func(s *scene) { s.table.ObserveInUse(ev, &way) }
}

func (row HeldRow) orphan() HeldRow { row.Flags |= FlagOrphan; return row }

func jiffies(s *scene) { s.table.SetJiffy(4 * time.Millisecond) }

func TestInTheWay(t *testing.T) {
	asks := Config{Asks: true}
	c := tcp(7, cli, "127.0.0.1:80", "127.0.0.1:443")
	conn := held(7, nobody, established, "127.0.0.1:80", "127.0.0.1:443", ownPort)
	child := prog{11, 115, 1000, "kid"}
	in, in2 := tcp(8, cli, "127.0.0.1:40000", "127.0.0.1:80"), tcp(9, cli, "127.0.0.1:40001", "127.0.0.1:80")
	play(t, []scenario{
		{
			name: "a listener of the ledger, at once",
			cfg:  asks, look: failures,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"),
				inUse(120, 20, oth, "127.0.0.1:80", held(5, nobody, StateListen, "127.0.0.1:80", anyPeer, 0).recorded(1)), ask(120),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={listener srv/10 127.0.0.1:80 since=100ms} errno=98", "asks []"},
		},
		{
			name: "it listened as the port was asked for, and is told of later: since when is not known",
			cfg:  asks, look: failures,
			steps: []step{
				bind(100, 1, srv, "127.0.0.1:80"),
				inUse(120, 20, oth, "127.0.0.1:80", held(5, nobody, StateListen, "127.0.0.1:80", anyPeer, 0).recorded(1)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={listener srv/10 127.0.0.1:80} errno=98"},
		},
		{
			name: "a socket whose own event comes later is found by its address",
			cfg:  asks, look: failures,
			steps: []step{
				inUse(120, 20, oth, "127.0.0.1:80", held(5, nobody, stateClose, "127.0.0.1:80", anyPeer, 0)), bind(119, 1, srv, "127.0.0.1:80"),
				answer(130, held(5, srv, stateClose, "127.0.0.1:80", anyPeer, 0).recorded(1)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={bound srv/10 127.0.0.1:80 since=119ms} errno=98"},
		},
		{
			name: "a connection that is gone when the answer comes was whose the calls say",
			cfg:  asks, look: failures,
			steps: []step{
				c.connect(110), drain, inUse(120, 20, oth, "127.0.0.1:80", conn),
				c.close(121, nobody, closedBy(CloserClient)), answer(130),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={connection cli/20 127.0.0.1:80 since=110ms peer=127.0.0.1:443 ESTABLISHED} errno=98"},
		},
		{
			name: "unless that had a child since, which has it too",
			cfg:  asks, look: failures,
			steps: []step{
				c.connect(110), drain, fork(cli, child), inUse(120, 20, oth, "127.0.0.1:80", conn),
				c.close(121, nobody, closedBy(CloserClient)), answer(130),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={connection - 127.0.0.1:80 since=110ms peer=127.0.0.1:443 ESTABLISHED} errno=98"},
		},
		{
			name: "the table of open files says who has it now",
			cfg:  asks, look: failures,
			steps: []step{
				c.connect(110), drain, fork(cli, child), inUse(120, 20, oth, "127.0.0.1:80", conn),
				answer(130, held(7, child, established, "127.0.0.1:80", "127.0.0.1:443", ownPort)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={connection kid/11(snapshot) 127.0.0.1:80 since=110ms peer=127.0.0.1:443 ESTABLISHED} errno=98"},
		},
		{
			name: "nobody has an orphan, and nobody is asked",
			cfg:  asks, look: failures,
			steps: []step{
				c.connect(110), drain, inUse(120, 20, oth, "127.0.0.1:80", held(7, nobody, finWait2, "127.0.0.1:80", "127.0.0.1:443", 0).orphan()), ask(120),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={connection - 127.0.0.1:80 since=110ms peer=127.0.0.1:443 FIN_WAIT2} errno=98", "asks []"},
		},
		{
			name: "a connection that a filter kept from the ledger",
			cfg:  Config{Asks: true, Filter: Filter{Failed: true}}, look: failures,
			steps: []step{inUse(120, 20, oth, "127.0.0.1:80", conn.by(cli, 110)), answer(130)},
			want:  []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={connection cli/20 127.0.0.1:80 since=110ms peer=127.0.0.1:443 ESTABLISHED} errno=98"},
		},
		{
			name: "one to another host, without an answer: whose it is nobody knows",
			cfg:  asks, look: failures,
			steps: []step{
				inUse(120, 20, oth, "0.0.0.0:80", held(7, nobody, established, "10.0.0.1:80", "192.0.2.1:443", ownPort)), tick(260),
			},
			want: []string{"120ms #20 bind oth/30 0.0.0.0:80 holder={connection - 10.0.0.1:80 peer=192.0.2.1:443 ESTABLISHED} errno=98"},
		},
		{
			name: "a TIME_WAIT with its last owner and what is left of it",
			cfg:  asks, look: failures,
			steps: []step{
				jiffies, c.connect(100), drain, c.close(110, nobody, closedBy(CloserClient)),
				inUse(120, 20, oth, "127.0.0.1:80", held(8, nobody, stateTimeWait, "127.0.0.1:80", "127.0.0.1:443", FlagOrphan).left(14_000)), ask(120),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={time_wait cli/20 127.0.0.1:80 since=110ms expires=56s} errno=98", "asks []"},
		},
		{
			name: "several TIME_WAITs on the port: each has its own last owner",
			cfg:  asks, look: failures,
			steps: []step{
				jiffies, serve(90, 1, srv, "127.0.0.1:80"), in.connect(100), in.accept(101, srv), in2.connect(102), in2.accept(103, child),
				in.close(110, srv, closedBy(CloserServer)), in2.close(111, child, closedBy(CloserServer)), release(112, 1, srv, "127.0.0.1:80"),
				inUse(120, 20, oth, "127.0.0.1:80", held(8, nobody, stateTimeWait, "127.0.0.1:80", "127.0.0.1:40000", FlagOrphan).left(14_000)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={time_wait srv/10 127.0.0.1:80 since=110ms expires=56s} errno=98"},
		},
		{
			name: "who closed the end was another than had accepted",
			cfg:  asks, look: failures,
			steps: []step{
				jiffies, serve(90, 1, srv, "127.0.0.1:80"), in.connect(100), in.accept(101, srv), fork(srv, child),
				in.close(130, srv, closedBy(CloserServer), lastOf(child)), release(131, 1, srv, "127.0.0.1:80"),
				inUse(140, 20, oth, "127.0.0.1:80", held(8, nobody, stateTimeWait, "127.0.0.1:80", "127.0.0.1:40000", FlagOrphan).left(14_000)),
			},
			want: []string{"140ms #20 bind oth/30 127.0.0.1:80 holder={time_wait kid/11 127.0.0.1:80 since=130ms expires=56s} errno=98"},
		},
		{
			name: "a stranger that walked the open files as the end was closed is not its last owner",
			cfg:  asks, look: failures,
			steps: []step{
				jiffies, serve(90, 1, srv, "127.0.0.1:80"), in.connect(100), in.accept(101, srv),
				in.close(130, srv, closedBy(CloserServer), lastOf(oth)), release(131, 1, srv, "127.0.0.1:80"),
				inUse(140, 20, oth, "127.0.0.1:80", held(8, nobody, stateTimeWait, "127.0.0.1:80", "127.0.0.1:40000", FlagOrphan).left(14_000)),
			},
			want: []string{"140ms #20 bind oth/30 127.0.0.1:80 holder={time_wait - 127.0.0.1:80 since=130ms expires=56s} errno=98"},
		},
		{
			name: "who listened is dead, and a child of it holds the socket: the table of open files says so",
			cfg:  asks, look: failures,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), fork(srv, child), exit(116, srv, 0),
				inUse(120, 20, oth, "127.0.0.1:80", held(5, nobody, StateListen, "127.0.0.1:80", anyPeer, 0).recorded(1)), ask(120),
				answer(130, held(5, child, StateListen, "127.0.0.1:80", anyPeer, 0).recorded(1)),
			},
			want: []string{"asks [{1 30}]", "120ms #20 bind oth/30 127.0.0.1:80 holder={listener kid/11(snapshot) 127.0.0.1:80 since=100ms} errno=98"},
		},
		{
			name: "nothing is in the way any more: what the ledger knew",
			cfg:  asks, look: failures,
			steps: []step{serve(100, 1, srv, "127.0.0.1:80"), inUse(120, 20, oth, "127.0.0.1:80", HeldRow{})},
			want:  []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={listener srv/10 127.0.0.1:80 since=100ms} errno=98"},
		},
	})
}
