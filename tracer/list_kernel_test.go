// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/tracer/flow"
)

// list looks once, and gives the records of these network namespaces; the test's own where none is named. All
// obey the schema.
func list(t *testing.T, cfg ListConfig, namespaces ...int) ([]record, Listing) {
	t.Helper()
	needRoot(t)
	l, err := NewLister(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	rec := newRecorder()
	listing, err := l.List(rec.Write)
	if err != nil || listing.Lost != 0 {
		t.Fatalf("lost %d, %v", listing.Lost, err)
	}
	if err := rec.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(namespaces) == 0 {
		namespaces = []int{ownNetns(t)}
	}
	all := slices.DeleteFunc(rec.records(t), func(r record) bool { return !slices.Contains(namespaces, r.number("netns")) })
	for _, r := range all {
		if err := schema().Validate(plain(r)); err != nil {
			t.Errorf("%v\n%v", r, err)
		}
	}
	return all, listing
}

var listFields = []string{
	"event", "network.transport", "network.type", "port", "address", "process.pid", "client.address", "client.port",
	"client.process.pid", "server.address", "server.process.pid",
}

// listScene has one of each kind of socket, on ports from the first. It gives the two processes, and where they listen.
func listScene(t *testing.T, first int) (server, client *actor, at map[string]netip.AddrPort) {
	on := func(addr string, n int) string { return fmt.Sprintf("%s:%d", addr, first+n) }
	server, client, at = newActor(t), newActor(t), map[string]netip.AddrPort{}
	for _, l := range []struct{ name, kind, addr string }{{"l4", "tcp4", on("127.0.0.1", 0)}, {"l6", "tcp6", on("[::1]", 1)}, {"dual", "tcp6", on("[::]", 2)}} {
		server.do("socket %s %s", l.name, l.kind)
		server.do("bind %s %s", l.name, l.addr)
		server.do("listen %s 16", l.name)
	}
	for _, c := range []struct{ name, kind, listener, addr string }{
		{"c4", "tcp4", "l4", on("127.0.0.1", 0)}, {"c6", "tcp6", "l6", on("[::1]", 1)}, {"mapped", "tcp6", "dual", on("[::ffff:127.0.0.1]", 2)},
	} {
		client.do("socket %s %s", c.name, c.kind)
		client.do("connect %s %s", c.name, c.addr)
		server.do("accept %s s%s", c.listener, c.name)
		at[c.name] = client.addr(c.name)
	}
	client.do("socket queued tcp4") // nobody accepts it
	client.do("connect queued %s", on("127.0.0.1", 0))
	at["queued"] = client.addr("queued")
	client.do("socket bound tcp4")
	client.do("bind bound %s", on("127.0.0.1", 3))
	server.do("socket u4 udp4")
	server.do("bind u4 %s", on("0.0.0.0", 4))
	server.do("socket u6 udp6")
	server.do("bind u6 %s", on("[::1]", 4))
	return server, client, at
}

// TestKernelList: each kind of socket, once, with both ends, in order.
func TestKernelList(t *testing.T) {
	needRoot(t)
	server, client, at := listScene(t, 2001)
	client.do("socket udp udp4") // a flow begins with a datagram, which a look does not see
	client.do("connect udp 127.0.0.1:2005")
	client.do("socket unbound tcp4")
	got, _ := list(t, ListConfig{})
	s, c := server.pid, client.pid
	wantRows(t, got, listFields,
		fmt.Sprintf("listen tcp ipv4 2001 127.0.0.1 %d <nil> <nil> <nil> <nil> <nil>", s),
		fmt.Sprintf("listen tcp ipv6 2002 ::1 %d <nil> <nil> <nil> <nil> <nil>", s),
		fmt.Sprintf("listen tcp ipv6 2003 :: %d <nil> <nil> <nil> <nil> <nil>", s),
		fmt.Sprintf("bind tcp ipv4 2004 127.0.0.1 %d <nil> <nil> <nil> <nil> <nil>", c),
		fmt.Sprintf("bind udp ipv4 2005 0.0.0.0 %d <nil> <nil> <nil> <nil> <nil>", s),
		fmt.Sprintf("bind udp ipv6 2005 ::1 %d <nil> <nil> <nil> <nil> <nil>", s),
		fmt.Sprintf("connect tcp ipv4 2001 <nil> <nil> 127.0.0.1 %d %d 127.0.0.1 %d", min(at["c4"].Port(), at["queued"].Port()), c, s),
		fmt.Sprintf("connect tcp ipv4 2001 <nil> <nil> 127.0.0.1 %d %d 127.0.0.1 %d", max(at["c4"].Port(), at["queued"].Port()), c, s),
		fmt.Sprintf("connect tcp ipv6 2002 <nil> <nil> ::1 %d %d ::1 %d", at["c6"].Port(), c, s),
		fmt.Sprintf("connect tcp ipv4 2003 <nil> <nil> 127.0.0.1 %d %d 127.0.0.1 %d", at["mapped"].Port(), c, s),
	)
}

// portsFrom: what a form's scene leaves in TIME_WAIT is not in the next one's way.
var portsFrom = map[Form]int{Fentry: 2101, Kprobe: 2201, Tracepoint: 2301}

// TestKernelListAsSnapshot: a look tells what a run begins with, to the field; but for the numbers and times, which
// are of the look.
func TestKernelListAsSnapshot(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		server, client, _ := listScene(t, portsFrom[form])
		server.do("socket forked tcp4 inherit")
		server.do("bind forked 127.0.0.1:0")
		server.do("listen forked 4")
		server.do("fork")
		client.do("socket zero tcp4")
		client.do("bind zero 127.0.0.1:0")
		client.do("listen zero 0")
		server.do("socket d tcp4")
		server.do("connect d %s", client.addr("zero"))
		client.do("accept zero z")
		server.do("close d") // CLOSE_WAIT: nobody holds the client's end
		client.do("socket e tcp4")
		client.do("connect e %s", server.addr("l4"))
		server.do("accept l4 e")
		server.do("accept l4 queued")
		server.do("close e") // CLOSE_WAIT: nobody holds the server's end

		listed, _ := list(t, ListConfig{})
		tr := start(t, Config{Hooks: form, Snapshot: true})
		tr.stop()
		traced := slices.DeleteFunc(ownRecords(t, tr.rec.records(t)), func(r record) bool { return r.at("preexisting") == nil })
		if d := cmp.Diff(comparable(traced), comparable(listed)); d != "" {
			t.Errorf("-traced +listed\n%s", d)
		}
		if len(listed) != 14 {
			t.Errorf("%d records, want 14", len(listed))
		}
	})
}

// created is when a process began: each tracer measures anew how far the wall clock is from the kernel's.
var created = regexp.MustCompile(`creation:map\[time:[^\]]+\]`)

// comparable gives records without what differs from look to look, in one order.
func comparable(all []record) []string {
	var lines []string
	for _, r := range all {
		delete(r, "id")
		delete(r, "time")
		lines = append(lines, created.ReplaceAllString(fmt.Sprint(r), "creation"))
	}
	slices.Sort(lines)
	return lines
}

// TestKernelListClosing: what is left of connections whose ends are closed, and what is not listed any more.
func TestKernelListClosing(t *testing.T) {
	needRoot(t)
	server, client := newActor(t), newActor(t)
	server.do("socket l tcp4")
	server.do("bind l 127.0.0.1:0")
	server.do("listen l 16")
	at := server.addr("l")
	var from []netip.AddrPort
	for i := range 4 {
		client.do("socket c%d tcp4", i)
		client.do("connect c%d %s", i, at)
		server.do("accept l s%d", i)
		from = append(from, client.addr(fmt.Sprint("c", i)))
	}
	client.do("close c0") // FIN_WAIT2 that nobody holds, and CLOSE_WAIT
	server.do("close s1") // CLOSE_WAIT here: who accepted it is not known, though one process listens
	client.do("close c2") // TIME_WAIT
	server.do("close s2")
	client.do("set c3 linger0") // reset
	client.do("close c3")
	server.fail(unix.ECONNRESET, "recv s3 1") // holds no connection any more
	settle(t)

	got, listing := list(t, ListConfig{TimeWait: true})
	if from[1].Port() < from[0].Port() {
		got[1], got[2] = got[2], got[1]
	}
	wantRows(t, got, listFields,
		fmt.Sprintf("listen tcp ipv4 %d 127.0.0.1 %d <nil> <nil> <nil> <nil> <nil>", at.Port(), server.pid),
		fmt.Sprintf("connect tcp ipv4 %d <nil> <nil> 127.0.0.1 %d <nil> 127.0.0.1 %d", at.Port(), from[0].Port(), server.pid),
		fmt.Sprintf("connect tcp ipv4 %d <nil> <nil> 127.0.0.1 %d %d 127.0.0.1 <nil>", at.Port(), from[1].Port(), client.pid),
	)
	own := slices.DeleteFunc(listing.Waiting, func(w Waiting) bool { return int(w.Netns) != ownNetns(t) || w.Peer != at })
	if len(own) != 1 || netip.AddrPortFrom(own[0].Address, own[0].Port) != from[2] || own[0].Kind != flow.HolderTimeWait {
		t.Fatalf("TIME_WAITs %v, want one of %v with %v", own, from[2], at)
	}
	if left := own[0].Expires; left < 50*time.Second || left > 61*time.Second {
		t.Errorf("TIME_WAIT has %v left, want about 60 s", left)
	}
}

// TestKernelListShared: several processes hold a listener and an end of a connection; a filter on any one that a
// record names lets it through unchanged.
func TestKernelListShared(t *testing.T) {
	needRoot(t)
	server, client := newActor(t), newActor(t)
	server.do("socket l tcp4 inherit")
	server.do("bind l 127.0.0.1:0")
	server.do("listen l 16")
	child := server.do("fork")
	at := server.addr("l")
	client.do("socket c tcp4")
	client.do("connect c %s", at)
	got, _ := list(t, ListConfig{})
	paths := []string{"event", "process.attribution", "process.pid", "server.process.attribution", "server.process.pid", "client.process.attribution"}
	wantRows(t, got, paths,
		fmt.Sprintf("listen shared %d <nil> <nil> <nil>", server.pid),
		fmt.Sprintf("connect <nil> <nil> shared %d snapshot", server.pid)) // in the queue: it stands for all
	var holders []string
	for _, h := range got[0].at("process.holders").([]any) {
		holders = append(holders, record(h.(map[string]any)).pick("pid"))
	}
	if d := cmp.Diff([]string{fmt.Sprint(server.pid), child}, holders); d != "" {
		t.Errorf("holders (-want +got):\n%s", d)
	}
	server.do("accept l s")
	filtered, _ := list(t, ListConfig{Filter: flow.Filter{PIDs: flow.Set[uint32]{Include: []uint32{uint32(client.pid)}}}})
	wantRows(t, filtered, paths, fmt.Sprintf("connect <nil> <nil> snapshot %d snapshot", server.pid))
}

// TestKernelListAgain: a Lister looks as often as it is asked, and sees what changed.
func TestKernelListAgain(t *testing.T) {
	needRoot(t)
	l, err := NewLister(ListConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	server := newActor(t)
	var seen []string
	for _, call := range []string{"socket l tcp4", "bind l 127.0.0.1:2200", "listen l 1", "close l"} {
		server.do("%s", call)
		events := []string{}
		if _, err := l.List(func(r *flow.Record) error {
			if int(r.Netns) == ownNetns(t) {
				events = append(events, r.Event)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		seen = append(seen, strings.Join(events, ","))
	}
	if d := cmp.Diff([]string{"", "bind", "listen", ""}, seen); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
