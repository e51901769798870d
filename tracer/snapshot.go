// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"os"
	"strings"

	"github.com/prometheus/procfs"

	"github.com/looptrace/looptrace/tracer/flow"
)

// snapshot reports what was there before the hooks: sockets that hold a port, then connections.
func (t *Tracer) snapshot() error {
	err := t.hooks.rows("it_ports", sockSize, func(row []byte) {
		if ev, err := sockEvent(row); err == nil {
			t.table.SnapshotSock(ev)
		}
	})
	if err != nil {
		return err
	}
	err = t.hooks.rows("it_conns", connSize, func(row []byte) {
		if ev, err := connEvent(row); err == nil && !t.own.has(ev) {
			t.table.SnapshotConn(ev)
		}
	})
	if err != nil {
		return err
	}
	t.table.FinishSnapshot(t.cfg.Snapshot)
	return nil
}

// readProcesses tells the table of every process that runs. The hooks are live by now: who starts
// later has events, and who ends while we read is no loss.
func (t *Tracer) readProcesses() error {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return fmt.Errorf("open /proc: %w", err)
	}
	procs, err := fs.AllProcs()
	if err != nil {
		return fmt.Errorf("list /proc: %w", err)
	}
	all := make(map[int]*flow.Process, len(procs))
	for _, proc := range procs {
		if p := readProcess(proc, t.cfg.Args); p != nil {
			all[proc.PID] = p
		}
	}
	for _, p := range all {
		p.Ancestors = ancestors(p, all)
		t.table.AddProcess(p)
	}
	return nil
}

func ancestors(p *flow.Process, all map[int]*flow.Process) []flow.Ancestor {
	var list []flow.Ancestor
	for up := all[int(p.ParentPID)]; up != nil && len(list) < 8; up = all[int(up.ParentPID)] {
		list = append(list, flow.Ancestor{PID: up.PID, ExeName: up.ExeName})
	}
	return list
}

// processByPID reads one process that no event announced.
func (t *Tracer) processByPID(pid uint32) *flow.Process {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil
	}
	proc, err := fs.Proc(int(pid))
	if err != nil {
		return nil
	}
	return readProcess(proc, t.cfg.Args)
}

// clockTick is USER_HZ in nanoseconds: the unit of field 22 of /proc/PID/stat.
const clockTick = 10_000_000

// readProcess reads what names a process; nil if it is gone. Its start is known to a clock tick.
func readProcess(proc procfs.Proc, rewrite func([]string) []string) *flow.Process {
	stat, err := proc.Stat()
	if err != nil {
		return nil
	}
	p := &flow.Process{
		ProcessID: flow.ProcessID{PID: uint32(proc.PID), Start: stat.Starttime * clockTick},
		ParentPID: uint32(stat.PPID),
		Comm:      stat.Comm,
	}
	if status, err := proc.NewStatus(); err == nil {
		p.UID = uint32(status.UIDs[0])
	}
	if raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", proc.PID)); err == nil && len(raw) > 0 {
		p.SetArgs(raw[:min(len(raw), argsMax)], rewrite)
	}
	if exe, err := proc.Executable(); err == nil {
		p.SetPath(strings.TrimSuffix(exe, " (deleted)"))
	}
	if groups, err := proc.Cgroups(); err == nil {
		p.Container, p.Unit = placeOf(groups)
	}
	return p
}

// placeOf takes the cgroup that says most: the unified one, else memory's, else systemd's own.
func placeOf(groups []procfs.Cgroup) (c flow.Container, unit string) {
	rank := func(g procfs.Cgroup) int {
		switch {
		case g.Path == "/":
			return 0
		case g.HierarchyID == 0:
			return 3
		case len(g.Controllers) > 0 && g.Controllers[0] == "memory":
			return 2
		default:
			return 1
		}
	}
	best := 0
	for _, g := range groups {
		if r := rank(g); r > best {
			best = r
			c, unit = flow.ParseCgroup(g.Path)
		}
	}
	return c, unit
}
