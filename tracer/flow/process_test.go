// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"
)

// profile writes what a record says of the process that made the call.
func profile(r *Record) string {
	if r.Sock == nil || r.Sock.Process.P == nil {
		return "-"
	}
	p := r.Sock.Process.P
	w := &words{}
	w.add("%s/%d", p.Comm, p.PID)
	w.add2("start", offset(p.Created))
	if p.ParentPID != 0 {
		w.add("parent=%d", p.ParentPID)
	}
	w.add2("exe", p.ExePath)
	w.add2("args", strings.ReplaceAll(p.CommandLine, " ", "|"))
	w.add("uid=%d", p.UID)
	w.add2("owner", p.Owner)
	w.add2("unit", p.Unit)
	w.add2("container", p.Container.ID)
	var up []string
	for _, a := range p.Ancestors {
		up = append(up, fmt.Sprintf("%s/%d", a.ExeName, a.PID))
	}
	w.add2("ancestors", strings.Join(up, ","))
	return w.String()
}

// asks makes a process speak: one bind, on a socket of its own.
func asks(at uint64, p prog) step { return bind(at, at, p, "127.0.0.1:80") }

func TestProcess(t *testing.T) {
	child := prog{11, 50, 1000, "srv"}
	users := Config{UserName: func(uid uint32) string { return map[uint32]string{0: "root", 1000: "me"}[uid] }}
	play(t, []scenario{
		{
			name: "exec names it", look: profile,
			steps: []step{execBy(50, srv, prog{11, 50, 1000, "job"}), asks(60, prog{11, 50, 1000, ""})},
			want:  []string{"job/11 start=50ms parent=10 exe=/bin/job args=job|-v uid=1000 ancestors=srv/10"},
		},
		{
			name: "fork inherits", look: profile,
			steps: []step{fork(srv, child), asks(60, child)},
			want:  []string{"srv/11 start=50ms parent=10 exe=/bin/srv args=srv|-v uid=1000 ancestors=srv/10"},
		},
		{
			name: "exec after fork renames, and keeps its ancestors", look: profile,
			steps: []step{fork(srv, child), execBy(55, srv, child.as("job")), asks(60, child)},
			want:  []string{"job/11 start=50ms parent=10 exe=/bin/job args=job|-v uid=1000 ancestors=srv/10"},
		},
		{
			name: "what the parent becomes later is not the child's", look: profile,
			steps: []step{fork(srv, child), exec(55, srv.as("job")), asks(60, child)},
			want:  []string{"srv/11 start=50ms parent=10 exe=/bin/srv args=srv|-v uid=1000 ancestors=srv/10"},
		},
		{
			name: "a new comm", look: profile,
			steps: []step{rename(50, srv.as("nginx: master")), asks(60, srv)},
			want:  []string{"nginx: master/10 start=10ms exe=/bin/srv args=srv|-v uid=1000"},
		},
		{
			name: "nobody announced it", look: profile, bare: true,
			steps: []step{asks(60, srv)},
			want:  []string{"/10 start=10ms uid=1000"},
		},
		{
			name: "its fork was lost", look: profile, bare: true,
			steps: []step{execBy(50, srv, child), asks(60, child)},
			want:  []string{"srv/11 start=50ms parent=10 exe=/bin/srv args=srv|-v uid=1000"},
		},
		{
			name: "events of processes that nobody announced", bare: true, look: profile,
			steps: []step{exit(50, srv, 0), rename(50, srv.as("x")), fork(nobody, child), asks(60, child)},
			want:  []string{"srv/11 start=50ms uid=1000"},
		},
		{
			name: "the user it runs as now", look: profile, cfg: users,
			steps: []step{asks(60, srv.withUID(0)), asks(61, srv), asks(62, srv.withUID(5))},
			want: []string{
				"srv/10 start=10ms exe=/bin/srv args=srv|-v uid=0 owner=root",
				"srv/10 start=10ms exe=/bin/srv args=srv|-v uid=1000 owner=me",
				"srv/10 start=10ms exe=/bin/srv args=srv|-v uid=5",
			},
		},
		{
			name: "the same number, another process", look: profile,
			steps: []step{exit(40, srv, 0), fork(cli, prog{10, 50, 0, "cli"}), asks(60, prog{10, 50, 0, ""}), asks(61, srv)},
			want: []string{
				"cli/10 start=50ms parent=20 exe=/bin/cli args=cli|-v uid=0 ancestors=cli/20",
				"srv/10 start=10ms exe=/bin/srv args=srv|-v uid=1000",
			},
		},
		{
			name: "the same number, and only its exec was seen", look: profile,
			steps: []step{exec(50, prog{10, 50, 0, "new"}), asks(60, prog{10, 50, 0, ""})},
			want:  []string{"new/10 start=50ms exe=/bin/new args=new|-v uid=0"},
		},
		{
			name: "a command line is rewritten before it is kept", look: profile,
			cfg: Config{Args: func(argv []string) []string { return append([]string{"hidden"}, argv[1:]...) }}, bare: true,
			steps: []step{exec(50, srv), asks(60, srv)},
			want:  []string{"srv/10 start=10ms exe=/bin/srv args=hidden|-v uid=1000"},
		},
		{
			name: "an executable and a command line that could not be read", look: profile,
			steps: []step{execWith(50, srv, "", "", ""), asks(60, srv)},
			want:  []string{"srv/10 start=10ms uid=1000"},
		},
		{
			name: "exec moves it into a container, and the next keeps it there", look: profile,
			steps: []step{
				execWith(50, srv, "a\x00", "/a", "/system.slice/docker-"+containerID+".scope"), asks(60, srv),
				execWith(70, srv, "b\x00", "/b", ""), asks(80, srv),
			},
			want: []string{
				"srv/10 start=10ms exe=/a args=a uid=1000 unit=docker-" + containerID + ".scope container=" + containerID,
				"srv/10 start=10ms exe=/b args=b uid=1000 unit=docker-" + containerID + ".scope container=" + containerID,
			},
		},
		{
			name: "eight ancestors, nearest first",
			look: profile,
			steps: func() []step {
				parent, all := srv, []step(nil)
				for i := range uint32(10) {
					child := prog{100 + i, uint64(100 + i), 1000, fmt.Sprint("p", i)}
					all = append(all, fork(parent, child), execBy(child.start, parent, child))
					parent = child
				}
				return append(all, asks(200, parent))
			}(),
			want: []string{"p9/109 start=109ms parent=108 exe=/bin/p9 args=p9|-v uid=1000 ancestors=p8/108,p7/107,p6/106,p5/105,p4/104,p3/103,p2/102,p1/101"},
		},
	})
}

const containerID = "8a2c4e6f8a2c4e6f8a2c4e6f8a2c4e6f8a2c4e6f8a2c4e6f8a2c4e6f8a2c4e6f"

// TestMoved: a process that is in another cgroup is in another container, or unit, from then on.
func TestMoved(t *testing.T) {
	move := func(at uint64, cgroup string) step {
		ev := &ExecEvent{TaskEvent: task(KindMoved, at, nobody, srv), Cgroup: cgroup}
		return func(s *scene) { s.table.ObserveExec(ev) }
	}
	shop := "srv/10 start=10ms exe=/a args=a uid=1000 unit=shop.service"
	play(t, []scenario{{
		name: "into a unit, into a container", look: profile, bare: true,
		steps: []step{
			execWith(50, srv, "a\x00", "/a", "/user.slice/session-1.scope"), move(100, "/system.slice/shop.service"), asks(101, srv),
			move(110, "/system.slice/docker-"+containerID+".scope"), asks(111, srv),
		},
		want: []string{shop, "srv/10 start=10ms exe=/a args=a uid=1000 unit=docker-" + containerID + ".scope container=" + containerID},
	}})
}

func execWith(at uint64, p prog, args, path, cgroup string) step {
	ev := &ExecEvent{TaskEvent: task(KindExec, at, nobody, p), Args: []byte(args), Path: path, Cgroup: cgroup}
	return func(s *scene) { s.table.ObserveExec(ev) }
}

// announce tells of a process as /proc has it: its start is cut to a clock tick.
func announce(p prog, parent uint32) step {
	return func(s *scene) { s.table.AddProcess(fromProc(p, parent)) }
}

func fromProc(p prog, parent uint32) *Process {
	q := &Process{ProcessID: ProcessID{PID: p.pid, UID: p.uid, Start: p.start * msec / ticks * ticks}, ParentPID: parent, Comm: p.comm}
	q.SetPath("/proc/" + p.comm)
	return q
}

func TestProcessFromProc(t *testing.T) {
	exact := prog{10, 1017, 1000, "srv"}
	reading := func(ps ...prog) Config {
		return Config{Process: func(pid uint32) *Process {
			for _, p := range ps {
				if p.pid == pid {
					return fromProc(p, 1)
				}
			}
			return nil
		}}
	}
	play(t, []scenario{
		{
			name: "a rough start is made exact by the first event", look: profile, bare: true,
			steps: []step{announce(exact, 1), asks(1100, exact)},
			want:  []string{"srv/10 start=1.017s parent=1 exe=/proc/srv uid=1000"},
		},
		{
			name: "another start in the same tick is another process then", look: profile, bare: true,
			steps: []step{announce(exact, 1), asks(1100, exact), asks(1101, prog{10, 1018, 0, ""})},
			want: []string{
				"srv/10 start=1.017s parent=1 exe=/proc/srv uid=1000",
				"/10 start=1.018s uid=0",
			},
		},
		{
			name: "another start in another tick is another process", look: profile, bare: true,
			steps: []step{announce(exact, 1), asks(1101, prog{10, 1021, 0, ""})},
			want:  []string{"/10 start=1.021s uid=0"},
		},
		{
			name: "events have told more", look: profile, bare: true,
			steps: []step{exec(1020, exact.as("job")), announce(exact, 1), asks(1100, exact)},
			want:  []string{"job/10 start=1.017s exe=/bin/job args=job|-v uid=1000"},
		},
		{
			name: "read when an event names it", look: profile, bare: true, cfg: reading(exact),
			steps: []step{asks(1100, exact), asks(1101, exact)},
			want: []string{
				"srv/10 start=1.017s parent=1 exe=/proc/srv uid=1000",
				"srv/10 start=1.017s parent=1 exe=/proc/srv uid=1000",
			},
		},
		{
			name: "its number is another's by the time it is read", look: profile, bare: true, cfg: reading(prog{10, 5000, 0, "new"}),
			steps: []step{asks(1100, exact), asks(1101, prog{10, 5000, 0, ""})},
			want: []string{
				"/10 start=1.017s uid=1000",
				"new/10 start=5s parent=1 exe=/proc/new uid=0",
			},
		},
		{
			name: "it is gone by the time it is read", look: profile, bare: true, cfg: reading(),
			steps: []step{asks(1100, exact)},
			want:  []string{"/10 start=1.017s uid=1000"},
		},
		{
			name: "/proc told of a process before its fork was read: it is one process",
			look: func(r *Record) string {
				if r.Event != "accept" {
					return ""
				}
				return line(r)
			},
			bare: true,
			steps: []step{
				announce(exact, 1), serve(1100, 1, exact, "127.0.0.1:80"), fork(nobody, exact),
				tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").connect(1110),
				tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").accept(1112, exact),
				note(knownProcesses),
			},
			want: []string{
				"1112ms #7 accept /20~ 127.0.0.1:40000 > srv/10~ 127.0.0.1:80 took=2ms",
				"2 processes",
			},
		},
		{
			name: "/proc told of a process before its fork was read: its death is seen",
			look: isConn, bare: true,
			steps: []step{
				announce(exact, 1), serve(1100, 1, exact, "127.0.0.1:80"), fork(nobody, exact), exit(1105, exact, 0),
				tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").connect(1110), drain,
			},
			want: []string{"1110ms #7 connect /20 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms"},
		},
	})
}

func knownProcesses(t *Table) string {
	n := 0
	for _, k := range t.procs.byPID {
		for ; k != nil; k = k.prev {
			n++
		}
	}
	return fmt.Sprintf("%d processes", n)
}

// Of those that exited, the bound's worth is remembered; a living one of the same number stays.
func TestProcessForget(t *testing.T) {
	old := prog{10, 100, 0, "old"}
	next := prog{10, 200, 0, "next"}
	short := func(from, n uint32) step {
		return func(s *scene) {
			for i := from; i < from+n; i++ {
				p := prog{1000 + i, uint64(1000 + i), 0, "short"}
				exec(p.start, p)(s)
				exit(p.start, p, 0)(s)
			}
		}
	}
	play(t, []scenario{
		{
			name: "the first to exit is the first forgotten", look: profile, bare: true,
			steps: []step{
				exec(100, old), exit(150, old, 0), short(0, maxExited-1), asks(300_000, old),
				short(maxExited, 1), note(knownProcesses), asks(300_001, old),
			},
			want: []string{
				"old/10 start=100ms exe=/bin/old args=old|-v uid=0",
				fmt.Sprintf("%d processes", maxExited),
				"/10 start=100ms uid=0",
			},
		},
		{
			name: "the living one of the same number stays", look: profile, bare: true,
			steps: []step{exec(100, old), exit(150, old, 0), exec(200, next), short(0, maxExited), asks(300_000, next), note(knownProcesses)},
			want: []string{
				"next/10 start=200ms exe=/bin/next args=next|-v uid=0",
				fmt.Sprintf("%d processes", maxExited+1),
			},
		},
		{
			name: "whoever had the number before is dead, whether its exit was seen or not", look: profile, bare: true,
			steps: []step{exec(100, old), exec(200, next), exit(250, next, 0), short(0, maxExited), note(knownProcesses), asks(300_000, old)},
			want: []string{
				fmt.Sprintf("%d processes", maxExited),
				"/10 start=100ms uid=0",
			},
		},
		{
			name: "a socket keeps whom it knows", bare: true,
			look: failures,
			steps: []step{
				exec(100, old), serve(110, 1, old, "127.0.0.1:80"), exit(150, old, 9), release(151, 1, old, "127.0.0.1:80", reason(ReasonExit, 9)),
				short(0, maxExited+1), tcp(7, nobody, "127.0.0.1:40000", "127.0.0.1:80").refused(300_000),
			},
			want: []string{"300000ms #7 connect - 127.0.0.1:40000 > - 127.0.0.1:80 took=1ms last={old/10 110ms-151ms exit exit=signal 9} errno=111"},
		},
	})
}

// Every table is bounded, whatever is lost: the event that would have ended an entry may never
// come. The kernel side's tables are the measure, and they are bounded.
func TestBounds(t *testing.T) {
	const many = 300_000 // more than any table should hold
	for _, tc := range []struct {
		name string
		feed func(s *scene, i uint64)
		n    uint64 // how often; 0: many
		size func(t *Table) int
		want int
	}{
		{
			name: "processes whose exit was lost",
			feed: func(s *scene, i uint64) {
				fork(nobody, prog{uint32(i%4_000_000) + 1, i, 0, "x"})(s)
			},
			size: func(t *Table) int { return len(t.procs.byPID) },
			want: 131072,
		},
		{
			// Whoever had the number before is dead: its exit need not be seen.
			name: "processes of few numbers whose exit was lost",
			feed: func(s *scene, i uint64) { fork(nobody, prog{uint32(i % 64), i, 0, "x"})(s) },
			size: func(t *Table) int {
				n := 0
				for _, k := range t.procs.byPID {
					for ; k != nil; k = k.prev {
						n++
					}
				}
				return n
			},
			n:    50_000,
			want: maxExited + 64,
		},
		{
			name: "sockets whose release was lost",
			feed: func(s *scene, i uint64) { bind(i, i, srv, "127.0.0.1:80")(s) },
			size: func(t *Table) int { return len(t.socks) },
			want: 131072,
		},
		{
			name: "connections whose close was lost",
			feed: func(s *scene, i uint64) {
				tcp(i, cli, fmt.Sprintf("127.0.0.1:%d", 1+i%65535), "127.0.0.1:80").connect(i)(s)
				s.table.Tick((i + 1000) * msec)
			},
			size: func(t *Table) int { return len(t.conns) },
			want: maxConns,
		},
		{
			name: "UDP flows whose sockets were lost",
			feed: func(s *scene, i uint64) {
				datagrams(i, cli, 1, fmt.Sprintf("127.0.0.1:%d", 1+i%65535), 2, "127.0.0.1:53").connect(i)(s)
				s.table.Tick((i + 1000) * msec)
			},
			size: func(t *Table) int { return len(t.conns) },
			want: maxFlows,
		},
		{
			name: "ports that nobody holds any more",
			feed: func(s *scene, i uint64) {
				netns := inNetns(1 + uint32(i/50_000))
				serve(i, i, srv, fmt.Sprintf("127.0.0.1:%d", 1+i%50_000), netns)(s)
				release(i, i, srv, fmt.Sprintf("127.0.0.1:%d", 1+i%50_000), netns)(s)
			},
			size: func(t *Table) int { return len(t.ports) },
			want: maxPorts,
		},
		{
			name: "connects that wait",
			feed: func(s *scene, i uint64) {
				c := tcp(i, cli, "127.0.0.1:40000", "127.0.0.1:80")
				c.connect(i)(s)
				c.close(i, nobody)(s)
				s.table.Tick(i * msec)
			},
			size: func(t *Table) int { return len(t.pending) },
			want: int(settle / time.Millisecond),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScene(Config{}, func(*Record) string { return "" })
			n := cmp.Or(tc.n, many)
			for i := range n {
				tc.feed(s, i+1)
			}
			if size := tc.size(s.table); size > tc.want {
				t.Errorf("%d entries after %d, want at most %d", size, n, tc.want)
			}
		})
	}
}

// A table that is full forgets something and says so; it does not refuse everything that comes
// later, for ever.
func TestFullLedger(t *testing.T) {
	s := newScene(Config{}, func(*Record) string { return "" })
	for i := range uint64(maxConns + 10) { // their closes are lost
		tcp(i+1, cli, fmt.Sprintf("127.0.0.1:%d", 1+i%65535), "127.0.0.2:80").connect(i + 1)(s)
		s.table.Tick((i + 1000) * msec)
	}
	if n := s.table.TakeLost()["connection ledger"]; n != 10 {
		t.Errorf("%d lost, want 10", n)
	}
	if lost := s.table.TakeLost(); len(lost) != 0 {
		t.Errorf("told again: %v", lost)
	}
	at := uint64(10_000_000)
	s.look, s.text = failures, nil
	tcp(1<<40, oth, "127.0.0.1:7", "127.0.0.1:443").connect(at)(s)
	s.table.Tick((at + 1000) * msec)
	refusedBind(at+2000, 2, srv, "127.0.0.1:7")(s)
	if len(s.text) != 1 || !strings.Contains(s.text[0], "peer=127.0.0.1:443") {
		t.Errorf("a connection that came when the ledger was full is not known: %q", s.text)
	}
}
