// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var holderFields = []string{"outcome", "holder.kind", "holder.address", "holder.process.pid", "holder.state", "holder.peer.port"}

// TestKernelTables: holders that no event told of, found in the kernel's tables.
func TestKernelTables(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		server, client, other := newActor(t), newActor(t), newActor(t)
		server.do("socket l tcp4")
		server.do("bind l 127.0.0.1:0")
		server.do("listen l 16")
		at := server.addr("l")
		client.do("socket c tcp4")
		client.do("bind c 0.0.0.0:0")
		waiting := client.addr("c")
		client.do("connect c %s", at)
		server.do("accept l s")
		client.do("close c")
		server.do("close s") // client's end is in TIME_WAIT
		client.do("socket d tcp4")
		client.do("connect d %s", at)
		server.do("accept l u")
		orphan := client.addr("d")
		client.do("close d") // nobody has this end open: FIN_WAIT2

		tr := start(t, Config{Hooks: form})
		other.do("socket x tcp4")
		other.fail(unix.EADDRINUSE, "bind x 127.0.0.1:%d", waiting.Port())
		other.fail(unix.EADDRINUSE, "bind x 0.0.0.0:%d", orphan.Port())
		binds := of(tr.finish(), "bind")

		wantRows(t, binds, holderFields,
			"failure time_wait 127.0.0.1 <nil> <nil> <nil>",
			fmt.Sprintf("failure connection 127.0.0.1 <nil> FIN_WAIT2 %d", at.Port()),
		)
		for _, r := range binds[:min(1, len(binds))] {
			if left := time.Duration(r.number("holder.expires_in_ns")); left < 50*time.Second || left > 61*time.Second {
				t.Errorf("TIME_WAIT has %v left, want about 60 s", left)
			}
		}
	})
}

// TestKernelPortsUsedUp: bind and connect find no port in a range that two processes have taken.
func TestKernelPortsUsedUp(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		setNet(t, "ipv4/ip_local_port_range", "40000 40003")
		holder, user, other := newActor(t), newActor(t), newActor(t)
		holder.do("socket l tcp4")
		holder.do("bind l 127.0.0.1:1080")
		holder.do("listen l 16")
		holder.do("socket a tcp4")
		holder.do("bind a 127.0.0.1:0")
		tr := start(t, Config{Hooks: form, Snapshot: false})
		for _, name := range []string{"b", "c", "d"} {
			user.do("socket %s tcp4", name)
			user.do("connect %s 127.0.0.1:1080", name)
		}
		other.do("socket x tcp4")
		other.fail(unix.EADDRINUSE, "bind x 127.0.0.1:0")
		other.fail(unix.EADDRNOTAVAIL, "connect x 127.0.0.1:1080")
		all := tr.finish()

		paths := []string{"event", "process.pid", "client.process.pid", "error.type", "ephemeral_ports"}
		want := fmt.Sprintf("map[in_use:4 range:[40000 40003] top:[map[count:3 pid:%d] map[count:1 pid:%d]]]", user.pid, holder.pid)
		var failed []record
		for _, r := range all {
			if r.at("outcome") == "failure" {
				if ports, ok := r.at("ephemeral_ports").(map[string]any); ok {
					for _, top := range ports["top"].([]any) {
						entry := top.(map[string]any)
						entry["pid"] = record(entry).at("process.pid")
						delete(entry, "process")
					}
				}
				failed = append(failed, r)
			}
		}
		wantRows(t, failed, paths,
			fmt.Sprintf("bind %d <nil> EADDRINUSE %s", other.pid, want),
			fmt.Sprintf("connect <nil> %d EADDRNOTAVAIL %s", other.pid, want),
		)
	})
}

// TestKernelQueueFull: a listener that accepts nobody answers no SYN once its queue is full.
func TestKernelQueueFull(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		setNet(t, "ipv4/tcp_syn_retries", "1")
		tr := start(t, Config{Hooks: form})
		server, client := newActor(t), newActor(t)
		server.do("socket l tcp4")
		server.do("bind l 127.0.0.1:0")
		server.do("listen l 0")
		at := server.addr("l")
		client.do("socket a tcp4")
		client.do("connect a %s", at)
		client.do("socket b tcp4")
		client.fail(unix.ETIMEDOUT, "connect b %s", at)
		connects := of(tr.finish(), "connect")
		wantRows(t, connects, append(connFields, "accept_queue.length", "accept_queue.limit"),
			fmt.Sprintf("connect success %d %d %d <nil> <nil> <nil>", client.pid, server.pid, at.Port()),
			fmt.Sprintf("connect failure %d %d %d ETIMEDOUT 1 0", client.pid, server.pid, at.Port()),
		)
		// One, and since 6.5 one more (tcp_syn_linear_timeouts).
		if n := connects[len(connects)-1].number("syn_retransmits"); n < 1 || n > 2 {
			t.Errorf("%d SYNs were sent again, want 1 or 2", n)
		}
	})
}

// setNet writes a setting of this network namespace below /proc/sys/net, until the test ends.
func setNet(t *testing.T, name, value string) {
	t.Helper()
	path := "/proc/sys/net/" + name
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, was, 0); err != nil {
			t.Error(err)
		}
	})
}
