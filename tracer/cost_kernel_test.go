// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// maxRuns is how many runs of programs a connection may cost, in the form that needs most. It has some ten calls, of
// which the tracepoint form sees each twice, and as many changes of state.
const maxRuns = 40

// TestKernelCost: a connection is three records, and so many runs of programs. It logs what they took, for
// .ci/bench: in a guest whose clock counts instructions, that many.
func TestKernelCost(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		var programs map[string]*ebpf.Program
		tr := startWith(t, Config{Hooks: form}, func(tracer *Tracer) error {
			programs = tracer.hooks.coll.Programs
			return nil
		})
		server, client := newActor(t), newActor(t)
		server.do("socket l tcp4")
		server.do("bind l 127.0.0.1:0")
		server.do("listen l 16")
		at := server.addr("l")
		connections := func(n int) {
			for range n {
				client.do("socket c tcp4")
				client.do("connect c %s", at)
				server.do("accept l s")
				client.do("send c 1")
				server.do("recv s 1")
				server.do("send s 1")
				client.do("recv c 1")
				server.do("close s")
				client.do("recv c 1")
				client.do("close c")
			}
		}
		const warm, n = 20, 200
		connections(warm)
		stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
		if err != nil {
			t.Fatal(err)
		}
		defer stats.Close()
		runsBefore, tookBefore := costOf(t, programs)
		connections(n)
		runs, took := costOf(t, programs)
		runs, took = runs-runsBefore, took-tookBefore
		records := 0
		for _, r := range tr.finish() {
			switch r.at("event") {
			case "connect", "accept", "close":
				records++
			}
		}
		if want := 3 * (warm + n); records != want {
			t.Errorf("%d records of connections, want %d", records, want)
		}
		// Elsewhere there are other connections than these.
		if runs == 0 || inGuest() && runs > maxRuns*n {
			t.Errorf("%d runs of programs for %d connections, want 1 to %d each", runs, n, maxRuns)
		}
		t.Logf("cost: %s records=%.2f runs=%.1f ns=%.0f", form, float64(records)/(warm+n), float64(runs)/n, float64(took.Nanoseconds())/n)
	})
}

// costOf sums up what programs took since the kernel counts.
func costOf(t *testing.T, programs map[string]*ebpf.Program) (runs uint64, took time.Duration) {
	t.Helper()
	for name, p := range programs {
		s, err := p.Stats()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		runs, took = runs+s.RunCount, took+s.Runtime
	}
	return runs, took
}
