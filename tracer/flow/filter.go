// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"strings"
)

// Set is what a filter lists: values to keep, values to leave out. Empty keeps everything.
type Set[T comparable] struct {
	Include, Exclude []T
}

// Empty says whether the set filters nothing.
func (s Set[T]) Empty() bool { return len(s.Include) == 0 && len(s.Exclude) == 0 }

// Filter chooses which records come out; the zero Filter lets all pass. Each non-empty part must
// agree. It never changes what a Table knows. Housekeeping records always pass.
type Filter struct {
	Events     Set[string]
	Protos     Set[uint16]
	Ports      Set[uint16] // at either end
	PIDs       Set[uint32] // processes: of either end
	Comms      Set[string]
	UIDs       Set[uint32]
	Containers Set[string] // an id, a prefix of it, or a name
	Netns      Set[uint32]
	Targets    []Target // port or address at either end
	Failed     bool     // failures only
	Local      bool     // any two addresses of one network namespace, not just loopback's
	Tree       bool     // processes of the tree that AddToTree planted, at either end
}

// Drops says whether there is a record that Match keeps back, and so whether the kernel side may keep
// connections from user space for this filter.
func (f *Filter) Drops() bool {
	return f.Failed || f.Tree || len(f.Targets) > 0 || !f.Events.Empty() || !f.Protos.Empty() || !f.Ports.Empty() ||
		!f.PIDs.Empty() || !f.Comms.Empty() || !f.UIDs.Empty() || !f.Containers.Empty() || !f.Netns.Empty()
}

// endless says whether the kernel side tells no end of any TCP connection.
func (f *Filter) endless() bool { return !pass(f.Events, "close") }

// Match says whether a socket or connection record passes.
func (f *Filter) Match(r *Record) bool {
	if f.Failed && !r.Failed() {
		return false
	}
	if !pass(f.Events, r.Event) || !pass(f.Protos, r.Proto) || !pass(f.Netns, r.Netns) {
		return false
	}
	var endBuf [2]endpoint
	ends := r.endpoints(endBuf[:0])
	if !passEither(f.Ports, ends, func(e endpoint, port uint16) bool { return e.port == port }) {
		return false
	}
	if len(f.Targets) > 0 && !slices.ContainsFunc(f.Targets, func(t Target) bool { return matchTarget(t, ends) }) {
		return false
	}
	var procBuf [2]*Process
	procs := r.processes(procBuf[:0])
	return passEither(f.PIDs, procs, func(p *Process, pid uint32) bool { return p.PID == pid }) &&
		passEither(f.Comms, procs, func(p *Process, comm string) bool { return p.Comm == comm }) &&
		passEither(f.UIDs, procs, func(p *Process, uid uint32) bool { return p.UID == uid }) &&
		passEither(f.Containers, procs, inContainer) &&
		(!f.Tree || slices.ContainsFunc(procs, func(p *Process) bool { return p.tree }))
}

// endpoint is what a filter sees of an end. A wildcard socket is reached by any address of its
// families.
type endpoint struct {
	addr     netip.Addr
	port     uint16
	wildcard bool
	v6only   bool
}

// endpoints appends the addresses and ports of a record's ends.
func (r *Record) endpoints(ends []endpoint) []endpoint {
	if s := r.Sock; s != nil {
		return append(ends, endpoint{s.Address, r.Port, s.Address.IsUnspecified(), s.V6Only})
	}
	c, s := &r.Conn.Client, &r.Conn.Server
	return append(ends, endpoint{addr: c.Address, port: c.Port}, endpoint{addr: s.Address, port: s.Port})
}

// processes appends the processes of a record's ends.
func (r *Record) processes(procs []*Process) []*Process {
	if r.Sock != nil {
		return appendKnown(procs, r.Sock.Process)
	}
	return appendKnown(appendKnown(procs, r.Conn.Client.Process), r.Conn.Server.Process)
}

func appendKnown(procs []*Process, a Actor) []*Process {
	if a.P == nil {
		return procs
	}
	return append(procs, a.P)
}

func inContainer(p *Process, want string) bool { return p.Container.is(want) }

// In says whether one of the values names the container: its id, a prefix of that, or its name.
func (c Container) In(values []string) bool { return slices.ContainsFunc(values, c.is) }

func (c Container) is(want string) bool {
	return want != "" && (strings.HasPrefix(c.ID, want) || c.Name == want)
}

func pass[T comparable](s Set[T], v T) bool {
	return (len(s.Include) == 0 || slices.Contains(s.Include, v)) && !slices.Contains(s.Exclude, v)
}

// passEither holds a set against the ends of a record: one of them has to be included, none excluded.
func passEither[E any, T comparable](s Set[T], ends []E, is func(E, T) bool) bool {
	listed := func(values []T) bool {
		return slices.ContainsFunc(ends, func(e E) bool {
			return slices.ContainsFunc(values, func(v T) bool { return is(e, v) })
		})
	}
	return (len(s.Include) == 0 || listed(s.Include)) && !listed(s.Exclude)
}

func matchTarget(t Target, ends []endpoint) bool {
	return slices.ContainsFunc(ends, func(e endpoint) bool {
		if t.Port != 0 && t.Port != e.port {
			return false
		}
		return !t.Addr.IsValid() || t.Addr == e.addr || e.wildcard && serves(e.addr, e.v6only, t.Addr)
	})
}
