// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/prometheus/procfs"

	"github.com/looptrace/looptrace/tracer/flow"
)

// ListConfig says what a Lister gives. The zero ListConfig asks for everything on loopback but TIME_WAIT.
type ListConfig struct {
	Filter   flow.Filter
	TimeWait bool                         // fill Listing.Waiting
	Args     func(argv []string) []string // rewrites command lines (redaction); nil leaves them
}

// Lister looks at what is there, without a hook. Not safe for concurrent use.
type Lister struct {
	cfg   ListConfig
	hooks *hooks // none is attached
	clock clock
	rows  []flow.ListRow
}

// Listing is what a look found besides records, and what it could not give.
type Listing struct {
	Waiting    []Waiting // by port, then peer
	NotEntered []uint32  // network namespaces whose TIME_WAITs could not be read, by inode number
	Lost       uint64    // sockets that did not fit the model's tables: what is told of others may lack them
}

// Waiting is a TIME_WAIT: an address that a closed connection keeps from being bound. The kernel does not
// keep whose it was.
type Waiting struct {
	Netns uint32
	flow.Holder
}

const (
	listProgram = "it_list"
	waitProgram = "it_tcp"
)

// NewLister loads the programs of a look; Close frees them. It fails with an UnavailableError where this host or
// these privileges do not allow it.
func NewLister(cfg ListConfig) (*Lister, error) {
	h, err := openList(cfg)
	if err != nil {
		return nil, unavailable(err, lookNeeds...)
	}
	return &Lister{cfg: cfg, hooks: h}, nil
}

// Close may be called more than once.
func (l *Lister) Close() error { return l.hooks.Close() }

// List looks once, in every network namespace. It gives each the records that a run would begin with: a listen
// for each listener, a bind for each socket that is bound only, a connect for each TCP connection, with the ends
// that a process holds, all Preexisting; in that order, each by port, transport and address. A record is valid
// during its call; Clone keeps one. An error of each ends the calls, and is returned.
//
// Who called listen() is not seen by looking: a listener that several processes hold is shared, and a connection
// that nobody has accepted names its server where one listener alone can have answered.
func (l *Lister) List(each func(*flow.Record) error) (Listing, error) {
	at := boottime()
	l.rows = l.rows[:0]
	err := l.hooks.rows(listProgram, listSize, func(raw []byte) {
		if row, err := listRow(raw); err == nil {
			l.rows = append(l.rows, *row)
		}
	})
	if err != nil {
		return Listing{}, fmt.Errorf("list: %w", err)
	}
	var eachErr error
	emit := func(r *flow.Record) {
		if eachErr == nil {
			eachErr = each(r)
		}
	}
	procs := &lazyProcesses{args: l.cfg.Args, seen: make(map[uint32]*flow.Process)}
	table := flow.New(flow.Config{
		Emit: emit, Filter: l.cfg.Filter, UserName: userName, Process: procs.read, Args: l.cfg.Args, BootTime: l.clock.bootTime(),
	})
	table.List(at, l.rows)
	var listing Listing
	for _, n := range table.TakeLost() {
		listing.Lost += n
	}
	if l.cfg.TimeWait {
		l.addWaiting(&listing)
	}
	return listing, eachErr
}

// lazyProcesses reads those that hold a socket, and their ancestors: reading all takes longer than all else on a
// busy host.
type lazyProcesses struct {
	args func([]string) []string
	seen map[uint32]*flow.Process // nil values: gone
}

func (l *lazyProcesses) read(pid uint32) *flow.Process {
	p := l.one(pid)
	if p == nil {
		return nil
	}
	full := *p
	for up := l.one(p.ParentPID); up != nil && len(full.Ancestors) < 8; up = l.one(up.ParentPID) {
		full.Ancestors = append(full.Ancestors, flow.Ancestor{PID: up.PID, ExeName: up.ExeName})
	}
	return &full
}

func (l *lazyProcesses) one(pid uint32) *flow.Process {
	p, ok := l.seen[pid]
	if ok || pid == 0 {
		return p
	}
	if fs, err := procfs.NewDefaultFS(); err == nil {
		if proc, err := fs.Proc(int(pid)); err == nil {
			p = readProcess(proc, l.args)
		}
	}
	l.seen[pid] = p
	return p
}

// openList loads the programs of a look.
func openList(cfg ListConfig) (*hooks, error) {
	_ = rlimit.RemoveMemlock() // before 5.11; see openForm
	spec, err := listSpec(cfg)
	if err != nil {
		return nil, err
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load: %w", firstRefused(spec, err))
	}
	return &hooks{coll: coll}, nil
}

// listSpec gives the programs of a look and the maps that those use, nothing else.
func listSpec(cfg ListConfig) (*ebpf.CollectionSpec, error) {
	spec, err := loadLook()
	if err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	used := make(map[string]bool)
	for name, prog := range spec.Programs {
		if name != listProgram && (name != waitProgram || !cfg.TimeWait) {
			delete(spec.Programs, name)
			continue
		}
		for _, ins := range prog.Instructions {
			used[ins.Reference()] = true
		}
	}
	maps.DeleteFunc(spec.Maps, func(name string, _ *ebpf.MapSpec) bool { return !used[name] && !strings.HasPrefix(name, ".") })
	if m := spec.Maps["bound_by_sock"]; m != nil {
		m.MaxEntries = 1 // nothing is entered
	}
	s := setter{spec: spec}
	s.set("self_tgid", uint32(os.Getpid()))
	s.set("pidns", pidNamespace())
	s.set("any_local", cfg.Filter.Local)
	s.set("only_time_wait", true)
	return spec, s.err
}
