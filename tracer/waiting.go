// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"cmp"
	"os"
	"slices"
	"strconv"

	"github.com/looptrace/looptrace/tracer/flow"
)

// addWaiting reads the TCP tables of every network namespace that a process is in.
func (l *Lister) addWaiting(to *Listing) {
	for _, asked := range namespaces() {
		a := &flow.Answer{Netns: asked.Netns}
		entered, from := false, monotonic()
		inNetns(asked, func() {
			err := l.hooks.rows(waitProgram, heldSize, func(raw []byte) {
				if row, err := heldRow(raw); err == nil && row.Netns == asked.Netns {
					a.Rows = append(a.Rows, *row)
				}
			})
			entered = err == nil
		})
		if !entered {
			if _, there := netnsFile(asked); there {
				to.NotEntered = append(to.NotEntered, asked.Netns)
			}
			continue
		}
		if len(a.Rows) > 0 {
			a.Jiffy = jiffyOf(a.Rows[0].Jiffies, from, monotonic())
		}
		for _, held := range a.Waiting(&l.cfg.Filter) {
			to.Waiting = append(to.Waiting, Waiting{Netns: a.Netns, Holder: held})
		}
	}
	slices.SortFunc(to.Waiting, func(a, b Waiting) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), a.Peer.Compare(b.Peer), cmp.Compare(a.Netns, b.Netns))
	})
}

// namespaces gives every network namespace that a process is in, with one such process. One that only a mount or
// an open file keeps is not seen.
func namespaces() []flow.Asked {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []flow.Asked
	for _, e := range entries {
		pid, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil {
			continue // no process
		}
		ns := netnsOf(e.Name())
		if ns != 0 && !slices.ContainsFunc(all, func(a flow.Asked) bool { return a.Netns == ns }) {
			all = append(all, flow.Asked{Netns: ns, PID: uint32(pid)})
		}
	}
	return all
}
