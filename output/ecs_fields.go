// SPDX-License-Identifier: Apache-2.0

package output

import (
	"net/netip"
	"strconv"

	"github.com/rs/zerolog"

	"github.com/looptrace/looptrace/tracer/flow"
)

type ecsSocket flow.Record

// MarshalZerologObject calls a socket's own address the server's, as `port` is: whoever asks for a port finds what
// served on it.
func (r *ecsSocket) MarshalZerologObject(e *zerolog.Event) {
	s := r.Sock
	e.Object("network", (*network)(r))
	e.Object("server", (*ecsOwn)(r))
	if s.Process.P != nil {
		e.Object("process", (*ecsCloser)(r))
		addECSContainer(e, &s.Process)
	}
	e.Object("looptrace", (*ecsSocketRest)(r))
}

type ecsOwn flow.Record

func (r *ecsOwn) MarshalZerologObject(e *zerolog.Event) {
	addECSAddress(e, r.Sock.Address, r.Port, r.HasPort)
}

// ecsCloser is a socket's process, which has its end where that released the port.
type ecsCloser flow.Record

func (r *ecsCloser) MarshalZerologObject(e *zerolog.Event) {
	e.EmbedObject((*ecsProcess)(&r.Sock.Process))
	if x := endOf((*flow.Record)(r)); x != nil && x.Signal == 0 {
		e.Int("exit_code", x.Code)
	}
}

// endOf is how the process of a release ended, nil where it did not, or nobody saw how.
func endOf(r *flow.Record) *flow.Exit {
	if r.Event != "release" || r.Sock.Reason != reasonExit || !r.Sock.Exit.Known {
		return nil
	}
	return &r.Sock.Exit
}

type ecsSocketRest flow.Record

func (r *ecsSocketRest) MarshalZerologObject(e *zerolog.Event) {
	s := r.Sock
	addIdentity(e, (*flow.Record)(r))
	if s.Process.P != nil {
		e.Object("process", (*ecsProcessRest)(&s.Process))
	}
	(*socket)(r).details(e)
	if x := endOf((*flow.Record)(r)); x != nil {
		e.Object("exit", (*exit)(x))
	}
}

// addIdentity adds what says which socket or connection a record is of.
func addIdentity(e *zerolog.Event, r *flow.Record) {
	addID(e, r)
	if r.HasPort {
		e.Uint16("port", r.Port)
	}
	e.Uint32("netns", r.Netns)
	if r.Preexisting {
		e.Bool("preexisting", true)
	}
}

type ecsConnection flow.Record

// MarshalZerologObject writes both ends twice: ECS wants source and destination wherever client and server are known.
func (r *ecsConnection) MarshalZerologObject(e *zerolog.Event) {
	e.Object("network", (*ecsNetwork)(r))
	e.Object("client", (*ecsClient)(r))
	e.Object("server", (*ecsServer)(r))
	e.Object("source", (*ecsClient)(r))
	e.Object("destination", (*ecsServer)(r))
	actor := &r.Conn.Client.Process
	if r.Event == "accept" {
		actor = &r.Conn.Server.Process
	}
	if actor.P != nil {
		e.Object("process", (*ecsProcess)(actor))
		addECSContainer(e, actor)
	}
	e.Object("looptrace", (*ecsConnectionRest)(r))
}

type ecsClient flow.Record

func (r *ecsClient) MarshalZerologObject(e *zerolog.Event) {
	end := &r.Conn.Client
	addECSAddress(e, end.Address, end.Port, end.HasPort)
	if (*ecsConnection)(r).counted() {
		e.Uint64("bytes", r.Conn.C2S)
	}
}

type ecsServer flow.Record

func (r *ecsServer) MarshalZerologObject(e *zerolog.Event) {
	end := &r.Conn.Server
	addECSAddress(e, end.Address, end.Port, end.HasPort)
	if (*ecsConnection)(r).counted() {
		e.Uint64("bytes", r.Conn.S2C)
	}
}

// addECSAddress writes the address twice: .address is what it was taken from, .ip what Elasticsearch knows as one.
func addECSAddress(e *zerolog.Event, addr netip.Addr, port uint16, hasPort bool) {
	appendAddr(e, "address", addr)
	appendAddr(e, "ip", addr)
	if hasPort {
		e.Uint16("port", port)
	}
}

// counted says whether it is known how much was sent.
func (r *ecsConnection) counted() bool {
	return r.Event == "close" && r.Proto == flow.TCP && r.Conn.HasBytes
}

type ecsNetwork flow.Record

func (r *ecsNetwork) MarshalZerologObject(e *zerolog.Event) {
	e.EmbedObject((*network)(r))
	if (*ecsConnection)(r).counted() {
		e.Uint64("bytes", r.Conn.C2S+r.Conn.S2C)
	}
}

type ecsConnectionRest flow.Record

func (r *ecsConnectionRest) MarshalZerologObject(e *zerolog.Event) {
	addIdentity(e, (*flow.Record)(r))
	e.Object("client", (*party)(&r.Conn.Client))
	e.Object("server", (*party)(&r.Conn.Server))
	(*connection)(r).details(e)
}

func addECSContainer(e *zerolog.Event, a *flow.Actor) {
	if a.P.Container.ID != "" {
		e.Object("container", (*ecsContainer)(&a.P.Container))
	}
}

// ecsProcess is the process that acted.
type ecsProcess flow.Actor

func (a *ecsProcess) MarshalZerologObject(e *zerolog.Event) {
	p := a.P
	addPID(e, p.PID)
	appendStr(e, "name", p.Comm)
	appendTime(e, "start", p.Created)
	if a.Short {
		return
	}
	appendStr(e, "executable", p.ExePath)
	appendStr(e, "command_line", p.CommandLine)
	if p.ParentPID != 0 {
		e.Object("parent", (*ecsParent)(p))
	}
	if a.Thread != "" && a.Thread != p.Comm {
		e.Object("thread", (*thread)(a))
	}
	if p.PID != 0 {
		e.Object("user", (*ecsUser)(p))
	}
}

type ecsParent flow.Process

func (p *ecsParent) MarshalZerologObject(e *zerolog.Event) { e.Uint32("pid", p.ParentPID) }

type ecsUser flow.Process

func (p *ecsUser) MarshalZerologObject(e *zerolog.Event) {
	var id [10]byte // 2^32
	e.Bytes("id", strconv.AppendUint(id[:0], uint64(p.UID), 10))
	appendStr(e, "name", p.Owner)
}

// ecsProcessRest is what ECS has no name for.
type ecsProcessRest flow.Actor

func (a *ecsProcessRest) MarshalZerologObject(e *zerolog.Event) {
	p := a.P
	if p.ExeName != "" {
		e.Object("executable", (*executableName)(&p.ExeName))
	}
	if !a.Short {
		if len(p.Ancestors) > 0 {
			e.Array("ancestors", (*ancestors)(&p.Ancestors))
		}
		appendStr(e, "systemd_unit", p.Unit)
	}
	appendStr(e, "attribution", a.Attribution)
	addHolders(e, &a.Holders)
}

type ecsContainer flow.Container

func (c *ecsContainer) MarshalZerologObject(e *zerolog.Event) {
	e.Str("id", c.ID)
	appendStr(e, "name", c.Name)
	appendStr(e, "runtime", c.Runtime)
}

type ecsSummary flow.Record

// MarshalZerologObject names the client's program as the process: it is the one that acted.
func (r *ecsSummary) MarshalZerologObject(e *zerolog.Event) {
	s := r.Summary
	e.Object("network", (*ecsSummaryNetwork)(r))
	if s.HasBytes {
		e.Object("client", (*ecsSummaryClient)(s))
		e.Object("source", (*ecsSummaryClient)(s))
	}
	e.Object("server", (*ecsSummaryServer)(r))
	e.Object("destination", (*ecsSummaryServer)(r))
	if s.Client.Comm != "" || s.Client.P != nil {
		e.Object("process", (*ecsProgram)(&s.Client))
	}
	e.Object("looptrace", (*ecsSummaryRest)(r))
}

type ecsSummaryClient flow.SummaryRecord

func (s *ecsSummaryClient) MarshalZerologObject(e *zerolog.Event) { e.Uint64("bytes", s.C2S) }

type ecsSummaryServer flow.Record

func (r *ecsSummaryServer) MarshalZerologObject(e *zerolog.Event) {
	appendAddr(e, "address", r.Summary.Address)
	appendAddr(e, "ip", r.Summary.Address)
	e.Uint16("port", r.Port)
	if r.Summary.HasBytes {
		e.Uint64("bytes", r.Summary.S2C)
	}
}

type ecsSummaryNetwork flow.Record

func (r *ecsSummaryNetwork) MarshalZerologObject(e *zerolog.Event) {
	e.EmbedObject((*transport)(r))
	if r.Summary.HasBytes {
		e.Uint64("bytes", r.Summary.C2S+r.Summary.S2C)
	}
}

type ecsProgram flow.Program

func (p *ecsProgram) MarshalZerologObject(e *zerolog.Event) {
	if p.P != nil {
		addPID(e, p.P.PID)
	}
	appendStr(e, "name", p.Comm)
	if p.P != nil {
		appendTime(e, "start", p.P.Created)
	}
}

type ecsSummaryRest flow.Record

func (r *ecsSummaryRest) MarshalZerologObject(e *zerolog.Event) {
	e.Uint16("port", r.Port)
	(*summary)(r).details(e)
}
