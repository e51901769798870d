// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// tale makes records about port 8080 of 127.0.0.1, at seconds from boot.
type tale struct{ records []*Record }

func at(sec float64) time.Time { return boot.Add(time.Duration(sec * float64(time.Second))) }

func person(pid uint32, name string, up ...uint32) Actor {
	p := &Process{ProcessID: ProcessID{PID: pid, UID: 1000}, Comm: name, ExeName: name, ExePath: "/bin/" + name, Created: boot, CommandLine: name + " --x"}
	for _, a := range up {
		p.Ancestors = append(p.Ancestors, Ancestor{PID: a, ExeName: fmt.Sprint("up", a)})
	}
	if len(up) > 0 {
		p.ParentPID = up[0]
	}
	return Actor{P: p, Attribution: "hook"}
}

func (s *tale) add(r *Record) *Record {
	r.Netns, r.Proto = home, TCP
	s.records = append(s.records, r)
	return r
}

func (s *tale) sock(event string, sec float64, id uint64, who Actor, addr string) *Record {
	a := netip.MustParseAddrPort(addr)
	return s.add(&Record{
		Event: event, Time: at(sec), ID: id, IPv6: a.Addr().Is6(), Port: a.Port(), HasPort: true,
		Sock: &SockRecord{Address: a.Addr(), Process: who, Held: -1},
	})
}

func (s *tale) serve(sec float64, id uint64, who Actor, addr string, asked uint16) {
	b := s.sock("bind", sec, id, who, addr)
	b.Sock.HasRequested, b.Sock.Requested = true, netip.AddrPortFrom(b.Sock.Address, asked)
	b.Sock.Ephemeral = asked == 0
	s.sock("listen", sec, id, who, addr)
}

func (s *tale) release(sec float64, id uint64, who Actor, addr string) *Record {
	r := s.sock("release", sec, id, who, addr)
	r.Sock.Reason = "close"
	return r
}

func (s *tale) inUse(sec float64, who Actor, h *Holder) {
	r := s.sock("bind", sec, 0, who, "127.0.0.1:8080")
	r.Errno, r.Sock.Holder = eaddrinuse, h
}

func (s *tale) conn(event string, sec float64, id uint64, who Actor, from uint16, server Actor, to string) *Record {
	a := netip.MustParseAddrPort(to)
	return s.add(&Record{
		Event: event, Time: at(sec), ID: id, IPv6: a.Addr().Is6(), Port: a.Port(), HasPort: true,
		Conn: &ConnRecord{
			Client: End{Address: a.Addr(), Port: from, HasPort: true, Process: who},
			Server: End{Address: a.Addr(), Port: a.Port(), HasPort: true, Process: server}, Duration: -1,
		},
	})
}

func (s *tale) talk(sec float64, id uint64, who Actor, from uint16, server Actor, to string) {
	s.conn("connect", sec, id, who, from, server, to)
	s.conn("accept", sec, id, who, from, server, to)
	c := s.conn("close", sec+0.1, id, who, from, server, to)
	c.Conn.Accepted, c.Conn.HasBytes, c.Conn.C2S, c.Conn.S2C = true, true, 10, 100
}

func (s *tale) refused(sec float64, who Actor, to string) {
	s.conn("connect", sec, 0, who, 50000, Actor{}, to).Errno = econnrefused
}

// before marks all records so far as told by the snapshot.
func (s *tale) before() {
	for _, r := range s.records {
		r.Preexisting = true
	}
}

// inquiry asks about 127.0.0.1:8080 now, a thousand seconds after boot.
func inquiry(target string) *Inquiry {
	targets, err := ParseTarget(target)
	if err != nil {
		panic(err)
	}
	return &Inquiry{Text: target, Targets: targets, Now: at(1000), Remembers: at(0), Host: Host{Netns: home, Low: 32768, High: 60999, UID: 1000}}
}

// kinds is an answer in short: kind, pid, count and reason of each finding.
func kinds(e *Explanation) []string {
	var list []string
	for _, f := range e.Findings {
		line := f.Kind
		if f.Process.Known() {
			line += fmt.Sprintf(" %d", f.Process.P.PID)
		}
		if f.Why != "" {
			line += " " + f.Why
		}
		if f.Count > 0 {
			line += fmt.Sprintf(" ×%d", f.Count)
		}
		if f.Every > 0 {
			line += fmt.Sprintf(" /%v", f.Every)
		}
		if f.Command != "" {
			line += " $ " + f.Command
		}
		if f.Then {
			line += " then"
		}
		list = append(list, line)
	}
	return list
}

func TestExplain(t *testing.T) {
	web, db, curl, health := person(10, "web", 5, 1), person(20, "db", 1), person(30, "curl", 6, 1), person(40, "health", 7)
	for _, tc := range []struct {
		name   string
		target string
		change func(*Inquiry)
		past   func(*tale)
		live   func(*tale)
		want   []string
	}{
		{
			name: "a listener, its bind in the store, with a client", target: "127.0.0.1:8080",
			past: func(s *tale) {
				s.serve(100, 1, web, "127.0.0.1:8080", 8080)
				s.talk(200, 9, curl, 50001, web, "127.0.0.1:8080")
			},
			live: func(s *tale) {
				s.sock("listen", 1000, 77, web, "127.0.0.1:8080")
				s.conn("connect", 1000, 78, curl, 50002, web, "127.0.0.1:8080")
				s.before()
			},
			change: func(q *Inquiry) {
				q.Host.Session = []Process{{ProcessID: ProcessID{PID: 3}}, {ProcessID: ProcessID{PID: 5}, Created: boot.Add(-1)}}
			},
			want: []string{
				"server 10", "address", "holder 10", "process 10", "reach 10", "origin 10 terminal", "connected 30 ×1", "visitor 30 ×1",
				"advice 10 free $ kill 10", "known",
			},
		},
		{
			name: "a pid of the session that was used again is not the session", target: "127.0.0.1:8080",
			live: func(s *tale) { s.sock("listen", 1000, 77, web, "0.0.0.0:8080"); s.before() },
			change: func(q *Inquiry) {
				q.Remembers, q.Host.Session = time.Time{}, []Process{{ProcessID: ProcessID{PID: 5}, Created: boot.Add(1)}}
			},
			want: []string{
				"server 10", "address", "holder 10", "process 10", "reach 10 network", "origin 10 own", "advice 10 free $ kill 10",
				"advice record $ sudo looptrace record", "known",
			},
		},
		{
			name: "nobody now: who last had it, and who was refused", target: "127.0.0.1:8080",
			past: func(s *tale) {
				s.serve(100, 1, web, "127.0.0.1:8080", 8080)
				s.release(300, 1, web, "127.0.0.1:8080")
				s.refused(400, curl, "127.0.0.1:8080")
				s.refused(500, curl, "127.0.0.1:8080")
			},
			live: func(*tale) {},
			want: []string{"nobody 10 server", "address", "refused 30 ×2", "before 10 ×1", "advice 10 start", "known"},
		},
		{
			name: "a listener of the store that the look has not", target: "127.0.0.1:8080",
			past: func(s *tale) { s.serve(100, 1, web, "127.0.0.1:8080", 8080) },
			live: func(*tale) {},
			want: []string{"nobody 10 server", "address", "before 10 ×1 then", "known"},
		},
		{
			name: "the store alone", target: "127.0.0.1:8080",
			past: func(s *tale) { s.serve(100, 1, db, "127.0.0.1:8080", 8080) },
			want: []string{"server 20", "address", "holder 20", "process 20", "reach 20", "origin 20 nowhere", "known"},
		},
		{
			name: "a client's port in the past, used again by another", target: "127.0.0.1:50001",
			past: func(s *tale) {
				s.talk(200, 9, curl, 50001, web, "127.0.0.1:8080")
				s.talk(300, 10, health, 50001, web, "127.0.0.1:8080")
			},
			change: func(q *Inquiry) { q.At, q.AtEnd = at(200), at(201) },
			want:   []string{"client 30 then", "reused 40 then", "address", "advice look $ sudo looptrace explain 127.0.0.1:8080", "known"},
		},
		{
			name: "who comes every two seconds", target: "8080",
			past: func(s *tale) {
				for i := range 10 {
					s.talk(200+2*float64(i), uint64(i+1), person(uint32(100+i), "curl", 7), uint16(50000+i), web, "127.0.0.1:8080")
				}
			},
			live: func(*tale) {},
			want: []string{"nobody", "address", "visitor 0 ×10 /2s", "known"},
		},
		{
			name: "each time another process of another parent", target: "8080",
			past: func(s *tale) {
				for i := range 3 {
					s.talk(200+7*float64(i*i), uint64(i+1), person(uint32(100+i), "curl", uint32(50+i)), uint16(50000+i), web, "127.0.0.1:8080")
				}
				s.refused(400, person(120, "curl", 60), "127.0.0.1:8080")
				s.refused(410, person(121, "curl", 61), "127.0.0.1:8080")
				s.talk(500, 9, health, 50009, web, "127.0.0.1:8080")
			},
			live: func(*tale) {},
			want: []string{"nobody", "address", "visitor 40 ×1", "visitor 0 ×3", "refused 0 ×2", "known"},
		},
		{
			name: "who comes at a beat, and the same program by hand", target: "8080",
			past: func(s *tale) {
				for i := range 10 {
					s.talk(200+2*float64(i), uint64(i+1), person(uint32(100+i), "curl", 7), uint16(50000+i), web, "127.0.0.1:8080")
				}
				s.talk(205.3, 20, curl, 50020, web, "127.0.0.1:8080")
			},
			live: func(*tale) {},
			want: []string{"nobody", "address", "visitor 0 ×10 /2s", "visitor 30 ×1", "known"},
		},
		{
			name: "counts that were folded", target: "8080",
			past: func(s *tale) {
				s.talk(200, 1, curl, 50000, web, "127.0.0.1:8080")
				s.add(&Record{Event: "summary", Time: at(210), Port: 8080, HasPort: true, Summary: &SummaryRecord{
					Client: Program{Comm: "curl", ExeName: "curl"}, Count: 99, First: at(201), Last: at(209),
				}})
			},
			live: func(*tale) {},
			want: []string{"nobody", "address", "visitor 0 ×100", "known"},
		},
		{
			name: "in use by four kinds", target: "127.0.0.1:8080",
			past: func(s *tale) {
				for i, kind := range []string{HolderListener, HolderBound, HolderConnection, HolderTimeWait} {
					s.inUse(float64(100+i), web, &Holder{Kind: kind, Address: netip.MustParseAddr("127.0.0.1"), Port: 8080, Process: db})
				}
			},
			live: func(*tale) {},
			want: []string{"nobody", "address", "in_use 10 ×1", "in_use 10 ×1", "in_use 10 ×1", "in_use 10 ×1", "known"},
		},
		{
			name: "taken between picking and binding", target: "127.0.0.1:8080",
			past: func(s *tale) {
				s.sock("bind", 100, 1, web, "127.0.0.1:8080").Sock.Ephemeral = true
				s.release(100.1, 1, web, "127.0.0.1:8080")
				s.serve(100.2, 2, db, "127.0.0.1:8080", 8080)
				s.inUse(100.3, web, &Holder{Kind: HolderListener, Address: netip.MustParseAddr("127.0.0.1"), Port: 8080, Process: db, Since: at(100.2)})
			},
			live: func(s *tale) { s.sock("listen", 1000, 77, db, "127.0.0.1:8080"); s.before() },
			want: []string{
				"server 20", "address", "holder 20", "process 20", "reach 20", "origin 20 nowhere", "in_use 10 ×1",
				"taken 20 listener /100ms", "before 10 ×1", "advice 20 free $ kill 20", "known",
			},
		},
		{
			name: "localhost reaches the other server", target: "localhost:8080",
			live: func(s *tale) {
				s.sock("listen", 1000, 1, web, "127.0.0.1:8080")
				s.sock("listen", 1000, 2, db, "[::]:8080")
				s.before()
			},
			want: []string{
				"server 10", "server 20", "address", "holder 10", "process 10", "reach 10", "origin 10 own", "holder 20", "process 20",
				"reach 20 network", "origin 20 nowhere", "localhost 20", "shadowed 20", "advice 10 free ×2 $ kill 10",
				"advice 20 free ×2 $ kill 20", "advice family", "known",
			},
		},
		{
			name: "a bare port has the same oddities", target: "8080",
			live: func(s *tale) {
				s.sock("listen", 1000, 1, web, "127.0.0.1:8080")
				s.sock("listen", 1000, 2, db, "[::]:8080")
				s.before()
			},
			want: []string{
				"server 10", "server 20", "address", "holder 10", "process 10", "reach 10", "origin 10 own", "holder 20", "process 20",
				"reach 20 network", "origin 20 nowhere", "localhost 20", "shadowed 20", "advice 10 free ×2 $ kill 10",
				"advice 20 free ×2 $ kill 20", "advice family", "known",
			},
		},
		{
			name: "shadowed at an address that is not localhost's", target: "8080",
			live: func(s *tale) {
				s.sock("listen", 1000, 1, web, "127.0.0.5:8080")
				s.sock("listen", 1000, 2, web, "0.0.0.0:8080")
				s.before()
			},
			want: []string{
				"server 10", "server 10", "address", "holder 10", "process 10", "reach 10", "origin 10 own", "holder 10",
				"reach 10 network", "shadowed 10", "advice 10 free $ kill 10", "known",
			},
		},
		{
			name: "one socket of two processes", target: "127.0.0.1:8080",
			live: func(s *tale) {
				s.sock("listen", 1000, 1, web, "127.0.0.1:8080").Sock.Process.Holders = []Actor{web, db}
				s.before()
			},
			want: []string{"server 10", "address", "holder 10", "process 10", "reach 10", "origin 10 own", "advice 10 free ×2 $ kill 10", "known"},
		},
		{
			name: "the other family alone", target: "127.0.0.1:8080",
			live: func(s *tale) { s.sock("listen", 1000, 2, db, "[::1]:8080"); s.before() },
			want: []string{"nobody", "address", "elsewhere 20 family", "advice family", "known"},
		},
		{
			name: "bound and never listening", target: "127.0.0.1:8080",
			live: func(s *tale) { s.sock("bind", 1000, 2, db, "127.0.0.1:8080"); s.before() },
			want: []string{"bound 20", "address", "holder 20", "process 20", "origin 20 nowhere", "never_listening 20", "advice 20 free $ kill 20", "known"},
		},
		{
			name: "TIME_WAIT alone", target: "127.0.0.1:8080",
			live: func(*tale) {},
			change: func(q *Inquiry) {
				q.Waiting = []Holder{{Kind: HolderTimeWait, Address: netip.MustParseAddr("127.0.0.1"), Port: 8080, Expires: 42 * time.Second}}
			},
			want: []string{"time_wait ×1", "address", "advice wait", "known"},
		},
		{
			name: "a server of eight sockets", target: "8080",
			live: func(s *tale) {
				for i := range 8 {
					s.sock("listen", 1000, uint64(1+i), web, "0.0.0.0:8080")
				}
				s.before()
			},
			want: []string{
				"server 10", "server 10", "server 10", "server more ×5", "address", "holder 10", "process 10", "reach 10 network",
				"origin 10 own", "holder 10", "reach 10 network", "holder 10", "reach 10 network", "advice 10 free $ kill 10", "known",
			},
		},
		{
			name: "another network namespace", target: "127.0.0.1:8080",
			live: func(s *tale) {
				s.sock("listen", 1000, 1, web, "127.0.0.1:8080").Netns = home + 1
				s.before()
			},
			want: []string{
				"server 10", "address", "holder 10", "process 10", "reach 10", "origin 10 own", "elsewhere 10 netns",
				"advice 10 free $ kill 10", "known",
			},
		},
		{
			name: "nothing", target: "127.0.0.1:8080", live: func(*tale) {},
			want: []string{"nobody", "address", "known"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := inquiry(tc.target)
			if tc.past != nil {
				var s tale
				tc.past(&s)
				q.Past = s.records
			}
			if tc.live != nil {
				var s tale
				tc.live(&s)
				q.Looked, q.Live = true, s.records
			}
			if tc.change != nil {
				tc.change(q)
			}
			if diff := cmp.Diff(tc.want, kinds(Explain(q))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestExplainAcrossRuns: a socket that a later run of looptrace tells of again, by another id, is the same one.
func TestExplainAcrossRuns(t *testing.T) {
	web := person(10, "web", 5)
	var s tale
	s.serve(100, 1, web, "127.0.0.1:8080", 0)
	s.add(&Record{Event: "start", Time: at(200), Start: &StartRecord{}})
	s.sock("listen", 201, 50, web, "127.0.0.1:8080").Preexisting = true
	s.release(300, 50, web, "127.0.0.1:8080")
	q := inquiry("127.0.0.1:8080")
	q.Past, q.At, q.AtEnd = s.records, at(250), at(250)
	e := Explain(q)
	if len(e.Now) != 4 || e.Findings[0].From != at(100) || e.Findings[0].Until != at(300) {
		t.Errorf("%d records, from %v to %v", len(e.Now), e.Findings[0].From, e.Findings[0].Until)
	}
	// And one that is not told of again was over at some time in between.
	q.Past = slices.Delete(slices.Clone(q.Past), 3, 5)
	if got := Explain(q).Findings[0]; got.Kind != FindNobody || got.Until != at(100) {
		t.Errorf("got %+v", got)
	}
}

// TestExplainNamesNobodyElse: whatever the records, in whichever order, each process of an answer is one of
// theirs, and the answer is the same.
func TestExplainNamesNobodyElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := randomInquiry(t)
		known := map[*Process]bool{}
		for _, r := range slices.Concat(q.Past, q.Live) {
			for _, a := range actorsOf(r) {
				known[a.P] = true
			}
		}
		e := Explain(q)
		for _, f := range e.Findings {
			if f.Process.Known() && !known[f.Process.P] && f.Process.P.PID != 0 {
				t.Fatalf("%s names %v", f.Kind, f.Process.P)
			}
			if strings.Contains(f.Command, "kill") && !strings.HasSuffix(f.Command, fmt.Sprintf("kill %d", f.Process.P.PID)) {
				t.Fatalf("%s for %v", f.Command, f.Process.P)
			}
		}
		want := kinds(e)
		for _, list := range [][]*Record{q.Past, q.Live} {
			rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		}
		if diff := cmp.Diff(want, kinds(Explain(q))); diff != "" {
			t.Fatalf("another order (-first +then):\n%s", diff)
		}
	})
}

func randomInquiry(t *rapid.T) *Inquiry {
	cast := []Actor{{}, person(10, "web", 5, 1), person(11, "web", 5, 1), person(20, "db", 1), person(30, "curl", 6), person(31, "curl", 6)}
	who := rapid.SampledFrom(cast)
	addr := rapid.SampledFrom([]string{"127.0.0.1:8080", "[::1]:8080", "0.0.0.0:8080", "[::]:8080", "127.0.0.2:8080"})
	id := rapid.Uint64Range(1, 4)
	kind := rapid.IntRange(0, 7)
	make := func(label string, from float64, most int) []*Record {
		var s tale
		n := rapid.IntRange(0, most).Draw(t, label)
		for i := range n {
			sec := from + float64(i)
			w, a := who.Draw(t, "who"), addr.Draw(t, "addr")
			switch kind.Draw(t, "kind") {
			case 0:
				s.sock("bind", sec, id.Draw(t, "id"), w, a)
			case 1:
				s.sock("listen", sec, id.Draw(t, "id"), w, a)
			case 2:
				s.release(sec, id.Draw(t, "id"), w, a)
			case 3:
				s.conn("connect", sec, id.Draw(t, "id"), w, 50000+uint16(i%2), who.Draw(t, "server"), a)
			case 4:
				s.conn("close", sec, id.Draw(t, "id"), w, 50000+uint16(i%2), who.Draw(t, "server"), a)
			case 5:
				s.refused(sec, w, a)
			case 6:
				s.inUse(sec, w, &Holder{Kind: HolderListener, Address: netip.MustParseAddrPort(a).Addr(), Port: 8080, Process: who.Draw(t, "holder"), Since: at(sec - 1)})
			default:
				s.add(&Record{Event: "start", Time: at(sec), Start: &StartRecord{}})
			}
		}
		return s.records
	}
	q := inquiry(rapid.SampledFrom([]string{"8080", "127.0.0.1:8080", "localhost:8080", "127.0.0.1:50000"}).Draw(t, "target"))
	q.Past = make("past", 100, 12)
	if q.Looked = rapid.Bool().Draw(t, "looked"); q.Looked {
		q.Live = slices.DeleteFunc(make("live", 1000, 6), func(r *Record) bool {
			r.Preexisting = true
			return r.Errno != 0 || r.Start != nil || r.Event == "release" || r.Event == "close"
		})
		for i, r := range q.Live {
			r.ID = uint64(100 + i)
			r.Time = q.Now
		}
	}
	if rapid.Bool().Draw(t, "at") {
		q.At = at(100 + float64(rapid.IntRange(0, 12).Draw(t, "moment")))
		q.AtEnd = q.At.Add(time.Second)
	}
	return q
}

func actorsOf(r *Record) []Actor {
	var list []Actor
	if s := r.Sock; s != nil {
		list = append(list, s.Process)
		if s.Holder != nil {
			list = append(list, s.Holder.Process)
		}
	}
	if c := r.Conn; c != nil {
		list = append(list, c.Client.Process, c.Server.Process)
	}
	return slices.DeleteFunc(list, func(a Actor) bool { return !a.Known() })
}
