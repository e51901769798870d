// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

// groupings are the words of log --by.
var groupings = []string{"program", "port", "user"}

// usage counts who took ephemeral ports.
type usage struct {
	by     string
	json   bool
	groups map[string]*portUse
}

// portUse is what one program, port or user took.
type portUse struct {
	name      string
	times     int
	ports     map[uint16]bool
	processes map[flow.ProcessID]bool
	owners    map[string]bool // programs
	last      string          // program that had it last
	changes   int             // how often another one had it
	first     time.Time
	latest    time.Time
}

func newUsage(by, format string) *usage {
	return &usage{by: by, json: format != formatText, groups: map[string]*portUse{}}
}

func (u *usage) print(r *flow.Record, _ string) error {
	if r.Event != "bind" || r.Failed() || !r.Sock.Ephemeral || r.Sock.Process.P == nil {
		return nil
	}
	p := r.Sock.Process.P
	name := map[string]string{"program": p.Name(), "port": strconv.Itoa(int(r.Port)), "user": cmp.Or(p.Owner, strconv.Itoa(int(p.UID)))}[u.by]
	g := u.groups[name]
	if g == nil {
		g = &portUse{name: name, ports: map[uint16]bool{}, processes: map[flow.ProcessID]bool{}, owners: map[string]bool{}, first: r.Time}
		u.groups[name] = g
	}
	if g.last != "" && g.last != p.Name() {
		g.changes++
	}
	g.times++
	g.last, g.latest = p.Name(), r.Time
	g.ports[r.Port] = true
	g.processes[flow.ProcessID{PID: p.PID, Start: uint64(p.Created.UnixNano())}] = true
	g.owners[p.Name()] = true
	return nil
}

// flush writes the groups, the busiest first.
func (u *usage) flush() error {
	list := slices.SortedFunc(maps.Values(u.groups), func(a, b *portUse) int {
		return cmp.Or(cmp.Compare(b.times, a.times), cmp.Compare(a.name, b.name))
	})
	if u.json {
		for _, g := range list {
			err := printJSON(map[string]any{
				u.by: g.name, "count": g.times, "ports": len(g.ports), "processes": len(g.processes), "programs": len(g.owners),
				"changes": g.changes, "first": g.first.UTC(), "last": g.latest.UTC(),
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\ttaken\tports\tprocesses\tprograms\tchanges\tfirst\tlast\n", u.by)
	for _, g := range list {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", visible(g.name), g.times, len(g.ports), len(g.processes), len(g.owners), g.changes,
			g.first.Local().Format(time.DateTime), g.latest.Local().Format(time.DateTime))
	}
	return w.Flush()
}
