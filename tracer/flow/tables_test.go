// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// held is a row of the kernel's tables; nobody: no process has it open.
func held(sock uint64, p prog, state uint32, local, remote string, flags uint16) HeldRow {
	l, r := netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)
	return HeldRow{
		Sock: sock, Owner: p.owner(), Local: wire(l.Addr()), Remote: wire(r.Addr()), LPort: l.Port(), RPort: r.Port(),
		Proto: TCP, Flags: flags, Netns: home, State: state,
	}
}

// recorded says that the socket has records of that id.
func (row HeldRow) recorded(id uint64) HeldRow { row.ID = id; return row }

// by says what the kernel side knows of a connection, or of what is left of one.
func (row HeldRow) by(p prog, since uint64) HeldRow {
	row.Known, row.Since = ProcessID{Start: p.owner().Start, PID: p.owner().PID}, since*msec
	return row
}

func (row HeldRow) udp() HeldRow { row.Proto = UDP; return row }

// left says how many jiffies a TIME_WAIT has left; a jiffy is 4 ms here.
func (row HeldRow) left(jiffies uint64) HeldRow {
	row.Jiffies, row.Expires = 1000, 1000+jiffies
	return row
}

// answer gives the tables of the home namespace, whose range is 40000 to 40007, as of a time.
func answer(at uint64, rows ...HeldRow) step { return answerIn(40000, 40007, at, rows...) }

func answerIn(low, high uint16, at uint64, rows ...HeldRow) step {
	return func(s *scene) {
		a := &Answer{Netns: home, Time: at * msec, Rows: rows, Low: low, High: high, Jiffy: 4 * time.Millisecond}
		a.Index()
		s.table.Answer([]*Answer{a})
	}
}

// ask notes what the table wants to know.
func ask(at uint64) step {
	return note(func(t *Table) string { return fmt.Sprint("asks ", t.WantsAnswer(at*msec)) })
}

const (
	established = stateEstablished
	finWait2    = 5
	ownPort     = FlagEphemeral // the kernel picked it
	anyPeer     = "0.0.0.0:0"
)

func TestHolderFromTables(t *testing.T) {
	asks := Config{Asks: true}
	taken := refusedBind(120, 20, oth, "127.0.0.1:80")
	play(t, []scenario{
		{
			name:  "what the ledger knows needs no answer",
			cfg:   asks,
			look:  failures,
			steps: []step{serve(100, 1, srv, "127.0.0.1:80"), taken, ask(120)},
			want:  []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={listener srv/10 127.0.0.1:80 since=100ms} errno=98", "asks []"},
		},
		{
			name: "a socket that has no record",
			cfg:  asks,
			look: failures,
			steps: []step{
				taken, ask(120), answer(121, held(7, nobody, stateClose, "127.0.0.1:80", anyPeer, 0), held(7, srv, stateClose, "127.0.0.1:80", anyPeer, 0)),
			},
			want: []string{"asks [{1 30}]", "120ms #20 bind oth/30 127.0.0.1:80 holder={bound srv/10(snapshot) 127.0.0.1:80} errno=98"},
		},
		{
			name: "two processes hold it",
			cfg:  asks,
			look: failures,
			steps: []step{
				taken, answer(121, held(7, cli, StateListen, "0.0.0.0:80", anyPeer, 0), held(7, srv, StateListen, "0.0.0.0:80", anyPeer, 0)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={listener srv/10(shared srv/10,cli/20) 0.0.0.0:80} errno=98"},
		},
		{
			name: "a connection to another host, in the way of a wildcard",
			cfg:  asks,
			look: failures,
			steps: []step{
				refusedBind(120, 20, oth, "0.0.0.0:80"), answer(121, held(7, cli, established, "10.0.0.1:80", "192.0.2.1:443", ownPort)),
			},
			want: []string{"120ms #20 bind oth/30 0.0.0.0:80 holder={connection cli/20(snapshot) 10.0.0.1:80 peer=192.0.2.1:443 ESTABLISHED} errno=98"},
		},
		{
			name: "but not of another address",
			cfg:  asks,
			look: failures,
			steps: []step{
				taken, answer(121, held(7, cli, established, "10.0.0.1:80", "192.0.2.1:443", ownPort)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 errno=98"},
		},
		{
			name: "a connection of the ledger has its state from the tables",
			cfg:  asks,
			look: failures,
			steps: []step{
				tcp(7, cli, "127.0.0.1:80", "127.0.0.1:443").connect(110), drain, taken,
				answer(121, held(7, cli, finWait2, "127.0.0.1:80", "127.0.0.1:443", ownPort)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={connection cli/20 127.0.0.1:80 since=110ms peer=127.0.0.1:443 FIN_WAIT2} errno=98"},
		},
		{
			name: "nobody holds an orphan",
			cfg:  asks,
			look: failures,
			steps: []step{
				tcp(7, cli, "127.0.0.1:80", "127.0.0.1:443").connect(110), drain, taken,
				answer(121, held(7, nobody, finWait2, "127.0.0.1:80", "127.0.0.1:443", 0)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={connection - 127.0.0.1:80 since=110ms peer=127.0.0.1:443 FIN_WAIT2} errno=98"},
		},
		{
			name: "TIME_WAIT whose end was seen has its last owner",
			cfg:  asks,
			look: failures,
			steps: []step{
				tcp(7, cli, "127.0.0.1:80", "127.0.0.1:443").connect(100), drain,
				tcp(7, cli, "127.0.0.1:80", "127.0.0.1:443").close(110, nobody, closedBy(CloserClient)), taken,
				answer(121, held(8, nobody, stateTimeWait, "127.0.0.1:80", "127.0.0.1:443", 0).left(14_000), held(9, nobody, stateTimeWait, "127.0.0.1:80", "127.0.0.1:444", 0).left(10)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={time_wait cli/20 127.0.0.1:80 since=110ms expires=56.001s} errno=98"},
		},
		{
			name:  "TIME_WAIT from before has none",
			cfg:   asks,
			look:  failures,
			steps: []step{taken, answer(121, held(8, nobody, stateTimeWait, "127.0.0.1:80", "127.0.0.1:443", 0).left(10))},
			want:  []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={time_wait - 127.0.0.1:80 expires=41ms} errno=98"},
		},
		{
			name: "who came since is not the holder",
			cfg:  asks,
			look: failures,
			steps: []step{
				taken, serve(125, 2, srv, "127.0.0.1:80"), answer(130, held(7, srv, StateListen, "127.0.0.1:80", anyPeer, 0).recorded(2)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 errno=98"},
		},
		{
			name: "whoever wants to share is not in the way",
			cfg:  asks,
			look: failures,
			steps: []step{
				refusedBind(120, 20, oth, "127.0.0.1:80", flags(FlagReuse)),
				answer(121, held(7, cli, stateClose, "127.0.0.1:80", anyPeer, FlagReuse), held(8, srv, stateClose, "0.0.0.0:80", anyPeer, 0)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={bound srv/10(snapshot) 0.0.0.0:80} errno=98"},
		},
		{
			name:  "UDP has ports of its own",
			cfg:   asks,
			look:  failures,
			steps: []step{taken, answer(121, held(7, cli, stateClose, "127.0.0.1:80", anyPeer, 0).udp())},
			want:  []string{"120ms #20 bind oth/30 127.0.0.1:80 errno=98"},
		},
		{
			name:  "an answer that does not come",
			cfg:   asks,
			look:  failures,
			steps: []step{taken, tick(259), mark("before"), tick(260)},
			want:  []string{"before", "120ms #20 bind oth/30 127.0.0.1:80 errno=98"},
		},
		{
			name: "one answer serves all that fail for a while, ten questions a second",
			cfg:  asks,
			look: failures,
			steps: []step{
				taken, ask(120), answer(120), refusedBind(169, 21, oth, "127.0.0.1:81"),
				refusedBind(170, 22, oth, "127.0.0.1:82"), ask(219), refusedBind(219, 23, oth, "127.0.0.1:83", inNetns(2)), ask(220),
			},
			want: []string{
				"asks [{1 30}]", "120ms #20 bind oth/30 127.0.0.1:80 errno=98", "169ms #21 bind oth/30 127.0.0.1:81 errno=98",
				"asks []", "asks [{1 30} {2 30}]",
			},
		},
		{
			name: "a connection that a filter kept from the ledger",
			cfg:  Config{Asks: true, Filter: Filter{Failed: true}},
			look: failures,
			steps: []step{
				taken, answer(121, held(7, cli, established, "127.0.0.1:80", "127.0.0.1:443", ownPort), held(7, nobody, established, "127.0.0.1:80", "127.0.0.1:443", ownPort)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={connection cli/20(snapshot) 127.0.0.1:80 peer=127.0.0.1:443 ESTABLISHED} errno=98"},
		},
		{
			name: "one that the kernel side kept, with what it knows; an older one gives way",
			cfg:  Config{Asks: true, Filter: Filter{Failed: true}},
			look: failures,
			steps: []step{
				taken, answer(121, held(6, srv, established, "127.0.0.1:80", "127.0.0.1:442", ownPort).by(srv, 100),
					held(7, cli, established, "127.0.0.1:80", "127.0.0.1:443", ownPort).by(cli, 110)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={connection cli/20 127.0.0.1:80 since=110ms peer=127.0.0.1:443 ESTABLISHED} errno=98"},
		},
		{
			name: "it is held by another now than by whom it began",
			cfg:  Config{Asks: true, Filter: Filter{Failed: true}},
			look: failures,
			steps: []step{
				taken, answer(121, held(7, cli, established, "127.0.0.1:80", "127.0.0.1:443", ownPort).by(srv, 110)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={connection cli/20(snapshot) 127.0.0.1:80 since=110ms peer=127.0.0.1:443 ESTABLISHED} errno=98"},
		},
		{
			name: "one that the kernel side kept, and that came since",
			cfg:  Config{Asks: true, Filter: Filter{Failed: true}},
			look: failures,
			steps: []step{
				taken, answer(122, held(7, cli, established, "127.0.0.1:80", "127.0.0.1:443", ownPort).by(cli, 121)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 errno=98"},
		},
		{
			name: "a TIME_WAIT of one that the kernel side kept",
			cfg:  Config{Asks: true, Filter: Filter{Failed: true}},
			look: failures,
			steps: []step{
				taken, answer(121, held(8, nobody, stateTimeWait, "127.0.0.1:80", "127.0.0.1:443", 0).left(14_000).by(cli, 110)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={time_wait cli/20 127.0.0.1:80 since=110ms expires=56.001s} errno=98"},
		},
		{
			name: "a bound socket that dialled, of which the kernel side did not tell, is a connection",
			cfg:  Config{Asks: true, Filter: Filter{Failed: true}},
			look: failures,
			steps: []step{
				bind(100, 1, cli, "127.0.0.1:80"), taken,
				answer(121, held(7, cli, established, "127.0.0.1:80", "127.0.0.1:443", 0).recorded(1).by(cli, 110)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={connection cli/20 127.0.0.1:80 since=110ms peer=127.0.0.1:443 ESTABLISHED} errno=98"},
		},
		{
			name: "it dialled only after the call",
			cfg:  Config{Asks: true, Filter: Filter{Failed: true}},
			look: failures,
			steps: []step{
				bind(100, 1, cli, "127.0.0.1:80"), taken,
				answer(122, held(7, cli, established, "127.0.0.1:80", "127.0.0.1:443", 0).recorded(1).by(cli, 121)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={bound cli/20 127.0.0.1:80 since=100ms} errno=98"},
		},
		{
			name: "a connection whose end nobody tells is not kept",
			cfg:  Config{Asks: true, Filter: Filter{Events: Set[string]{Include: []string{"bind", "connect"}}}},
			look: failures,
			steps: []step{
				tcp(7, cli, "127.0.0.1:80", "127.0.0.1:443").connect(110), drain, taken,
				note(func(t *Table) string { return fmt.Sprint(len(t.conns), " kept") }),
				answer(121, held(9, oth, established, "127.0.0.1:80", "127.0.0.1:443", ownPort).by(oth, 115)),
			},
			want: []string{"0 kept", "120ms #20 bind oth/30 127.0.0.1:80 holder={connection oth/30 127.0.0.1:80 since=115ms peer=127.0.0.1:443 ESTABLISHED} errno=98"},
		},
		{
			name: "one that came since, of which the ledger would know",
			cfg:  asks,
			look: failures,
			steps: []step{
				taken, answer(121, held(7, cli, established, "127.0.0.1:80", "127.0.0.1:443", ownPort)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 errno=98"},
		},
		{
			name: "a holder that has gone when the answer comes",
			cfg:  asks,
			look: failures,
			steps: []step{
				tcp(7, cli, "127.0.0.1:80", "127.0.0.1:443").connect(110), drain, taken,
				tcp(7, cli, "127.0.0.1:80", "127.0.0.1:443").close(121, nobody, closedBy(CloserClient)),
				answer(122, held(8, nobody, stateTimeWait, "127.0.0.1:80", "127.0.0.1:443", 0).left(15_000)),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:80 holder={connection cli/20 127.0.0.1:80 since=110ms peer=127.0.0.1:443} errno=98"},
		},
		{
			name: "a failed listen comes before what its socket does next",
			cfg:  asks,
			look: isSock,
			steps: []step{
				bind(100, 1, srv, "127.0.0.1:80", flags(FlagReuse)), listen(120, 1, srv, "127.0.0.1:80", failed(eaddrinuse)),
				release(121, 1, srv, "127.0.0.1:80"), answer(122),
			},
			want: []string{
				"100ms #1 bind srv/10 127.0.0.1:80", "120ms #1 listen srv/10 127.0.0.1:80 backlog=0 errno=98",
				"121ms #1 release srv/10 127.0.0.1:80 held=21ms reason=close",
			},
		},
	})
}

func TestEphemeralPorts(t *testing.T) {
	noPort := []opt{asked("127.0.0.1:0"), failed(eaddrinuse)}
	usedUp := func(at, id uint64, to string) step {
		return tcp(id, oth, "0.0.0.0:0", to).connect(at, failed(eaddrnotavail))
	}
	tables := []HeldRow{
		held(1, srv, stateClose, "127.0.0.1:40000", anyPeer, ownPort),
		held(2, srv, StateListen, "127.0.0.1:40001", anyPeer, 0),
		held(7, cli, established, "127.0.0.1:40002", "127.0.0.1:80", ownPort),
		held(7, nobody, established, "127.0.0.1:40002", "127.0.0.1:80", ownPort), // the same, of the TCP tables
		held(8, srv, established, "127.0.0.1:40003", "127.0.0.1:81", ownPort),
		held(9, nobody, stateTimeWait, "127.0.0.1:40004", "127.0.0.1:80", 0),
		held(10, srv, established, "127.0.0.1:40001", "127.0.0.1:40002", 0), // accepted on a port that is counted
		held(3, oth, stateClose, "127.0.0.1:40006", anyPeer, ownPort).udp(),
		held(5, oth, StateListen, "127.0.0.1:39999", anyPeer, 0),
		held(6, oth, StateListen, "127.0.0.1:40008", anyPeer, 0),
	}
	gone := []step{
		tcp(9, cli, "127.0.0.1:40004", "127.0.0.1:80").connect(104), drain,
		tcp(9, cli, "127.0.0.1:40004", "127.0.0.1:80").close(110, nobody, closedBy(CloserClient)),
	}
	after := func(steps ...step) []step { return append(gone[:len(gone):len(gone)], steps...) }
	play(t, []scenario{
		{
			name:  "bind to port 0",
			cfg:   Config{Asks: true},
			look:  failures,
			steps: after(bind(120, 20, oth, "127.0.0.1:0", noPort...), answer(121, tables...)),
			want:  []string{"120ms #20 bind oth/30 127.0.0.1:? ports={40000-40007 in_use=5 srv/10(snapshot)*3 cli/20(snapshot)*2} errno=98"},
		},
		{
			name:  "TIME_WAIT whose owner nobody saw",
			cfg:   Config{Asks: true},
			look:  failures,
			steps: []step{bind(120, 20, oth, "127.0.0.1:0", noPort...), answer(121, tables...)},
			want:  []string{"120ms #20 bind oth/30 127.0.0.1:? ports={40000-40007 in_use=5 srv/10(snapshot)*3 cli/20(snapshot)*1} errno=98"},
		},
		{
			name:  "UDP has ports of its own",
			cfg:   Config{Asks: true},
			look:  failures,
			steps: []step{bind(120, 20, srv, "127.0.0.1:0", append(noPort[:2:2], udp)...), answerIn(40006, 40006, 121, tables...)},
			want:  []string{"120ms #20 bind srv/10 127.0.0.1:? ports={40006-40006 in_use=1 oth/30(snapshot)*1} udp errno=98"},
		},
		{
			name:  "an answer that comes when they are free again",
			cfg:   Config{Asks: true},
			look:  failures,
			steps: []step{bind(120, 20, oth, "127.0.0.1:0", noPort...), answer(121, tables[0])},
			want:  []string{"120ms #20 bind oth/30 127.0.0.1:? errno=98"},
		},
		{
			name:  "nobody answers",
			look:  failures,
			steps: []step{bind(120, 20, oth, "127.0.0.1:0", noPort...)},
			want:  []string{"120ms #20 bind oth/30 127.0.0.1:? errno=98"},
		},
		{
			name:  "connect, counted for its destination",
			cfg:   Config{Asks: true},
			look:  failures,
			steps: after(usedUp(120, 20, "127.0.0.1:80"), usedUp(121, 21, "127.0.0.1:81"), usedUp(122, 22, "127.0.0.1:82"), answerIn(40000, 40003, 130, tables...)),
			want: []string{
				"120ms #20 connect oth/30 ? > - 127.0.0.1:80 took=1ms ports={40000-40003 in_use=3 srv/10(snapshot)*2 cli/20(snapshot)*1} errno=99",
				"121ms #21 connect oth/30 ? > - 127.0.0.1:81 took=1ms ports={40000-40003 in_use=3 srv/10(snapshot)*3} errno=99",
				"122ms #22 connect oth/30 ? > - 127.0.0.1:82 took=1ms ports={40000-40003 in_use=2 srv/10(snapshot)*2} errno=99",
			},
		},
		{
			name:  "connect with a port of its own lacks something else",
			cfg:   Config{Asks: true},
			look:  failures,
			steps: after(answer(119, tables...), tcp(20, oth, "127.0.0.1:40000", "127.0.0.1:80").connect(120, failed(eaddrnotavail))),
			want:  []string{"120ms #20 connect oth/30 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms errno=99"},
		},
		{
			name: "five are named",
			cfg:  Config{Asks: true},
			look: failures,
			steps: func() []step {
				var all []step
				var rows []HeldRow
				for i := range uint64(7) {
					p := prog{100 + uint32(i), 50, 0, "p"}
					all = append(all, exec(60, p))
					rows = append(rows, held(1+i, p, stateClose, fmt.Sprintf("127.0.0.1:%d", 40000+i), anyPeer, ownPort))
				}
				return append(all, bind(120, 20, oth, "127.0.0.1:0", noPort...), answer(121, rows...))
			}(),
			want: []string{"120ms #20 bind oth/30 127.0.0.1:? ports={40000-40007 in_use=7 p/100(snapshot)*1 p/101(snapshot)*1 p/102(snapshot)*1 p/103(snapshot)*1 p/104(snapshot)*1} errno=98"},
		},
	})
}

func suspect(s *scene) { s.table.Suspect() }

// TestReviewed: what a hostile reader of records found.
func TestReviewed(t *testing.T) {
	child := prog{11, 105, 1000, "kid"}
	play(t, []scenario{
		{
			name: "how the last holder of a listener ended is its own end",
			look: failures,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), fork(srv, child), exit(110, child, 7<<8),
				release(110, 1, child, "127.0.0.1:80", reason(ReasonExit, 7<<8)), tcp(7, srv, "127.0.0.1:40000", "127.0.0.1:80").refused(120),
			},
			want: []string{"120ms #7 connect srv/10 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms last={kid/11 100ms-110ms exit exit=code 7} errno=111"},
		},
		{
			name: "a bound socket that dialled is a connection",
			look: failures,
			steps: []step{
				bind(100, 1, cli, "127.0.0.1:40000", asked("127.0.0.1:0")), tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").of(1).connect(110), drain,
				refusedBind(120, 20, oth, "127.0.0.1:40000"),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:40000 holder={connection cli/20 127.0.0.1:40000 since=110ms peer=127.0.0.1:80} errno=98"},
		},
		{
			name: "one of both families that dialled an IPv4 address is only there",
			look: failures,
			steps: []step{
				bind(100, 1, cli, "[::]:40000"), tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").of(1).connect(110), drain,
				bind(115, 2, srv, "127.0.0.2:40000"), refusedBind(120, 20, oth, "127.0.0.2:40000"),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.2:40000 holder={bound srv/10 127.0.0.2:40000 since=115ms} errno=98"},
		},
		{
			name: "a bound socket that was reset is bound as before",
			look: failures,
			steps: []step{
				bind(100, 1, cli, "127.0.0.1:40000"), tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").of(1).connect(110),
				tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").of(1).close(115, prog{}, flags(FlagReset)), refusedBind(120, 20, oth, "127.0.0.1:40000"),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:40000 holder={bound cli/20 127.0.0.1:40000 since=100ms} errno=98"},
		},
		{
			name: "one that closed may have reset its connection: nobody knows before the other end has left, too",
			look: failures,
			steps: []step{
				bind(100, 1, cli, "127.0.0.1:40000"), tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").of(1).connect(110), drain,
				bounded(release(115, 1, cli, "127.0.0.1:40000")), refusedBind(120, 20, oth, "127.0.0.1:40000"),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:40000 errno=98"},
		},
		{
			name: "one that closed has left its connection to nobody",
			look: failures,
			steps: []step{
				bind(100, 1, cli, "127.0.0.1:40000"), tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").of(1).connect(110), tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").accept(112, srv),
				bounded(release(115, 1, cli, "127.0.0.1:40000")), refusedBind(120, 20, oth, "127.0.0.1:40000"),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:40000 holder={connection - 127.0.0.1:40000 since=110ms peer=127.0.0.1:80} errno=98"},
		},
		{
			name: "the dead hold no connection",
			look: failures,
			steps: []step{
				tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").connect(110), drain, exit(115, cli, 0), refusedBind(120, 20, oth, "127.0.0.1:40000"),
			},
			want: []string{"120ms #20 bind oth/30 127.0.0.1:40000 holder={connection - 127.0.0.1:40000 since=110ms peer=127.0.0.1:80} errno=98"},
		},
		{
			name: "a second listen() changes the backlog, and not since when it listens",
			look: isSock,
			steps: []step{
				serve(100, 1, srv, "127.0.0.1:80"), listen(110, 1, srv, "127.0.0.1:80", backlog(7)), refusedBind(120, 20, oth, "127.0.0.1:80"),
			},
			want: []string{
				"100ms #1 bind srv/10 127.0.0.1:80", "100ms #1 listen srv/10 127.0.0.1:80 backlog=0",
				"110ms #1 listen srv/10 127.0.0.1:80 backlog=7",
				"120ms #20 bind oth/30 127.0.0.1:80 holder={listener srv/10 127.0.0.1:80 since=100ms} errno=98",
			},
		},
		{
			name: "a reply by another address of the server's belongs to the flow",
			look: isConn,
			steps: []step{
				bind(100, 1, srv, "0.0.0.0:53", udp), bind(101, 2, cli, "127.0.0.1:40000", udp),
				datagrams(7, cli, 2, "127.0.0.1:40000", 1, "127.0.0.3:53").connect(110), drain,
				datagrams(8, srv, 1, "127.0.0.1:53", 2, "127.0.0.1:40000").connect(111), drain,
			},
			want: []string{"110ms #7 connect cli/20 127.0.0.1:40000 > srv/10 127.0.0.3:53 took=0s udp"},
		},
		{
			name: "a connect() that was under way when tracing began",
			look: failures,
			steps: []step{
				tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").connect(110, flags(FlagPreexisting), failed(etimedout), startedAt(0)),
			},
			want: []string{"110ms #7 connect cli/20(snapshot) 127.0.0.1:40000 > - 127.0.0.1:80 preexisting errno=110"},
		},
		{
			name: "a connected UDP socket that was there has no records",
			look: isSock,
			steps: []step{
				sockRow(KindBind, 100, 1, cli, "127.0.0.1:40000", udp, func(s *SockEvent, _ *ConnEvent) { s.State = established }),
				sockRow(KindBind, 100, 2, srv, "127.0.0.1:53", udp), written, release(110, 1, cli, "127.0.0.1:40000", udp), release(111, 2, srv, "127.0.0.1:53", udp),
			},
			want: []string{
				"100ms #2 bind srv/10(snapshot) 127.0.0.1:53 udp preexisting",
				"111ms #2 release srv/10 127.0.0.1:53 reason=close udp preexisting",
			},
		},
		{
			name: "a lost exec: whoever runs is read again",
			cfg:  Config{Process: func(pid uint32) *Process { return fromProc(prog{pid, 105, 1000, "real"}, 0) }},
			look: isSock,
			steps: []step{
				fork(srv, child), bind(110, 1, child.as(""), "127.0.0.1:80"), suspect, bind(120, 2, child.as(""), "127.0.0.1:81"),
			},
			want: []string{"110ms #1 bind kid/11 127.0.0.1:80", "120ms #2 bind real/11 127.0.0.1:81"},
		},
		{
			name: "a lost exec of one that is gone: nobody knows what it was",
			look: isSock,
			steps: []step{
				fork(srv, child), suspect, bind(120, 2, child.as(""), "127.0.0.1:81"), bind(121, 3, srv, "127.0.0.1:82"),
			},
			want: []string{"120ms #2 bind /11 127.0.0.1:81", "121ms #3 bind srv/10 127.0.0.1:82"},
		},
		{
			name:  "a socket that never had a port releases none",
			look:  isSock,
			steps: []step{bind(100, 1, cli, "127.0.0.1:0"), release(110, 1, cli, "127.0.0.1:0")},
			want:  []string{"100ms #1 bind cli/20 127.0.0.1:?"},
		},
	})
}

// TestRewriteLater: whether arguments are rewritten when they come or afterwards, the line is the same.
func TestRewriteLater(t *testing.T) {
	for _, args := range []string{
		"perl|ps.pl|-H|Authorization: Bearer s3cret|--client-secret|s3 cret",
		"app|--password|" + strings.Repeat("s3cret ", 200) + "|--port|80",
		"app|" + strings.Repeat("x", maxCommandLine) + "|--token=s3cret",
		"sh|-c|curl -u me:s3cret http://h\xff|",
		"",
	} {
		t.Run(args[:min(len(args), 40)], func(t *testing.T) {
			argv := []byte(strings.ReplaceAll(args, "|", "\x00"))
			var first, later Process
			first.SetArgs(argv, RedactArgs)
			later.SetArgs(argv, nil)
			later.Rewrite(RedactArgs)
			if diff := cmp.Diff(first.CommandLine, later.CommandLine); diff != "" {
				t.Errorf("(-when it came +later):\n%s", diff)
			}
			if strings.Contains(later.CommandLine+later.Argv, "s3") {
				t.Errorf("leaked: %q", later.CommandLine)
			}
		})
	}
}

func TestCommandLineIsCut(t *testing.T) {
	var p Process
	p.SetArgs(append([]byte("a\x00"), bytes.Repeat([]byte{0xff, 'b'}, 600)...), nil)
	if n := len(p.CommandLine); n > maxCommandLine || n < maxCommandLine-4 || !utf8.ValidString(p.CommandLine) {
		t.Errorf("%d bytes, valid %v: want at most %d of UTF-8", n, utf8.ValidString(p.CommandLine), maxCommandLine)
	}
}
