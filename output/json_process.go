// SPDX-License-Identifier: Apache-2.0

package output

import (
	"strconv"

	"github.com/rs/zerolog"

	"github.com/looptrace/looptrace/tracer/flow"
)

// addActor adds `process`, and `container` next to it.
func addActor(e *zerolog.Event, a *flow.Actor) {
	if a.P == nil {
		return
	}
	e.Object("process", (*process)(a))
	addContainer(e, a)
}

func addContainer(e *zerolog.Event, a *flow.Actor) {
	if a.P != nil && a.P.Container.ID != "" {
		e.Object("container", (*container)(&a.P.Container))
	}
}

type process flow.Actor

func (a *process) MarshalZerologObject(e *zerolog.Event) {
	if a.Short {
		e.EmbedObject((*briefProcess)(a))
		return
	}
	p := a.P
	addPID(e, p.PID)
	if p.ParentPID != 0 {
		e.Uint32("parent_pid", p.ParentPID)
	}
	appendStr(e, "comm", p.Comm)
	if a.Thread != "" && a.Thread != p.Comm {
		e.Object("thread", (*thread)(a))
	}
	if p.ExeName != "" || p.ExePath != "" {
		e.Object("executable", (*executable)(p))
	}
	appendStr(e, "command_line", p.CommandLine)
	appendStr(e, "owner", p.Owner)
	if p.PID != 0 {
		e.Object("user", (*user)(p))
	}
	addCreation(e, p)
	if len(p.Ancestors) > 0 {
		e.Array("ancestors", (*ancestors)(&p.Ancestors))
	}
	appendStr(e, "systemd_unit", p.Unit)
	appendStr(e, "attribution", a.Attribution)
	addHolders(e, &a.Holders)
}

// briefProcess tells which process it is and leaves out the rest: an earlier record has it, or it is one of many.
type briefProcess flow.Actor

func (a *briefProcess) MarshalZerologObject(e *zerolog.Event) {
	addPID(e, a.P.PID)
	addCreation(e, a.P)
	appendStr(e, "comm", a.P.Comm)
	if a.P.ExeName != "" {
		e.Object("executable", (*executableName)(&a.P.ExeName))
	}
	appendStr(e, "attribution", a.Attribution)
}

func addPID(e *zerolog.Event, pid uint32) {
	if pid != 0 {
		e.Uint32("pid", pid)
	}
}

func addCreation(e *zerolog.Event, p *flow.Process) {
	if !p.Created.IsZero() {
		e.Object("creation", (*creation)(p))
	}
}

type thread flow.Actor

func (t *thread) MarshalZerologObject(e *zerolog.Event) { e.Str("name", t.Thread) }

type executable flow.Process

func (p *executable) MarshalZerologObject(e *zerolog.Event) {
	appendStr(e, "name", p.ExeName)
	appendStr(e, "path", p.ExePath)
}

type executableName string

func (n *executableName) MarshalZerologObject(e *zerolog.Event) { e.Str("name", string(*n)) }

type user flow.Process

func (u *user) MarshalZerologObject(e *zerolog.Event) { appendUserID(e, u.UID) }

func appendUserID(e *zerolog.Event, uid uint32) {
	var id [10]byte // 2^32
	e.Bytes("id", strconv.AppendUint(id[:0], uint64(uid), 10))
}

type creation flow.Process

func (c *creation) MarshalZerologObject(e *zerolog.Event) { appendTime(e, "time", c.Created) }

type ancestors []flow.Ancestor

func (list *ancestors) MarshalZerologArray(a *zerolog.Array) {
	for i := range *list {
		a.Dict(newDict().EmbedObject((*ancestor)(&(*list)[i])))
	}
}

type ancestor flow.Ancestor

func (a *ancestor) MarshalZerologObject(e *zerolog.Event) {
	e.Uint32("pid", a.PID)
	if a.ExeName != "" {
		e.Object("executable", (*executableName)(&a.ExeName))
	}
}

// addHolders lists the processes that hold a socket. Each is brief: a server has one for each core or each client, and
// a hundred command lines that are all the same would not fit a line.
func addHolders(e *zerolog.Event, list *[]flow.Actor) {
	if len(*list) > 0 {
		e.Array("holders", (*holderList)(list))
	}
}

type holderList []flow.Actor

func (list *holderList) MarshalZerologArray(a *zerolog.Array) {
	for i := range *list {
		if h := &(*list)[i]; h.P != nil {
			a.Dict(newDict().EmbedObject((*briefProcess)(h)))
		}
	}
}

// newDict returns an element for an array. Array.Object would allocate a writer for each.
func newDict() *zerolog.Event {
	var parent *zerolog.Event // none: its stack, hooks and context are not used here
	return parent.CreateDict()
}

type container flow.Container

func (c *container) MarshalZerologObject(e *zerolog.Event) {
	e.Str("id", c.ID)
	if c.Runtime != "" {
		e.Object("runtime", (*containerRuntime)(c))
	}
	appendStr(e, "name", c.Name)
}

type containerRuntime flow.Container

func (c *containerRuntime) MarshalZerologObject(e *zerolog.Event) { e.Str("name", c.Runtime) }

type exit flow.Exit

func (x *exit) MarshalZerologObject(e *zerolog.Event) {
	if x.Signal == 0 {
		e.Int("code", x.Code)
		return
	}
	var name [16]byte
	e.Bytes("signal", appendSignal(name[:0], x.Signal))
}
