// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/tracer/flow"
)

// TestKernelListNamespaces: the same addresses in two network namespaces, each with its processes and TIME_WAITs.
func TestKernelListNamespaces(t *testing.T) {
	needRoot(t)
	const port = 2100
	own := ownNetns(t)
	elsewhere := make(chan func()) // runs in the other namespace
	defer close(elsewhere)
	others := make(chan int)
	go func() { // ends with the test; its thread is in another namespace, and ends with it
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		} else if err := loopbackUp(); err != nil {
			t.Error(err)
		}
		others <- int(netnsOf("thread-self"))
		for f := range elsewhere {
			f()
			others <- 0
		}
	}()
	other := <-others
	var want []string
	for _, netns := range []int{own, other} {
		var server, client *actor
		begin := func() { server, client = newActor(t), newActor(t) }
		if netns == other {
			elsewhere <- begin
			<-others
		} else {
			begin()
		}
		server.do("socket l tcp4")
		server.do("bind l 127.0.0.1:%d", port)
		server.do("listen l 16")
		for _, name := range []string{"a", "b"} {
			client.do("socket %s tcp4", name)
			client.do("set %s reuseaddr", name)
			client.do("bind %s 127.0.0.1:%d", name, port+int(name[0]))
			client.do("connect %s 127.0.0.1:%d", name, port)
			server.do("accept l s%s", name)
		}
		client.do("close b")
		server.do("close sb")
		want = append(want, fmt.Sprintf("listen %d %d <nil> <nil>", netns, server.pid), fmt.Sprintf("connect %d <nil> %d %d", netns, client.pid, server.pid))
	}
	slices.Sort(want)
	waits := func(l Listing) (in []int) {
		for _, w := range l.Waiting {
			if ns := int(w.Netns); (ns == own || ns == other) && w.Port == port+'b' && w.Peer.Port() == port {
				in = append(in, ns)
			}
		}
		slices.Sort(in)
		return in
	}
	both := []int{min(own, other), max(own, other)}
	eventually(t, "a TIME_WAIT in each namespace", func() bool {
		_, listing := list(t, ListConfig{TimeWait: true})
		return slices.Equal(waits(listing), both)
	})
	got, _ := list(t, ListConfig{Filter: flow.Filter{Ports: flow.Set[uint16]{Include: []uint16{port}}}}, own, other)
	var rows []string
	for _, r := range got {
		rows = append(rows, r.pick("event", "netns", "process.pid", "client.process.pid", "server.process.pid"))
	}
	slices.Sort(rows)
	if d := cmp.Diff(want, rows); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	_, one := list(t, ListConfig{TimeWait: true, Filter: flow.Filter{Netns: flow.Set[uint32]{Include: []uint32{uint32(other)}}}})
	if d := cmp.Diff([]int{other}, waits(one)); d != "" {
		t.Errorf("TIME_WAITs with --netns (-want +got):\n%s", d)
	}
}
