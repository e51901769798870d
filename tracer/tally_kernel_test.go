// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestKernelSummary: each connection is counted once, in one summary or another, with its bytes.
func TestKernelSummary(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		tr := start(t, Config{Hooks: form, Summary: 20 * time.Millisecond})
		server, client := newActor(t), newActor(t)
		server.do("socket l tcp4")
		server.do("bind l 127.0.0.1:0")
		server.do("listen l 16")
		at := server.addr("l")
		const n = 50
		for range n {
			client.do("socket c tcp4")
			client.do("connect c %s", at)
			server.do("accept l s")
			client.do("send c 3")
			server.do("recv s 3")
			server.do("send s 2")
			client.do("recv c 2")
			server.do("close s")
			client.do("recv c 1")
			client.do("close c")
		}
		server.do("close l")
		for range n {
			client.do("socket d tcp4")
			client.fail(unix.ECONNREFUSED, "connect d %s", at)
			client.do("close d")
		}
		all := tr.finish()
		if left := append(of(all, "connect"), append(of(all, "accept"), of(all, "close")...)...); len(left) > 0 {
			t.Errorf("records of connections that are counted: %v", left)
		}
		count, sent, back := map[string]int{}, 0, 0
		for _, r := range of(allRecords(t, tr), "summary") {
			if r.number("port") != int(at.Port()) {
				continue
			}
			who := r.pick("outcome", "client.process.pid", "server.process.pid")
			count[who] += r.number("count")
			if r.at("outcome") == "success" {
				sent += r.number("bytes.client_to_server")
				back += r.number("bytes.server_to_client")
				if p99, longest := r.number("handshake_ns.p99"), r.number("handshake_ns.max"); p99 <= 0 || longest < p99 {
					t.Errorf("handshake: p99 %d, max %d", p99, longest)
				}
			}
		}
		want := map[string]int{
			fmt.Sprintf("success %d %d", client.pid, server.pid): n,
			fmt.Sprintf("failure %d <nil>", client.pid):          n,
		}
		if fmt.Sprint(count) != fmt.Sprint(want) || sent != 3*n || back != 2*n {
			t.Errorf("got %v, %d and %d bytes; want %v, %d and %d", count, sent, back, want, 3*n, 2*n)
		}
	})
}

// allRecords are those of every namespace: a summary is of them all.
func allRecords(t *testing.T, tr *trace) []record {
	t.Helper()
	return tr.rec.records(t)
}
