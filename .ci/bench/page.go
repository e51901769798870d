// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// writePage makes NAME.md and NAME.svg of the results.
func writePage(res *results, name string) error {
	var page bytes.Buffer
	fmt.Fprint(&page, head)
	writeBars(&page, res)
	for _, load := range everyLoad {
		if s := res.Loads[load]; s != nil {
			writeLoad(&page, load, s)
		}
	}
	if res.Offered != nil {
		fmt.Fprint(&page, offeredText)
		if err := os.WriteFile(name+".svg", plot(res.Offered), 0o644); err != nil {
			return err
		}
	}
	writeGrowth(&page, res.Growth)
	writeLong(&page, res.Long)
	writeGuests(&page, res.Guests)
	fmt.Fprint(&page, method)
	return os.WriteFile(name+".md", page.Bytes(), 0o644)
}

const head = `<!-- Made by .ci/bench of bench.json: make bench-page. -->

# What tracing costs

The same load on loopback, untraced and under looptrace and other tools in turn. Losses are counted against what the load
knows that it did, not against what a tool says. "Throughput kept" is of the same load untraced.

`

const offeredText = `
## Connections offered, throughput kept and losses

![Throughput kept and connections lost against offered load](bench.svg)

The rightmost point is more than this machine can do untraced.
`

const method = `
## Method

Each tool has its turn in each round, and nobody always comes first. The load is a program of this repository
(` + "`.ci/bench`" + `): two processes, in a network namespace of their own. In each turn it runs twice. The first
run gives throughput. In the second, half as long, the kernel times each run of a BPF program: that costs some 50 ns a
run, and would weigh on tools that have many. Figures are medians of the rounds; the spread is the lowest and the highest.
CPU is the tool's own, from when it is ready until a second after the load.

Tools write to files. A connection counts as seen where the tool wrote all that it writes of one: looptrace three records
that name both processes, or a summary's count of it; tcplife, tcpstates and bpftrace a line for each end; tcpdump its first SYN.
bcc's tools are compiled with the headers of another kernel where those of this one are not installed:
the sizes that they show are wrong then, their costs are not.

## Again

` + "```console" + `
$ make bench            # the loads; BENCH="-rounds 1 -seconds 1" is quick, -load churn,idle and -tools stream,tcplife less
$ make bench-offered    # the plot
$ make bench-growth     # beside many connections and processes
$ make bench-long       # ten million connections
$ make bench-guests     # other kernels, emulated
$ make bench-page       # this page, of docs/bench.json alone
` + "```" + `

Root or sudo is needed, and a quiet machine. Peers that are not installed are left out; on Debian they are in
bpfcc-tools (and linux-headers-amd64), bpftrace, tcpdump and strace.
`

var loadTexts = map[string]string{
	churn:     "## Connections, as many as possible\n\n16 clients connect, send a byte, get one back and close; 4 threads accept.",
	keepalive: "## Keep-alive\n\n10,000 requests a second over 100 connections.",
	udp:       "## UDP\n\nFlows of 10 datagrams each way, from 16 clients, as many as possible.",
	far:       "## Not loopback\n\nThe first load between two network namespaces. looptrace writes nothing of it.",
	idle:      "## Idle\n\nA minute without load.",
}

func writeLoad(w io.Writer, load string, s *series) {
	fmt.Fprintf(w, "\n%s\n\n", loadTexts[load])
	var rows [][]string
	for _, m := range s.Tools {
		if len(m.Turns) > 0 {
			rows = append(rows, row(load, s, &m))
		}
	}
	titles := []string{"tool", "names processes", perSecond[load], "kept", "spread", "lost", "CPU µs each", "BPF µs each", "BPF runs each", "load's CPU µs each", "peak MB", "maps MB"}
	if load == idle {
		titles = []string{"tool", "CPU, % of a core", "peak MB", "maps MB"}
	}
	table(w, titles, rows)
	for _, m := range s.Tools {
		if m.Unable != "" {
			fmt.Fprintf(w, "\n%s cannot run on this kernel: `%s`\n", m.Tool, strings.ReplaceAll(m.Unable, "`", "'"))
		}
	}
	fmt.Fprintf(w, "\n%s\n", s.Machine.line(s.turns()))
}

var perSecond = map[string]string{churn: "connections/s", keepalive: "requests/s", udp: "flows/s", far: "connections/s"}

func row(load string, s *series, m *measured) []string {
	format := func(verb string, f func(turn) float64) string { return fmt.Sprintf(verb, median(m.Turns, f)) }
	if load == idle {
		return []string{m.Tool, format("%.3f", cpuShare), format("%.0f", megabytes), format("%.0f", mapsMB)}
	}
	cells := []string{m.Tool, m.Names, format("%.0f", turn.rate)}
	kept := s.kept(m.Tool)
	cells = append(cells, fmt.Sprintf("%.2f", median(kept, itself)), fmt.Sprintf("%.2f-%.2f", slices.Min(kept), slices.Max(kept)))
	if m.Tool == untraced {
		return append(cells, "", "", "", "", format("%.1f", loadPerOp), "", "")
	}
	bpf, runs := format("%.2f", bpfPerOp), format("%.1f", runsPerOp)
	if median(m.Turns, runsPerOp) == 0 {
		bpf, runs = "", ""
	}
	return append(cells, losses(load, m), format("%.2f", cpuPerOp), bpf, runs, format("%.1f", loadPerOp), format("%.0f", megabytes), format("%.0f", mapsMB))
}

func losses(load string, m *measured) string {
	lost, made := m.lost()
	switch {
	case lost < 0, load == far && lost == made: // it is not to see them, or does not
		return "sees none"
	case lost == 0:
		return fmt.Sprintf("0 of %d", made)
	default:
		return fmt.Sprintf("%d of %d (%.1f %%)", lost, made, 100*float64(lost)/float64(made))
	}
}

func (s *series) turns() string {
	for _, m := range s.Tools {
		if n := len(m.Turns); n > 0 {
			return fmt.Sprintf("%d × %.0f s. ", n, m.Turns[0].Run.Length.Seconds())
		}
	}
	return ""
}

// line says where and when.
func (m machine) line(turns string) string {
	busy := ""
	if m.Busy > quiet {
		busy = fmt.Sprintf("; **others used %.0f %% of the CPUs**", 100*m.Busy)
	}
	return fmt.Sprintf("%sKernel %s, %d CPUs (%s), %d MB, looptrace %s, %s%s.", turns, m.Kernel, m.CPUs, m.CPU, m.MemoryMB, m.Looptrace, m.Date, busy)
}

func table(w io.Writer, titles []string, rows [][]string) {
	fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(titles, " | "), strings.Repeat(" --- |", len(titles)))
	for _, cells := range rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
}
