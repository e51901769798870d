// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

// groupings are the words of log --by.
var groupings = []string{"program", "port", "user"}

// usage counts who took ephemeral ports: with bind() or by connecting.
type usage struct {
	by     string
	json   bool
	groups map[string]*portUse

	bound    map[boundPort]uint32 // who holds one that a bind, or a UDP flow, took: it connects from that
	names    map[[2]string]string // of programs, by comm and executable: counts have no command line
	unplaced uint64               // taken, and nobody knows by what
}

type boundPort struct {
	netns uint32
	proto uint16
	port  uint16
}

// portUse is what one program, port or user took.
type portUse struct {
	name      string
	times     uint64
	ports     map[uint16]bool
	processes map[flow.ProcessID]bool
	owners    map[string]bool // programs
	last      string          // program that had it last
	changes   int             // how often another one had it
	first     time.Time
	latest    time.Time
}

func newUsage(by, format string) *usage {
	return &usage{
		by: by, json: format != formatText, groups: map[string]*portUse{},
		bound: map[boundPort]uint32{}, names: map[[2]string]string{},
	}
}

// tellsUsage says, before a line is parsed, whether it may tell of a port: two of three records of connections do not.
func tellsUsage(line string) bool {
	const head = 120 // time, level and event come first
	line = line[:min(len(line), head)]
	return !strings.Contains(line, `"event":"accept"`) && !strings.Contains(line, `"event":"close"`)
}

func (u *usage) print(r *flow.Record, _ string) error {
	switch {
	case r.Preexisting: // an earlier run told of it, or nobody saw who picked the port
	case r.Summary != nil:
		u.counted(r)
	case r.Event == "bind" && !r.Failed() && r.Sock.Ephemeral:
		u.bound[boundPort{r.Netns, r.Proto, r.Port}] = pidOf(r.Sock.Process)
		u.took(r.Time, r.Port, r.Sock.Process)
	case r.Event == "release":
		delete(u.bound, boundPort{r.Netns, r.Proto, r.Port})
	case r.Event == "connect" && r.Conn.HasEphemeral && r.Conn.Ephemeral:
		u.connected(r)
	}
	return nil
}

func pidOf(a flow.Actor) uint32 {
	if a.P == nil {
		return 0
	}
	return a.P.PID
}

// connected counts a client's port, unless its bind was counted, or an earlier flow of the same UDP socket.
func (u *usage) connected(r *flow.Record) {
	client := &r.Conn.Client
	at := boundPort{r.Netns, r.Proto, client.Port}
	if pid, bound := u.bound[at]; bound && pid == pidOf(client.Process) {
		return
	}
	if r.Proto == flow.UDP {
		u.bound[at] = pidOf(client.Process)
	}
	u.took(r.Time, client.Port, client.Process)
}

func (u *usage) took(at time.Time, port uint16, who flow.Actor) {
	p := who.P
	if p == nil {
		u.unplaced++
		return
	}
	u.names[[2]string{p.Comm, p.ExeName}] = p.Name()
	g := u.group(map[string]string{"program": p.Name(), "port": strconv.Itoa(int(port)), "user": cmp.Or(p.Owner, strconv.Itoa(int(p.UID)))}[u.by], at)
	g.had(p.Name(), 1, at)
	g.ports[port] = true
	g.processes[flow.ProcessID{PID: p.PID, Start: uint64(p.Created.UnixNano())}] = true
}

// counted takes connections that were counted together: their ports, and most of the processes, are not known.
func (u *usage) counted(r *flow.Record) {
	s := r.Summary
	client := &s.Client
	name := cmp.Or(u.names[[2]string{client.Comm, client.ExeName}], client.ExeName, client.Comm)
	switch {
	case s.HasEphemeral && !s.Ephemeral:
		return
	case r.Proto == flow.UDP, !s.HasEphemeral, u.by == "port", u.by == "user" && !client.HasUser, name == "":
		u.unplaced += s.Count
		return
	}
	g := u.group(map[string]string{"program": name, "user": cmp.Or(client.Owner, strconv.Itoa(int(client.UID)))}[u.by], s.First)
	g.had(name, s.Count, s.Last)
	if p := client.P; p != nil {
		g.processes[flow.ProcessID{PID: p.PID, Start: uint64(p.Created.UnixNano())}] = true
	}
}

func (u *usage) group(name string, at time.Time) *portUse {
	g := u.groups[name]
	if g == nil {
		g = &portUse{name: name, ports: map[uint16]bool{}, processes: map[flow.ProcessID]bool{}, owners: map[string]bool{}, first: at}
		u.groups[name] = g
	}
	return g
}

func (g *portUse) had(program string, times uint64, at time.Time) {
	if g.last != "" && g.last != program {
		g.changes++
	}
	g.times += times
	g.last, g.latest = program, at
	g.owners[program] = true
}

// flush writes the groups, the busiest first.
func (u *usage) flush() error {
	if u.unplaced > 0 {
		fmt.Fprintf(os.Stderr, "looptrace: not among these are %d that were counted together, or whose process is not known\n", u.unplaced)
	}
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
