// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// ticks is the unit in which /proc tells a start time (USER_HZ, 100 on amd64 and arm64).
const ticks = uint64(10 * time.Millisecond)

const maxAncestors = 8

// maxCommandLine is the contract's cut of command_line, in bytes.
const maxCommandLine = 1024

// processes is the table of processes, by number; numbers are reused, so each may have several.
type processes struct {
	cfg    *Config
	byPID  map[uint32]*known
	order  []*known // oldest first, of all
	exited []*known // oldest first
	users  map[uint32]string
	count  int
	era    int // counts losses of events that names come from
}

// known is a process and, behind it, earlier ones of the same number.
type known struct {
	Process
	rough bool // Start is only known to a tick: /proc told it
	gone  bool // out of the table
	own   bool // its names are its own: an exec event or /proc told them, not its parent's image
	era   int  // when its names were last known to be right
	prev  *known
}

func (ps *processes) init(cfg *Config) {
	ps.cfg = cfg
	ps.byPID = make(map[uint32]*known)
	ps.users = make(map[uint32]string)
}

func (k *known) is(start uint64) bool {
	return k.Start == start || k.rough && k.Start/ticks == start/ticks
}

// lookup gives the process of that number and start; nil where it is not in the table.
func (ps *processes) lookup(pid uint32, start uint64) *known {
	for k := ps.byPID[pid]; k != nil; k = k.prev {
		if !k.is(start) {
			continue
		}
		if k.rough {
			k.rough, k.Start, k.Created = false, start, ps.wall(start)
		}
		return k
	}
	return nil
}

func (ps *processes) wall(boottime uint64) time.Time {
	return ps.cfg.BootTime.Add(time.Duration(boottime))
}

// find names the process of an event, with the user that it runs as now. A process that no event
// announced was there before tracing: it is read from /proc, if it is still the same one.
func (ps *processes) find(id ProcessID) *Process {
	if id.PID == 0 {
		return nil
	}
	k := ps.lookup(id.PID, id.Start)
	if k == nil {
		k = ps.discover(id)
	}
	ps.recheck(k)
	if k.UID != id.UID || k.Owner == "" {
		k.UID, k.Owner = id.UID, ps.user(id.UID)
	}
	return &k.Process
}

func (ps *processes) discover(id ProcessID) *known {
	if ps.cfg.Process != nil {
		if p := ps.cfg.Process(id.PID); p != nil {
			ps.add(p)
			if k := ps.lookup(id.PID, id.Start); k != nil {
				return k
			}
		}
	}
	return ps.insert(&known{Process: Process{ProcessID: id, Created: ps.wall(id.Start)}})
}

// recheck reads a process again whose exec or renaming may have been lost. Of one that is gone by
// now, and that no event named, nobody knows what it was.
func (ps *processes) recheck(k *known) {
	if k.era == ps.era {
		return
	}
	k.era = ps.era
	var p *Process
	if ps.cfg.Process != nil && k.Exited.IsZero() {
		p = ps.cfg.Process(k.PID)
	}
	switch {
	case p != nil && p.Start/ticks == k.Start/ticks:
		k.Comm, k.ExeName, k.ExePath, k.CommandLine = p.Comm, p.ExeName, p.ExePath, p.CommandLine
		k.Container, k.Unit, k.own = p.Container, p.Unit, true
	case !k.own:
		k.Comm, k.ExeName, k.ExePath, k.CommandLine, k.execComm = "", "", "", "", ""
	}
}

func (ps *processes) insert(k *known) *known {
	k.era = ps.era
	k.prev = ps.byPID[k.PID]
	if k.prev != nil && k.prev.Exited.IsZero() { // its number is another's: its exit was lost
		ps.retire(k.prev, k.Created)
	}
	ps.byPID[k.PID] = k
	if len(ps.order) >= 2*maxAlive {
		ps.order = slices.DeleteFunc(ps.order, func(k *known) bool { return k.gone })
	}
	ps.order = append(ps.order, k)
	for ps.count++; ps.count > maxAlive; {
		ps.forget(ps.order[0]) // one that runs is read from /proc again when it acts
		ps.order = ps.order[1:]
	}
	return k
}

// add takes a process that /proc told of, unless events have told more.
func (ps *processes) add(p *Process) {
	for k := ps.byPID[p.PID]; k != nil; k = k.prev {
		if k.Start/ticks == p.Start/ticks {
			return // and its start may be known better than /proc says it
		}
	}
	k := ps.insert(&known{Process: *p, rough: true, own: true})
	k.Created = ps.wall(p.Start)
	k.Owner = ps.user(p.UID)
}

func (ps *processes) user(uid uint32) string {
	name, ok := ps.users[uid]
	if !ok && ps.cfg.UserName != nil {
		name = ps.cfg.UserName(uid)
		ps.users[uid] = name
	}
	return name
}

// fork: the child is its parent's copy until it executes something.
func (ps *processes) fork(ev *TaskEvent) {
	if k := ps.lookup(ev.Task.PID, ev.Task.Start); k != nil { // /proc told of it before
		if parent := ps.lookup(ev.ParentPID, ev.ParentStart); parent != nil {
			k.tree, parent.forked = k.tree || parent.tree, ev.Time
		}
		return
	}
	child := &known{Process: Process{ProcessID: ev.Task}}
	if parent := ps.lookup(ev.ParentPID, ev.ParentStart); parent != nil {
		ps.recheck(parent)
		child.Process = parent.Process
		child.ProcessID = ev.Task
		child.Exit, child.Exited = Exit{}, time.Time{}
		child.Ancestors = ps.ancestors(parent)
		child.forked, child.received, parent.forked = 0, 0, ev.Time
	}
	child.ParentPID = ev.ParentPID
	child.Comm = cString(ev.Comm[:])
	child.Created = ps.wall(ev.Task.Start)
	child.Owner = ps.user(ev.Task.UID)
	ps.insert(child)
}

// ancestors gives those of a child of parent, nearest first.
func (ps *processes) ancestors(parent *known) []Ancestor {
	n := min(len(parent.Ancestors), maxAncestors-1)
	list := make([]Ancestor, 0, n+1)
	list = append(list, Ancestor{PID: parent.PID, ExeName: parent.ExeName})
	return append(list, parent.Ancestors[:n]...)
}

func (ps *processes) exec(ev *ExecEvent) {
	k := ps.lookup(ev.Task.PID, ev.Task.Start)
	if k == nil {
		k = ps.insert(&known{Process: Process{ProcessID: ev.Task, Created: ps.wall(ev.Task.Start)}})
	}
	if len(k.Ancestors) == 0 { // its fork was lost
		if parent := ps.lookup(ev.ParentPID, ev.ParentStart); parent != nil {
			k.Ancestors, k.tree = ps.ancestors(parent), k.tree || parent.tree
		}
	}
	k.ParentPID = ev.ParentPID
	k.UID, k.Owner = ev.Task.UID, ps.user(ev.Task.UID)
	k.Comm = cString(ev.Comm[:])
	k.execComm = k.Comm
	k.own, k.era = true, ps.era
	k.SetArgs(ev.Args, ps.cfg.Args)
	k.SetPath(ev.Path)
	if ev.Cgroup != "" {
		k.Container, k.Unit = ParseCgroup(ev.Cgroup)
	}
}

// moved: a process is in another cgroup.
func (ps *processes) moved(ev *ExecEvent) {
	if k := ps.lookup(ev.Task.PID, ev.Task.Start); k != nil && ev.Cgroup != "" {
		k.Container, k.Unit = ParseCgroup(ev.Cgroup)
	}
}

// SetPath names the executable. An empty path says that it is not known.
func (p *Process) SetPath(exe string) {
	p.ExePath, p.ExeName = exe, ""
	if exe != "" {
		p.ExeName = path.Base(exe)
	}
}

// SetArgs keeps the arguments, and the command line that they make. argv is NUL-separated; rewrite may be
// nil. What a rewrite takes out is not kept.
func (p *Process) SetArgs(argv []byte, rewrite func([]string) []string) {
	p.Argv = strings.TrimRight(string(argv), "\x00")
	if rewrite != nil {
		p.Argv = strings.Join(rewrite(strings.Split(p.Argv, "\x00")), "\x00")
	}
	p.CommandLine = commandLine(p.Argv)
}

// Rewrite makes the command line anew, as SetArgs with that rewrite would have.
func (p *Process) Rewrite(rewrite func([]string) []string) {
	p.SetArgs([]byte(p.Argv), rewrite)
}

// commandLine joins arguments by spaces and cuts what does not fit.
func commandLine(argv string) string {
	line := strings.ToValidUTF8(strings.ReplaceAll(argv, "\x00", " "), "\uFFFD") // what is written; it may be longer
	for len(line) > maxCommandLine {
		_, size := utf8.DecodeLastRuneInString(line)
		line = line[:len(line)-size]
	}
	return line
}

func (ps *processes) rename(ev *TaskEvent) {
	if k := ps.lookup(ev.Task.PID, ev.Task.Start); k != nil {
		k.Comm = cString(ev.Comm[:])
	}
}

// exit: its sockets are closed after this event, and others may ask for it much later.
func (ps *processes) exit(ev *TaskEvent, at time.Time) {
	k := ps.lookup(ev.Task.PID, ev.Task.Start)
	if k == nil {
		return
	}
	k.Exit = exitOf(ev.ExitCode)
	if k.Exited.IsZero() {
		ps.retire(k, at)
	}
	k.Exited = at
}

// retire keeps a dead process for those who ask later, as long as there is room.
func (ps *processes) retire(k *known, at time.Time) {
	k.Exited = at
	ps.exited = append(ps.exited, k)
	if len(ps.exited) > maxExited {
		ps.forget(ps.exited[0])
		ps.exited = ps.exited[1:]
	}
}

func (ps *processes) forget(gone *known) {
	if gone.gone {
		return
	}
	gone.gone = true
	ps.count--
	if ps.byPID[gone.PID] == gone {
		if gone.prev == nil {
			delete(ps.byPID, gone.PID)
		} else {
			ps.byPID[gone.PID] = gone.prev
		}
		return
	}
	for k := ps.byPID[gone.PID]; k != nil; k = k.prev {
		if k.prev == gone {
			k.prev = gone.prev
			return
		}
	}
}

func (ps *processes) plant(pid uint32) {
	if k := ps.byPID[pid]; k != nil {
		k.tree = true
	}
}
