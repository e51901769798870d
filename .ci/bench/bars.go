// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"
)

// bar is what looptrace is to reach, and what it did.
type bar struct {
	what         string
	bar, stretch float64
	unit         string
	least        bool // more is better
	measured     func(*results) (float64, bool)
}

var bars = []bar{
	{"JSON stream to a file, saturated: throughput kept", 0.83, 0.88, "", true, keptOf(churn, stream)},
	{"the same with `--summary 1s`", 0.92, 0.95, "", true, keptOf(churn, summed)},
	{"records lost, saturated", 0, 0, "", false, lostInAll},
	{"CPU per connection, stream", 8, 5, " µs", false, costOf(churn, stream, cpuPerOp)},
	{"CPU per connection, `--summary 1s`", 0.5, 0.2, " µs", false, costOf(churn, summed, cpuPerOp)},
	{"time in BPF per connection, stream", 4, 3, " µs", false, costOf(churn, stream, bpfPerOp)},
	{"peak memory, saturated", 64, 40, " MB", false, costOf(churn, stream, megabytes)},
	{"keep-alive: throughput kept", 0.99, 1, "", true, keptOf(keepalive, stream)},
	{"not loopback: throughput kept", 0.99, 1, "", true, keptOf(far, stream)},
	{"CPU while idle", 0.1, 0.05, " % of a core", false, costOf(idle, stream, cpuShare)},
	{"start beside 100,000 sockets", 1, 1, " s", false, opened},
}

// fewRounds say nothing about a machine that does other things, too.
const fewRounds = 3

// firm says whether the figures are worth to be held against the bars.
func (r *results) firm() bool {
	for _, s := range r.Loads {
		if s.Machine.Busy > quiet {
			return false
		}
	}
	s := r.Loads[churn]
	return s != nil && s.has(stream) && len(s.of(stream).Turns) >= fewRounds
}

// writeBars writes what was measured, and whether that is enough.
func writeBars(w io.Writer, res *results) {
	firm := res.firm()
	if !firm {
		fmt.Fprint(w, "**Not held against the bars: the rounds were few, or the machine was busy.**\n\n")
	}
	fmt.Fprintln(w, "| | bar | stretch | measured | |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- |")
	for _, b := range bars {
		got, ok := b.measured(res)
		if !ok {
			fmt.Fprintf(w, "| %s | %g%s | %g%s | not yet | |\n", b.what, b.bar, b.unit, b.stretch, b.unit)
			continue
		}
		verdict := ""
		if firm {
			verdict = b.verdict(got)
		}
		fmt.Fprintf(w, "| %s | %g%s | %g%s | %s%s | %s |\n", b.what, b.bar, b.unit, b.stretch, b.unit, figure(got), b.unit, verdict)
	}
}

func (b bar) verdict(got float64) string {
	reached := func(mark float64) bool { return b.least && got >= mark || !b.least && got <= mark }
	switch {
	case reached(b.stretch):
		return "stretch"
	case reached(b.bar):
		return "met"
	default:
		return "**missed**"
	}
}

// figure has two digits after the point below ten: what is shown decides as what was measured does, nearly.
func figure(f float64) string {
	switch {
	case f == 0:
		return "0"
	case f < 10:
		return fmt.Sprintf("%.2f", f)
	default:
		return fmt.Sprintf("%.0f", f)
	}
}

func cpuPerOp(t turn) float64  { return micros(t.Cost.CPU) / float64(t.Cost.Made.Ops) }
func bpfPerOp(t turn) float64  { return micros(t.Cost.BPF.Time) / float64(t.Cost.Counted.Ops) }
func runsPerOp(t turn) float64 { return float64(t.Cost.BPF.Runs) / float64(t.Cost.Counted.Ops) }
func megabytes(t turn) float64 { return float64(t.Cost.Memory) / 1e6 }
func mapsMB(t turn) float64    { return float64(t.Cost.Maps) / 1e6 }
func cpuShare(t turn) float64  { return 100 * t.Cost.CPU.Seconds() / t.Run.Length.Seconds() }
func loadPerOp(t turn) float64 { return micros(t.Run.CPU) / float64(t.Run.Ops) }

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func keptOf(load, tool string) func(*results) (float64, bool) {
	return func(r *results) (float64, bool) {
		s := r.Loads[load]
		if s == nil || !s.has(tool) || !s.has(untraced) {
			return 0, false
		}
		return median(s.kept(tool), itself), true
	}
}

func costOf(load, tool string, f func(turn) float64) func(*results) (float64, bool) {
	return func(r *results) (float64, bool) {
		s := r.Loads[load]
		if s == nil || !s.has(tool) {
			return 0, false
		}
		return median(s.of(tool).Turns, f), true
	}
}

// lostInAll is what looptrace lost under all saturated runs.
func lostInAll(r *results) (n float64, ok bool) {
	if s := r.Loads[churn]; s != nil {
		for _, tool := range []string{stream, summed} {
			if s.has(tool) {
				lost, _ := s.of(tool).lost()
				n, ok = n+float64(lost), true
			}
		}
	}
	if r.Long != nil {
		n, ok = n+float64(r.Long.Run.Conns-r.Long.Seen), true
	}
	return n, ok
}

func opened(r *results) (float64, bool) {
	if r.Growth == nil || len(r.Growth.Snapshot) == 0 {
		return 0, false
	}
	var beside []opening
	for _, o := range r.Growth.Snapshot {
		if o.Sockets > 0 {
			beside = append(beside, o)
		}
	}
	return median(beside, func(o opening) float64 { return o.Took.Seconds() }), true
}

func itself(f float64) float64 { return f }

func (s *series) has(tool string) bool {
	m := s.of(tool)
	return m != nil && len(m.Turns) > 0
}

// kept is how much of its throughput the load had under a tool, turn by turn: of the median of those without.
func (s *series) kept(tool string) []float64 {
	base := median(s.of(untraced).Turns, turn.rate)
	return each(s.of(tool).Turns, func(t turn) float64 { return t.rate() / base })
}

// lost sums up, of all that the load made; lost is -1 where the tool sees none of it.
func (m *measured) lost() (lost, made int) {
	for _, t := range m.Turns {
		if t.Cost == nil || t.Cost.Seen < 0 {
			return -1, 0
		}
		lost, made = lost+t.Cost.lost(), made+t.Cost.Made.Conns
	}
	return lost, made
}
