// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// countBPFTime makes the kernel time each run of a program (bpf(2), BPF_ENABLE_STATS), which itself costs
// some 50 ns a run: the same for every tool.
func countBPFTime() (func(), error) {
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return nil, fmt.Errorf("enable statistics of BPF programs: %w", err)
	}
	return func() { stats.Close() }, nil
}

// bpfTime sums up what all programs took so far.
func bpfTime() (total time.Duration) {
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			return total
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone by now
		}
		if s, err := p.Stats(); err == nil {
			total += s.Runtime
		}
		p.Close()
	}
}

// report writes a table of medians, and of how far the rounds were apart.
func report(w io.Writer, tools []tool, results map[string][]turn) {
	base := median(results[untraced], turn.rate)
	fmt.Fprintln(w, "| tool | names processes | conn/s | throughput kept | spread | lost | CPU µs/conn | BPF µs/conn | peak MB |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, t := range tools {
		turns := results[t.name]
		kept := func(q turn) float64 { return q.rate() / base }
		per := func(d func(turn) time.Duration) float64 {
			return median(turns, func(q turn) float64 { return float64(d(q).Nanoseconds()) / 1000 / float64(q.conns) })
		}
		lost := lostOf(turns)
		fmt.Fprintf(w, "| %s | %s | %.0f | %.2f | %.2f-%.2f |", t.name, yes(t.names), median(turns, turn.rate), median(turns, kept),
			slices.Min(each(turns, kept)), slices.Max(each(turns, kept)))
		if !turns[0].measured {
			fmt.Fprintln(w, " | | | |")
			continue
		}
		fmt.Fprintf(w, " %s | %.1f | %.1f | %.0f |\n", lost, per(func(q turn) time.Duration { return q.cpu }),
			per(func(q turn) time.Duration { return q.bpf }), median(turns, func(q turn) float64 { return float64(q.memory) / 1e6 }))
	}
}

func lostOf(turns []turn) string {
	lost, total := 0, 0
	for _, q := range turns {
		if q.lost < 0 {
			return "?"
		}
		lost, total = lost+q.lost, total+q.conns
	}
	return fmt.Sprintf("%d of %d", lost, total)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func each(turns []turn, f func(turn) float64) []float64 {
	var all []float64
	for _, t := range turns {
		all = append(all, f(t))
	}
	return all
}

func median(turns []turn, f func(turn) float64) float64 {
	all := each(turns, f)
	slices.Sort(all)
	return all[len(all)/2]
}
