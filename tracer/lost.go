// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"github.com/looptrace/looptrace/tracer/flow"
)

// places names the slots of the map `counters`, in the order of `enum counter` in bpf/event.h.
var places = [...]string{"ring buffer", "connection table", "connect table", "socket table", "call table", "flow table", "port table", "summary table"}

// namesFrom are the places where a loss may be of an event that names a process.
var namesFrom = map[string]bool{
	places[0]: true, unread: true,
	"program tp_exec": true, "program tp_fork": true, "program tp_rename": true,
}

const unread = "records that could not be read"

// reportLost writes a lost record for each place that lost something since the last look.
func (t *Tracer) reportLost() {
	for i, place := range places {
		var perCPU []uint64
		if t.hooks.coll == nil || t.hooks.coll.Maps["counters"].Lookup(uint32(i), &perCPU) != nil {
			continue
		}
		var sum uint64
		for _, n := range perCPU {
			sum += n
		}
		t.tellLost(place, sum)
	}
	for name, prog := range t.hooks.coll.Programs {
		misses := missesOf(prog)
		if other := t.hooks.coll.Programs[name+twin]; other != nil {
			misses = min(misses, missesOf(other)) // at most: an event is lost where both were skipped
		} else if strings.HasSuffix(name, twin) {
			continue
		}
		t.tellLost("program "+name, misses)
	}
	for name, missed := range t.hooks.missed() {
		t.tellLost("probe "+name, missed)
	}
	for place, n := range t.table.TakeLost() {
		t.tellLost(place, t.told[place]+n)
	}
	t.tellLost(unread, t.undecoded)
}

// twin ends the name of a program that takes what another of its hook was skipped for (bpf/compat.h).
const twin = "_twin"

// missesOf gives how often the kernel skipped a program that was running already (since 5.12).
func missesOf(prog *ebpf.Program) uint64 {
	stats, err := prog.Stats()
	if err != nil {
		return 0
	}
	return stats.RecursionMisses
}

// tellLost writes what a counter gained. Nothing is summed away: each gain is a record.
func (t *Tracer) tellLost(place string, sum uint64) {
	gain := sum - t.told[place]
	if gain == 0 {
		return
	}
	since := t.lostSince[place]
	now := time.Now()
	if since.IsZero() {
		since = t.clock.zero.Add(time.Duration(t.began))
	}
	t.told[place], t.lostSince[place] = sum, now
	if namesFrom[place] {
		t.table.Suspect()
	}
	t.lost.Add(gain)
	t.table.Housekeep(&flow.Record{Event: "lost", Time: now, Level: flow.Warn, Lost: &flow.LostRecord{Count: gain, Where: place, Since: since}})
}
