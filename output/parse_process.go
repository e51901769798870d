// SPDX-License-Identifier: Apache-2.0

package output

import (
	"strconv"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

// lineProcess is a process, in full or cut.
type lineProcess struct {
	PID        uint32
	ParentPID  uint32 `json:"parent_pid"`
	Comm       string
	Thread     lineName
	Executable struct{ Name, Path string }
	Command    string `json:"command_line"`
	Owner      string
	User       *struct{ ID string }
	Creation   struct{ Time time.Time }
	Ancestors  []struct {
		PID        uint32
		Executable lineName
	}
	Unit        string `json:"systemd_unit"`
	Attribution string
	Holders     []lineProcess
	Exit        *lineExit
}

// actor names the process; a nil lineProcess is one that is not known. One without a user was cut.
func (p *lineProcess) actor(c *lineContain) flow.Actor {
	if p == nil {
		return flow.Actor{}
	}
	proc := &flow.Process{
		ParentPID: p.ParentPID, Created: p.Creation.Time, Comm: p.Comm, ExeName: p.Executable.Name, ExePath: p.Executable.Path,
		CommandLine: p.Command, Owner: p.Owner, Unit: p.Unit,
	}
	proc.PID = p.PID
	if p.User != nil {
		uid, _ := strconv.ParseUint(p.User.ID, 10, 32) // a number, by the schema
		proc.UID = uint32(uid)
	}
	for _, a := range p.Ancestors {
		proc.Ancestors = append(proc.Ancestors, flow.Ancestor{PID: a.PID, ExeName: a.Executable.Name})
	}
	if c != nil {
		proc.Container = flow.Container{ID: c.ID, Runtime: c.Runtime.Name, Name: c.Name}
	}
	return flow.Actor{
		P: proc, Attribution: p.Attribution, Thread: p.Thread.Name, Short: p.User == nil && p.PID != 0, Holders: actors(p.Holders),
	}
}

func actors(list []lineProcess) []flow.Actor {
	var all []flow.Actor
	for i := range list {
		all = append(all, list[i].actor(nil))
	}
	return all
}
