// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/google/go-cmp/cmp"
)

// connection is what must be recorded of one. Bytes ("sent received") and closedBy are "" where the
// programs do not tell.
type connection struct {
	client, listener, acceptor who
	holders                    []who // of the listener, where they are several
	port                       int   // the client's
	bytes, closedBy            string
}

// wantConnections wants these connections in the namespace, three records each, and no other.
func (w *world) wantConnections(port int, want ...connection) {
	w.t.Helper()
	byClient := map[string][]record{}
	for _, r := range w.records {
		if r.at("client") != nil && r.pick("netns") == strconv.Itoa(w.netns) {
			p := r.pick("client.port")
			byClient[p] = append(byClient[p], r)
		}
	}
	for i, c := range want {
		key := strconv.Itoa(c.port)
		var got []string
		ids := map[string]bool{}
		for _, r := range byClient[key] {
			got = append(got, c.row(r))
			ids[r.pick("id")] = true
		}
		delete(byClient, key)
		if len(ids) > 1 {
			w.t.Errorf("one connection has the ids %v", ids)
		}
		if d := cmp.Diff(c.rows(port), got); d != "" {
			w.t.Errorf("connection %d of %d (-want +got):\n%s", i+1, len(want), d)
		}
	}
	for _, extra := range byClient {
		for _, r := range extra {
			w.t.Errorf("nobody made this connection: %s", r.text)
		}
	}
}

// rows is what the records of a connection must say.
func (c connection) rows(port int) []string {
	end := fmt.Sprintf("success 127.0.0.1 %d tcp ipv4 hook hook", port)
	listener := "<nil>"
	if c.listener != c.acceptor {
		listener = strconv.Itoa(c.listener.pid)
	}
	rows := []string{
		fmt.Sprintf("connect %s: %s → %s", end, c.client.full(), c.listener.full()),
		fmt.Sprintf("accept %s: %s → %s, listener %s", end, c.client.brief(), c.acceptor.brief(), listener),
		fmt.Sprintf("close %s: %s → %s", end, c.client.brief(), c.acceptor.brief()),
	}
	if c.bytes != "" {
		rows[2] += ", bytes " + c.bytes
	}
	if c.closedBy != "" {
		rows[2] += ", by " + c.closedBy
	}
	return rows
}

// row is what one says, of the things that c has an opinion on.
func (c connection) row(r record) string {
	const client, server = "client.process", "server.process"
	attribution := r.pick(server + ".attribution")
	if attribution == "shared" && r.at("event") == "connect" && sameProcesses(r.at(server+".holders"), c.holders) {
		attribution = "hook" // until looptrace has looked who inherited it, the one who listens is all there is
	}
	row := r.pick("event", "outcome", "server.address", "server.port", "network.transport", "network.type",
		client+".attribution") + " " + attribution + ": "
	switch r.at("event") {
	case "connect":
		return row + r.full(client) + " → " + r.full(server)
	case "accept":
		return row + r.brief(client) + " → " + r.brief(server) + ", listener " + r.pick("listener.process.pid")
	}
	row += r.brief(client) + " → " + r.brief(server)
	if c.bytes != "" {
		row += ", bytes " + r.pick("bytes.client_to_server", "bytes.server_to_client")
	}
	if c.closedBy != "" {
		row += ", by " + r.pick("closed_by")
	}
	return row
}

// sameProcesses compares a record's list of holders, whatever its order.
func sameProcesses(list any, want []who) bool {
	var got, pids []string
	holders, _ := list.([]any)
	for _, h := range holders {
		fields, _ := h.(map[string]any)
		got = append(got, fmt.Sprint(fields["pid"]))
	}
	for _, p := range want {
		pids = append(pids, strconv.Itoa(p.pid))
	}
	slices.Sort(got)
	slices.Sort(pids)
	return slices.Equal(got, pids)
}

// listening is what must be recorded of a server's socket on 127.0.0.1. Release is why it ended, with
// exit code and signal.
type listening struct {
	by              who
	port, requested int
	release         string
	listens         int  // calls of listen() on the socket; 0: one
	probes          bool // Go finds out what the kernel has by binding sockets that never listen
}

// wantSockets wants this server's socket in the namespace, and no other.
func (w *world) wantSockets(l listening) {
	w.t.Helper()
	const process = "process"
	var got []string
	ids := map[string]bool{}
	for _, r := range w.own() {
		if r.at("client") != nil || l.probes && r.pick("port") != strconv.Itoa(l.port) {
			continue
		}
		ids[r.pick("id")] = true
		row := r.pick("event", "outcome", "address", "port") + " " + r.full(process)
		switch r.at("event") {
		case "bind":
			row += " " + r.pick("requested.port", "ephemeral")
		case "listen":
			row += " " + r.pick("exposure")
		case "release":
			row += " " + r.pick("reason", "process.exit.code", "process.exit.signal")
		}
		got = append(got, row)
	}
	at := fmt.Sprintf("success 127.0.0.1 %d %s", l.port, l.by.full())
	want := []string{fmt.Sprintf("bind %s %d %t", at, l.requested, l.requested == 0)}
	for range max(l.listens, 1) {
		want = append(want, fmt.Sprintf("listen %s loopback", at))
	}
	want = append(want, fmt.Sprintf("release %s %s", at, l.release))
	if d := cmp.Diff(want, got); d != "" {
		w.t.Errorf("sockets (-want +got):\n%s", d)
	}
	if len(ids) != 1 {
		w.t.Errorf("one socket has the ids %v", ids)
	}
}
