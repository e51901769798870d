// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// filterScene has records that differ in each thing that a filter looks at. Its records, by id and
// event: bind 1, listen 1, connect 7, accept 7, close 7 (cli to srv, port 80), connect 8 (refused,
// oth to port 81, in namespace 2), bind 3 (EADDRINUSE, oth), bind 4 and release 4 (UDP, cli).
var filterScene = []step{
	exec(50, srv.withUID(33)),
	execWith(51, oth, "oth\x00", "/bin/oth", "/system.slice/docker-"+containerID+".scope"),
	serve(100, 1, srv.withUID(33), "127.0.0.1:80"),
	tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").connect(110),
	tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").accept(111, srv.withUID(33)),
	tcp(7, cli, "127.0.0.1:40000", "127.0.0.1:80").close(112, srv.withUID(33)),
	tcp(8, oth, "127.0.0.2:40001", "127.0.0.2:81").in(2).refused(120),
	refusedBind(130, 3, oth, "127.0.0.1:80"),
	bind(140, 4, cli, "[::1]:53", udp),
	release(150, 4, cli, "[::1]:53", udp),
	drain,
}

// brief is a record as "event id".
func brief(r *Record) string { return fmt.Sprintf("%s %d", r.Event, r.ID) }

func TestFilter(t *testing.T) {
	const all = "bind 1, listen 1, connect 7, accept 7, close 7, connect 8, bind 3, bind 4, release 4"
	strs := func(list ...string) []string { return list }
	for _, tc := range []struct {
		name   string
		filter Filter
		want   string
	}{
		{"none", Filter{}, all},
		{"event", Filter{Events: Set[string]{Include: strs("bind", "close")}}, "bind 1, close 7, bind 3, bind 4"},
		{"not event", Filter{Events: Set[string]{Exclude: strs("bind", "connect")}}, "listen 1, accept 7, close 7, release 4"},
		{"event, not event", Filter{Events: Set[string]{Include: strs("bind", "close"), Exclude: strs("bind")}}, "close 7"},
		{"proto", Filter{Protos: Set[uint16]{Include: []uint16{UDP}}}, "bind 4, release 4"},
		{"not proto", Filter{Protos: Set[uint16]{Exclude: []uint16{TCP}}}, "bind 4, release 4"},
		{"the server's port", Filter{Ports: Set[uint16]{Include: []uint16{80}}}, "bind 1, listen 1, connect 7, accept 7, close 7, bind 3"},
		{"the client's port", Filter{Ports: Set[uint16]{Include: []uint16{40001}}}, "connect 8"},
		{"ports", Filter{Ports: Set[uint16]{Include: []uint16{81, 53}}}, "connect 8, bind 4, release 4"},
		{"not the server's port", Filter{Ports: Set[uint16]{Exclude: []uint16{80}}}, "connect 8, bind 4, release 4"},
		{"not the client's port", Filter{Ports: Set[uint16]{Exclude: []uint16{40000, 53}}}, "bind 1, listen 1, connect 8, bind 3"},
		{"a port, not another", Filter{Ports: Set[uint16]{Include: []uint16{80}, Exclude: []uint16{40000}}}, "bind 1, listen 1, bind 3"},
		{"the server's pid", Filter{PIDs: Set[uint32]{Include: []uint32{10}}}, "bind 1, listen 1, connect 7, accept 7, close 7"},
		{"the client's pid", Filter{PIDs: Set[uint32]{Include: []uint32{20}}}, "connect 7, accept 7, close 7, bind 4, release 4"},
		{"not a pid", Filter{PIDs: Set[uint32]{Exclude: []uint32{20}}}, "bind 1, listen 1, connect 8, bind 3"},
		{"comm", Filter{Comms: Set[string]{Include: strs("oth")}}, "connect 8, bind 3"},
		{"not comm", Filter{Comms: Set[string]{Exclude: strs("srv", "oth")}}, "bind 4, release 4"},
		{"user", Filter{UIDs: Set[uint32]{Include: []uint32{33}}}, "bind 1, listen 1, connect 7, accept 7, close 7"},
		{"not user", Filter{UIDs: Set[uint32]{Exclude: []uint32{33}}}, "connect 8, bind 3, bind 4, release 4"},
		{"container", Filter{Containers: Set[string]{Include: strs(containerID)}}, "connect 8, bind 3"},
		{"a container's prefix", Filter{Containers: Set[string]{Include: strs(containerID[:12])}}, "connect 8, bind 3"},
		{"another container", Filter{Containers: Set[string]{Include: strs("8a2c4e6f9")}}, ""},
		{"no container's name", Filter{Containers: Set[string]{Include: strs("")}}, ""},
		{"not a container", Filter{Containers: Set[string]{Exclude: strs(containerID)}}, "bind 1, listen 1, connect 7, accept 7, close 7, bind 4, release 4"},
		{"namespace", Filter{Netns: Set[uint32]{Include: []uint32{2}}}, "connect 8"},
		{"not namespace", Filter{Netns: Set[uint32]{Exclude: []uint32{1}}}, "connect 8"},
		{"failed", Filter{Failed: true}, "connect 8, bind 3"},
		{"a target's port", Filter{Targets: targets("81")}, "connect 8"},
		{"a target's address", Filter{Targets: targets("127.0.0.2")}, "connect 8"},
		{"a target", Filter{Targets: targets("127.0.0.1:40000")}, "connect 7, accept 7, close 7"},
		{"a target's port at the other end's address", Filter{Targets: targets("127.0.0.2:80")}, ""},
		{"targets", Filter{Targets: targets("[::1]:53", "127.0.0.2:81")}, "connect 8, bind 4, release 4"},
		{"each part must agree", Filter{Ports: Set[uint16]{Include: []uint16{80}}, Comms: Set[string]{Include: strs("oth")}}, "bind 3"},
		{"each part must agree, and none does", Filter{Failed: true, Protos: Set[uint16]{Include: []uint16{UDP}}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScene(Config{Filter: tc.filter}, brief)
			for _, p := range []prog{srv, cli, oth} {
				exec(p.start, p)(s)
			}
			for _, step := range filterScene {
				step(s)
			}
			if d := cmp.Diff(tc.want, strings.Join(s.text, ", ")); d != "" {
				t.Errorf("records (-want +got):\n%s", d)
			}
		})
	}
}

func targets(list ...string) []Target {
	var all []Target
	for _, text := range list {
		found, err := ParseTarget(text)
		if err != nil {
			panic(err)
		}
		all = append(all, found...)
	}
	return all
}

// A record that comes out is the same, holder, last_listener and both ends included, as without a
// filter: the filter takes lines away, and does nothing else.
func TestFilterChangesNothingElse(t *testing.T) {
	play := func(f Filter) []string {
		s := newScene(Config{Filter: f}, line)
		for _, p := range []prog{srv, cli, oth} {
			exec(p.start, p)(s)
		}
		for _, step := range append(filterScene[:len(filterScene):len(filterScene)],
			release(160, 1, srv, "127.0.0.1:80"),
			tcp(9, cli, "127.0.0.1:40002", "127.0.0.1:80").refused(170),
			refusedBind(180, 5, oth, "127.0.0.1:40000")) {
			step(s)
		}
		return s.text
	}
	full := play(Filter{})
	for _, event := range []string{"bind", "listen", "release", "connect", "accept", "close"} {
		t.Run(event, func(t *testing.T) {
			var want []string
			for _, text := range full {
				if strings.Fields(text)[2] == event {
					want = append(want, text)
				}
			}
			if len(want) == 0 {
				t.Fatal("the scene has no such record")
			}
			got := play(Filter{Events: Set[string]{Include: []string{event}}})
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("records (-want +got):\n%s", d)
			}
		})
	}
}

func TestFilterTree(t *testing.T) {
	tree := Config{Filter: Filter{Tree: true}}
	root := prog{100, 100, 0, "sh"}
	child, grandchild := prog{101, 101, 0, "make"}, prog{102, 102, 0, "cc"}
	plant := func(p prog) step { return func(s *scene) { s.table.Plant(p.pid) } }
	play(t, []scenario{
		{
			name: "descendants belong to it, however deep; its peers are named, and have no records of their own",
			cfg:  tree, look: brief,
			steps: []step{
				exec(100, root), plant(root), fork(root, child), fork(child, grandchild), execBy(105, child, grandchild.as("ld")),
				serve(110, 1, srv, "127.0.0.1:80"), bind(111, 2, root, "127.0.0.1:81"), bind(112, 3, grandchild, "127.0.0.1:82"),
				tcp(7, child, "127.0.0.1:40000", "127.0.0.1:80").connect(113), tcp(8, cli, "127.0.0.1:40001", "127.0.0.1:80").connect(114),
			},
			want: []string{"bind 2", "bind 3", "connect 7"},
		},
		{
			name: "children from before it was planted do not",
			cfg:  tree, look: brief,
			steps: []step{exec(100, root), fork(root, child), plant(root), bind(111, 2, child, "127.0.0.1:81"), bind(112, 3, root, "127.0.0.1:82")},
			want:  []string{"bind 3"},
		},
		{
			name: "they stay in it when their parents have gone",
			cfg:  tree, look: brief,
			steps: []step{
				exec(100, root), plant(root), fork(root, child), exit(102, root, 0), fork(child, grandchild), exit(103, child, 0),
				bind(111, 2, grandchild, "127.0.0.1:81"),
			},
			want: []string{"bind 2"},
		},
		{
			name: "another process of the root's number does not",
			cfg:  tree, look: brief,
			steps: []step{exec(100, root), plant(root), exit(105, root, 0), fork(srv, prog{100, 106, 0, "srv"}), bind(111, 2, prog{100, 106, 0, ""}, "127.0.0.1:81")},
		},
		{
			name: "a descendant whose fork was lost",
			cfg:  tree, look: brief,
			steps: []step{exec(100, root), plant(root), execBy(105, root, child), bind(111, 2, child, "127.0.0.1:81")},
			want:  []string{"bind 2"},
		},
		{
			name: "nobody was planted",
			cfg:  tree, look: brief,
			steps: []step{exec(100, root), plant(prog{pid: 7}), bind(111, 2, root, "127.0.0.1:81")},
		},
	})
}

// A wildcard socket answers to every address of its family.
func TestFilterTargetWildcard(t *testing.T) {
	for _, tc := range []struct {
		name, target, bound string
		only                bool
		want                int
	}{
		{"IPv4", "127.0.0.1:80", "0.0.0.0:80", false, 2},
		{"another IPv4", "127.0.0.9", "0.0.0.0:80", false, 2},
		{"dual-stack, IPv6", "[::1]:80", "[::]:80", false, 2},
		{"dual-stack, IPv4", "127.0.0.1:80", "[::]:80", false, 2},
		{"another port", "127.0.0.1:81", "0.0.0.0:80", false, 0},
		{"an IPv4 wildcard is not reached by IPv6", "[::1]:80", "0.0.0.0:80", false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScene(Config{Filter: Filter{Targets: targets(tc.target)}}, brief)
			serve(100, 1, srv, tc.bound)(s)
			if len(s.text) != tc.want {
				t.Errorf("got %q, want %d records", s.text, tc.want)
			}
		})
	}
}

// A connect() that found no port has no address of its own yet: it is at one end only.
func TestFilterTargetOfUnboundClient(t *testing.T) {
	s := newScene(Config{Filter: Filter{Targets: targets("127.0.0.9")}}, brief)
	tcp(7, cli, "0.0.0.0:0", "127.0.0.1:80").connect(110, failed(eaddrnotavail))(s)
	if len(s.text) != 0 {
		t.Errorf("%q concerns 127.0.0.1 alone", s.text)
	}
}

func TestFilterHousekeeping(t *testing.T) {
	s := newScene(Config{Filter: Filter{Events: Set[string]{Include: []string{"bind"}}, Failed: true}}, line)
	s.table.Housekeep(&Record{Event: "lost", Time: boot, Lost: &LostRecord{Count: 1}})
	if d := cmp.Diff([]string{"0ms lost"}, s.text); d != "" {
		t.Errorf("housekeeping records always pass (-want +got):\n%s", d)
	}
}
