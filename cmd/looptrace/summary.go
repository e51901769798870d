// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

// tally is what a terminal run says about itself at its end.
type tally struct {
	events   map[string]uint64
	failed   map[string]uint64
	ports    map[uint16]uint64 // bounded: there are 65,536
	lost     uint64
	duration time.Duration
}

func (t *tally) add(r *flow.Record) {
	if t.events == nil {
		t.events, t.failed, t.ports = map[string]uint64{}, map[string]uint64{}, map[uint16]uint64{}
	}
	switch {
	case r.Stop != nil:
		t.lost, t.duration = r.Stop.Lost, r.Stop.Duration
	case r.Sock != nil || r.Conn != nil:
		t.events[r.Event]++
		if r.Failed() {
			t.failed[r.Event]++
		}
		if r.HasPort {
			t.ports[r.Port]++
		}
	}
}

// shownPorts is how many ports fit a line of a terminal.
const shownPorts = 8

// print writes the table, which has nothing in it that a process could choose but port numbers.
func (t *tally) print(w io.Writer) {
	fmt.Fprintf(w, "\n%-8s %7s %7s\n", "event", "count", "failed")
	for _, event := range eventNames {
		if t.events[event] > 0 {
			fmt.Fprintf(w, "%-8s %7d %7d\n", event, t.events[event], t.failed[event])
		}
	}
	if len(t.ports) > 0 {
		fmt.Fprintf(w, "ports    %s\n", t.topPorts())
	}
	fmt.Fprintf(w, "lost     %7d\n", t.lost)
	fmt.Fprintf(w, "time     %7s\n", t.duration.Round(100*time.Millisecond))
}

// topPorts lists the ports with most records first.
func (t *tally) topPorts() string {
	ports := slices.SortedFunc(maps.Keys(t.ports), func(a, b uint16) int {
		return cmp.Or(cmp.Compare(t.ports[b], t.ports[a]), cmp.Compare(a, b))
	})
	var words []string
	for _, port := range ports[:min(len(ports), shownPorts)] {
		words = append(words, fmt.Sprintf("%d (%d)", port, t.ports[port]))
	}
	if more := len(ports) - len(words); more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}
