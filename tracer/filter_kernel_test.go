// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/tracer/flow"
)

// filterCase is a filter, and a grep that is to do the same to the JSON of an unfiltered run.
type filterCase struct {
	filter func(s *filterScene) flow.Filter
	grep   func(s *filterScene, r record) bool
}

// tracersAtOnce bounds the tracers of a scene: each has maps of 84 MB.
const tracersAtOnce = 8

// TestKernelFilters: what a filter lets out equals the unfiltered run's records, grepped. All of a group
// trace one scene at once; the grep looks at the JSON alone.
func TestKernelFilters(t *testing.T) {
	cases := filterCases()
	names := slices.Sorted(maps.Keys(cases))
	eachForm(t, func(t *testing.T, form Form) {
		for some := range slices.Chunk(names, tracersAtOnce) {
			testFilters(t, form, some, cases)
		}
		if inGuest() { // emulated, to load a tracer takes seconds; the filters are one code, and the next form gets a sample
			names = []string{"failed", "not event", "pid of the server", "two at once"}
		}
	})
}

func testFilters(t *testing.T, form Form, names []string, cases map[string]filterCase) {
	s := newFilterScene(t)
	all := start(t, Config{Hooks: form, MaxDoubt: patience})
	some := make(map[string]*trace)
	for _, name := range names {
		some[name] = start(t, Config{Hooks: form, MaxDoubt: patience, Filter: cases[name].filter(s)})
	}
	s.play()
	unfiltered := all.finish()
	for _, name := range names {
		got := some[name].finishUnchecked() // the same records as those that were checked
		t.Run(name, func(t *testing.T) {
			want := slices.DeleteFunc(slices.Clone(unfiltered), func(r record) bool { return !cases[name].grep(s, r) })
			if len(want) == 0 {
				t.Fatal("the scene has nothing that this filter lets out")
			}
			if d := cmp.Diff(timeless(want), timeless(got)); d != "" {
				t.Errorf("(-grepped +filtered):\n%s", d)
			}
		})
	}
}

func filterCases() map[string]filterCase {
	either := func(r record, path string, ok func(any) bool) bool {
		return ok(r.at("client."+path)) || ok(r.at("server."+path)) || ok(r.at(path))
	}
	is := func(want any) func(any) bool {
		return func(v any) bool { return v != nil && fmt.Sprint(v) == fmt.Sprint(want) }
	}
	return map[string]filterCase{
		"event": {
			func(*filterScene) flow.Filter {
				return flow.Filter{Events: flow.Set[string]{Include: []string{"accept", "bind"}}}
			},
			func(_ *filterScene, r record) bool { return r.at("event") == "accept" || r.at("event") == "bind" },
		},
		"not event": {
			func(*filterScene) flow.Filter {
				return flow.Filter{Events: flow.Set[string]{Exclude: []string{"connect"}}}
			},
			func(_ *filterScene, r record) bool { return r.at("event") != "connect" },
		},
		"proto": {
			func(*filterScene) flow.Filter {
				return flow.Filter{Protos: flow.Set[uint16]{Include: []uint16{flow.UDP}}}
			},
			func(_ *filterScene, r record) bool { return r.at("network.transport") == "udp" },
		},
		"port": {
			func(s *filterScene) flow.Filter {
				return flow.Filter{Ports: flow.Set[uint16]{Include: []uint16{s.at.Port()}}}
			},
			func(s *filterScene, r record) bool { return either(r, "port", is(s.at.Port())) },
		},
		"not port": {
			func(s *filterScene) flow.Filter {
				return flow.Filter{Ports: flow.Set[uint16]{Exclude: []uint16{s.at.Port()}}}
			},
			func(s *filterScene, r record) bool { return !either(r, "port", is(s.at.Port())) },
		},
		"pid of the client": {
			func(s *filterScene) flow.Filter {
				return flow.Filter{PIDs: flow.Set[uint32]{Include: []uint32{s.pid(1)}}}
			},
			func(s *filterScene, r record) bool { return either(r, "process.pid", is(s.pid(1))) },
		},
		"pid of the server": {
			func(s *filterScene) flow.Filter {
				return flow.Filter{PIDs: flow.Set[uint32]{Include: []uint32{s.pid(0)}}}
			},
			func(s *filterScene, r record) bool { return either(r, "process.pid", is(s.pid(0))) },
		},
		"not pid": {
			func(s *filterScene) flow.Filter {
				return flow.Filter{PIDs: flow.Set[uint32]{Exclude: []uint32{s.pid(1)}}}
			},
			func(s *filterScene, r record) bool { return !either(r, "process.pid", is(s.pid(1))) },
		},
		"comm": {
			func(*filterScene) flow.Filter {
				return flow.Filter{Comms: flow.Set[string]{Include: []string{"renamed"}}}
			},
			func(_ *filterScene, r record) bool { return either(r, "process.comm", is("renamed")) },
		},
		"user": { // told by pid: accept and close cut a process that the connect gave in full

			func(*filterScene) flow.Filter { return flow.Filter{UIDs: flow.Set[uint32]{Include: []uint32{65534}}} },
			func(s *filterScene, r record) bool { return either(r, "process.pid", is(s.pid(2))) },
		},
		"not user": {
			func(*filterScene) flow.Filter { return flow.Filter{UIDs: flow.Set[uint32]{Exclude: []uint32{65534}}} },
			func(s *filterScene, r record) bool { return !either(r, "process.pid", is(s.pid(2))) },
		},
		"failed": {
			func(*filterScene) flow.Filter { return flow.Filter{Failed: true} },
			func(_ *filterScene, r record) bool { return r.at("outcome") == "failure" },
		},
		"netns": {
			func(s *filterScene) flow.Filter {
				return flow.Filter{Netns: flow.Set[uint32]{Include: []uint32{uint32(ownNetns(s.t))}}}
			},
			func(*filterScene, record) bool { return true },
		},
		"target": {
			func(s *filterScene) flow.Filter {
				return flow.Filter{Targets: []flow.Target{{Addr: s.at.Addr(), Port: s.at.Port()}}}
			},
			func(s *filterScene, r record) bool {
				return either(r, "port", is(s.at.Port()))
			},
		},
		"two at once": {
			func(s *filterScene) flow.Filter {
				return flow.Filter{
					PIDs:   flow.Set[uint32]{Include: []uint32{s.pid(1)}},
					Events: flow.Set[string]{Include: []string{"close", "connect"}},
				}
			},
			func(s *filterScene, r record) bool {
				return either(r, "process.pid", is(s.pid(1))) && (r.at("event") == "close" || r.at("event") == "connect")
			},
		},
	}
}

// filterScene is several processes on several ports, of two users.
type filterScene struct {
	t      *testing.T
	actors []*actor
	at     netip.AddrPort
}

func (s *filterScene) pid(i int) uint32 { return uint32(s.actors[i].pid) }

func newFilterScene(t *testing.T) *filterScene {
	s := &filterScene{t: t}
	for range 4 {
		s.actors = append(s.actors, newActor(t))
	}
	s.actors[2].do("setuid 65534")
	s.actors[1].do("rename renamed")
	s.actors[0].do("socket l tcp4")
	s.actors[0].do("bind l 127.0.0.1:0")
	s.at = s.actors[0].addr("l")
	return s
}

// play: two clients on one server, another server, a refusal, a port in use, a UDP flow.
func (s *filterScene) play() {
	server, client, user, other := s.actors[0], s.actors[1], s.actors[2], s.actors[3]
	server.do("listen l 16")
	for _, c := range []*actor{client, user} {
		c.do("socket c tcp4")
		c.do("connect c %s", s.at)
		server.do("accept l s")
		c.do("close c")
		server.do("recv s 1")
		server.do("close s")
	}
	other.do("socket m tcp6")
	other.do("bind m [::]:0")
	other.do("listen m 16")
	at := netip.AddrPortFrom(netip.IPv6Loopback(), other.addr("m").Port())
	client.do("socket d tcp6")
	client.do("connect d %s", at)
	other.do("accept m n")
	other.do("close n")
	client.do("recv d 1")
	client.do("close d")
	user.do("socket x tcp4")
	user.fail(unix.EADDRINUSE, "bind x %s", s.at)
	server.do("close l")
	user.do("socket y tcp4")
	user.fail(unix.ECONNREFUSED, "connect y %s", s.at)
	holders(server, client, user, other)
	other.do("socket u udp4")
	other.do("bind u 127.0.0.1:0")
	client.do("socket v udp4")
	client.do("sendto v 5 %s", other.addr("u"))
	client.do("close v")
}

// asked is time for each tracer to walk the kernel's tables: what holds a port is still there then.
func asked() time.Duration {
	if inGuest() {
		return 5 * time.Second
	}
	return 2 * time.Second
}

// holders: ports that cannot be had for connections which most filters keep from the ledger, alive
// and over.
func holders(server, client, user, other *actor) {
	server.do("socket p tcp4")
	server.do("bind p 127.0.0.1:0")
	server.do("listen p 16")
	client.do("socket o tcp4")
	client.do("bind o 127.0.0.1:0")
	at := client.addr("o")
	client.do("connect o %s", server.addr("p"))
	server.do("accept p q")
	user.do("socket h tcp4")
	user.fail(unix.EADDRINUSE, "bind h %s", at) // a connection
	time.Sleep(asked())
	client.do("close o")
	server.do("recv q 1")
	server.do("close q")
	user.fail(unix.EADDRINUSE, "bind h %s", at) // its TIME_WAIT
	time.Sleep(asked())
	server.do("close p")

	other.do("socket p tcp4")
	other.do("bind p 127.0.0.1:0")
	other.do("listen p 16")
	gone := other.addr("p")
	client.do("socket o tcp4")
	client.do("connect o %s", gone)
	other.do("accept p q")
	other.do("close p")
	user.fail(unix.EADDRINUSE, "bind h %s", gone) // it outlived its listener
	time.Sleep(asked())
	other.do("close q")
	client.do("recv o 1")
	client.do("close o")
	user.fail(unix.EADDRINUSE, "bind h %s", gone) // TIME_WAIT of an accepted one
	user.do("close h")
}

// timeless gives records without what two tracers measure each for itself, ids and times, but for
// whether they know them; and in no order, which is another test's.
func timeless(all []record) []record {
	var list []record
	for _, r := range all {
		list = append(list, strip(map[string]any(r)))
	}
	slices.SortFunc(list, func(a, b record) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return list
}

func strip(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		switch {
		case k == "id" || k == "time" || k == "message":
		case k == "since" || k == "until" || strings.HasSuffix(k, "_ns"):
			out[k] = "known"
		default:
			if sub, ok := v.(map[string]any); ok {
				v = strip(sub)
			}
			out[k] = v
		}
	}
	return out
}

// TestKernelTree: `run` shows a tree of processes; a peer outside it is named too.
func TestKernelTree(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		outside, root := newActor(t), newActor(t)
		outside.do("socket l tcp4")
		outside.do("bind l 127.0.0.1:0")
		outside.do("listen l 16")
		at := outside.addr("l")
		tr := startWith(t, Config{Hooks: form, Filter: flow.Filter{Tree: true}}, func(tracer *Tracer) error {
			return tracer.Plant(root.pid)
		})
		child := root.do("spawn socket c tcp4; connect c %s; send c 3; close c", at)
		outside.do("accept l s")
		outside.do("recv s 3")
		outside.do("recv s 1")
		outside.do("close s")
		outside.do("socket x tcp4") // not of the tree
		outside.do("connect x %s", at)
		outside.do("accept l y")
		outside.do("close x")
		outside.do("close y")
		wantRows(t, tr.finish(), []string{"event", "client.process.pid", "server.process.pid"},
			fmt.Sprintf("connect %s %d", child, outside.pid),
			fmt.Sprintf("accept %s %d", child, outside.pid),
			fmt.Sprintf("close %s %d", child, outside.pid))
	})
}

// TestKernelExec: a process of a millisecond is named in full, its parent and ancestors too.
func TestKernelExec(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		tr := start(t, Config{Hooks: form})
		cmd := exec.Command("/proc/self/exe", "--password=x", "two words")
		cmd.Env = append(cmd.Environ(), actorEnv+"=1")
		cmd.Stdin = strings.NewReader("socket b tcp4\nbind b 127.0.0.1:0\nexit 3\n")
		_ = cmd.Run() // exits with 3, by design
		all := tr.finish()
		if len(all) != 2 {
			t.Fatalf("%d records, want bind and release: %v", len(all), all)
		}
		pid, self := cmd.Process.Pid, unix.Getpid()
		name := all[0].at("process.executable.name") // it is the same program
		wantRows(t, all[:1], []string{"process.pid", "process.parent_pid", "process.command_line", "process.ancestors"},
			fmt.Sprintf("%d %d /proc/self/exe --password=x two words %v", pid, self, all[0].at("process.ancestors")))
		if a := fmt.Sprint(all[0].at("process.ancestors")); !strings.HasPrefix(a, fmt.Sprintf("[map[executable:map[name:%s] pid:%d]", name, self)) {
			t.Errorf("ancestors: %s", a)
		}
		wantRows(t, all[1:], []string{"event", "reason", "process.exit.code"}, "release exit 3")
	})
}
