// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"
)

func writeGrowth(w io.Writer, g *growth) {
	if g == nil {
		return
	}
	fmt.Fprintf(w, "\n## Growth\n\nlooptrace's stream, %d connections a second: what one costs beside ever more.\n\n", growRate)
	writeSteps(w, "connections open", g.Conns)
	fmt.Fprintln(w)
	writeSteps(w, "processes that connect", g.Processes)
	fmt.Fprintf(w, "\nFrom exec until the start record and all of the snapshot are written:\n\n")
	var rows [][]string
	for _, sockets := range []int{0, 2 * snapshotConns} {
		var took []opening
		for _, o := range g.Snapshot {
			if o.Sockets == sockets {
				took = append(took, o)
			}
		}
		if len(took) > 0 {
			ms := median(took, func(o opening) float64 { return float64(o.Took) / float64(time.Millisecond) })
			rows = append(rows, []string{fmt.Sprint(sockets), fmt.Sprintf("%.0f", ms)})
		}
	}
	table(w, []string{"sockets", "ms"}, rows)
	fmt.Fprintf(w, "\n%s\n", g.Machine.line(""))
}

func writeSteps(w io.Writer, of string, steps []step) {
	var rows [][]string
	for _, s := range steps {
		format := func(verb string, f func(turn) float64) string { return fmt.Sprintf(verb, median(s.Turns, f)) }
		lost, made := (&measured{Turns: s.Turns}).lost()
		rows = append(rows, []string{fmt.Sprint(s.Of), format("%.2f", cpuPerOp), format("%.2f", bpfPerOp), fmt.Sprintf("%d of %d", lost, made), format("%.0f", megabytes)})
	}
	table(w, []string{of, "CPU µs each", "BPF µs each", "lost", "peak MB"}, rows)
}

func writeLong(w io.Writer, l *long) {
	if l == nil || l.Run.Conns == 0 {
		return
	}
	fmt.Fprintf(w, "\n## A long run\n\n%d connections in %v, as fast as it went, to a pipe: %d lost, %.2f µs of CPU each. ",
		l.Run.Conns, l.Run.Length.Round(time.Second), l.Run.Conns-l.Seen, micros(l.CPU)/float64(l.Run.Conns))
	fmt.Fprintf(w, "Peak memory %.0f MB; at the end %.1f MB more than after the first tenth.\n\n", float64(l.Peak)/1e6, float64(l.growth())/1e6)
	var rows [][]string
	for i := range 10 {
		for _, s := range l.Samples {
			if s.Conns >= l.Run.Conns/10*(i+1) {
				rows = append(rows, []string{fmt.Sprint(s.Conns), fmt.Sprintf("%.1f", float64(s.Memory)/1e6)})
				break
			}
		}
	}
	table(w, []string{"connections", "resident MB"}, rows)
	fmt.Fprintf(w, "\n%s\n", l.Machine.line(""))
}

func writeGuests(w io.Writer, guests []guest) {
	if len(guests) == 0 {
		return
	}
	fmt.Fprint(w, "\n## Other kernels and hook forms, emulated\n\nIn an emulator (qemu, TCG) whose clock counts the processor's instructions. "+
		"Figures are of one connection: connect, a byte each way, close, both ends.\n\n")
	var rows [][]string
	for _, g := range guests {
		rows = append(rows, []string{g.Kernel, g.Form, fmt.Sprintf("%.2f", g.Records), fmt.Sprintf("%.1f", g.Runs), fmt.Sprintf("%.0f", g.Instructions)})
	}
	table(w, []string{"kernel", "form", "records", "runs of BPF programs", "instructions in them"}, rows)
}
