// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Why two programs differ about a socket.
const (
	agree        = "agree: the socket, and every process that holds it"
	notLoopback  = "is not of loopback"
	asText       = "TIME_WAIT: ls has it as text, with --all"
	unheld       = "no process holds either end: ls lists what processes have"
	unheldEnd    = "no process holds this end: ls has it as the other end of a connection"
	inQueue      = "nobody has accepted it: ls names whose listener it is"
	boundOnly    = "bound and not listening: it is in no table that they read"
	notTCP       = "ss was asked for TCP"
	connectedUDP = "a connected UDP socket: ls lists flows by their datagrams, which it did not see"
	goneEnd      = "the socket is gone: ls has it as the other end of a connection"
	unexplained  = "UNEXPLAINED"
)

// compare makes the sockets, asks the three programs, and counts why they differ. It fails where that is not known.
func compare(binary string, sockets int) error {
	if err := fill(sockets/2, "zoo", 0); err != nil {
		return err
	}
	if err := fill(sockets/2, "plain", 0); err != nil {
		return err
	}
	if err := fill(sockets/50, "apart", unix.CLONE_NEWNET); err != nil {
		return err
	}
	ls, others, err := byLooptrace(binary)
	if err != nil {
		return err
	}
	waits, err := timeWaits(binary)
	if err != nil {
		return err
	}
	ss, err := bySS()
	if err != nil {
		return err
	}
	lsof, err := byLsof()
	if err != nil {
		return err
	}
	fmt.Printf("looptrace ls: %d sockets that ends and listeners are of, %d TIME_WAITs, and %d records of other network namespaces, which ss and lsof do not look into\n", len(ls), len(waits), others)
	fmt.Printf("ss -tanp: %d sockets\nlsof -i: %d sockets\n", len(ss), len(lsof))
	bad := report("ss -tanp", ls, ss, func(s socket, mine, its *entry) string { return besideSS(ls, waits, ss, s, mine, its) })
	bad += report("lsof -i", ls, lsof, func(s socket, mine, its *entry) string { return besideLsof(ls, s, mine, its) })
	if bad += lostWaits(waits, ss); bad > 0 {
		return fmt.Errorf("%d differences are unexplained", bad)
	}
	if others == 0 {
		return fmt.Errorf("ls saw no other network namespace, and there is one")
	}
	return nil
}

// report counts the reasons, and gives how many are none.
func report(tool string, ls, its view, why func(s socket, mine, its *entry) string) int {
	counts := map[string]int{}
	for _, s := range all(ls, its) {
		mine, other := lookup(ls, s), lookup(its, s)
		reason := why(s, mine, other)
		if counts[reason]++; reason == unexplained && counts[reason] <= 10 {
			fmt.Fprintf(os.Stderr, "%s: %v: ls %v, %s %v\n", unexplained, s, mine, tool, other)
		}
	}
	fmt.Printf("\n| beside `%s` | sockets |\n| --- | --- |\n", tool)
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		fmt.Printf("| %s | %d |\n", reason, counts[reason])
	}
	return counts[unexplained]
}

func all(a, b view) map[socket]socket {
	keys := map[socket]socket{}
	for _, v := range []view{a, b} {
		for s := range v {
			keys[s] = s
		}
	}
	return keys
}

func lookup(v view, s socket) *entry {
	if e, ok := v[s]; ok {
		return &e
	}
	return nil
}

func besideSS(ls, waits, ss view, s socket, mine, its *entry) string {
	other := lookup(ss, s.other())
	switch {
	case mine != nil && its != nil:
		return bothHave(ls, s, mine, its)
	case mine != nil && s.proto != "tcp":
		return notTCP
	case mine != nil && mine.state == "bind":
		return boundOnly
	case mine != nil && len(mine.pids) == 0 && other != nil:
		return goneEnd
	case its != nil && !ofLoopback(s):
		return notLoopback
	case its != nil && its.state == "TIME-WAIT" && lookup(waits, s) != nil:
		return asText
	case its != nil && s.remote.IsValid() && its.state != "TIME-WAIT" && len(its.pids) == 0 && (other == nil || len(other.pids) == 0):
		return unheld
	}
	return unexplained
}

func besideLsof(ls view, s socket, mine, its *entry) string {
	switch {
	case mine != nil && its != nil:
		return bothHave(ls, s, mine, its)
	case mine != nil && mine.state == "bind" && s.proto == "tcp":
		return boundOnly
	case mine != nil && s.remote.IsValid() && len(mine.pids) == 0:
		return unheldEnd
	case mine != nil && queues(ls, s, mine):
		return inQueue
	case its != nil && !ofLoopback(s):
		return notLoopback
	case its != nil && s.proto == "udp" && s.remote.IsValid():
		return connectedUDP
	}
	return unexplained
}

func bothHave(ls view, s socket, mine, its *entry) string {
	switch {
	case slices.Equal(mine.pids, its.pids):
		return agree
	case len(its.pids) == 0 && its.state == "ESTAB" && queues(ls, s, mine):
		return inQueue
	}
	return unexplained
}

// queues: it is a server's end, of those who hold the listener that the client dialled.
func queues(ls view, s socket, mine *entry) bool {
	listener := lookup(ls, socket{proto: s.proto, local: s.local})
	return mine.state == "server" && listener != nil && listener.state == "listen" && slices.Equal(listener.pids, mine.pids)
}

// lostWaits counts the TIME_WAITs of ls that ss does not have.
func lostWaits(waits, ss view) (n int) {
	for s := range waits {
		if e := lookup(ss, s); e == nil || e.state != "TIME-WAIT" {
			fmt.Fprintf(os.Stderr, "%s: %v: ls time_wait, ss %v\n", unexplained, s, e)
			n++
		}
	}
	return n
}

func (s socket) other() socket { return socket{s.proto, s.remote, s.local} }

// ofLoopback: an end is on it, or, of what is not connected, it can be reached there.
func ofLoopback(s socket) bool {
	near := func(a netip.Addr) bool { return a.IsLoopback() }
	if !s.remote.IsValid() {
		return near(s.local.Addr()) || s.local.Addr().IsUnspecified()
	}
	return near(s.local.Addr()) || near(s.remote.Addr())
}
