// SPDX-License-Identifier: Apache-2.0

package output

import (
	"github.com/rs/zerolog"

	"github.com/looptrace/looptrace/tracer/flow"
)

type summary flow.Record

func (r *summary) MarshalZerologObject(e *zerolog.Event) {
	addResult(e, (*flow.Record)(r))
	e.Object("network", (*transport)(r))
	e.Uint16("port", r.Port)
	r.details(e)
}

func (r *summary) details(e *zerolog.Event) {
	if r.Netns != 0 {
		e.Uint32("netns", r.Netns)
	}
	s := r.Summary
	if s.Client.Comm != "" || s.Client.ExeName != "" {
		e.Object("client", (*programEnd)(&s.Client))
	}
	if s.Address.IsValid() || s.Server.Comm != "" || s.Server.ExeName != "" {
		e.Object("server", (*dialledEnd)(s))
	}
	if s.HasEphemeral {
		e.Bool("ephemeral", s.Ephemeral)
	}
	e.Uint64("count", s.Count)
	if s.HasBytes {
		e.Object("bytes", (*summaryBytes)(s))
	}
	if s.Handshake.Max > 0 {
		e.Object("handshake_ns", (*handshake)(&s.Handshake))
	}
	appendTime(e, "first", s.First)
	appendTime(e, "last", s.Last)
}

type transport flow.Record

func (r *transport) MarshalZerologObject(e *zerolog.Event) {
	e.Str("transport", transportName(r.Proto))
}

type programEnd flow.Program

func (p *programEnd) MarshalZerologObject(e *zerolog.Event) {
	if p.Comm != "" || p.ExeName != "" {
		e.Object("process", (*program)(p))
	}
	if p.Container.ID != "" {
		e.Object("container", (*container)(&p.Container))
	}
}

type dialledEnd flow.SummaryRecord

func (s *dialledEnd) MarshalZerologObject(e *zerolog.Event) {
	appendAddr(e, "address", s.Address)
	(*programEnd)(&s.Server).MarshalZerologObject(e)
}

type program flow.Program

func (p *program) MarshalZerologObject(e *zerolog.Event) {
	if p.P != nil {
		addPID(e, p.P.PID)
		addCreation(e, p.P)
	}
	appendStr(e, "comm", p.Comm)
	if p.ExeName != "" {
		e.Object("executable", (*executableName)(&p.ExeName))
	}
	if p.HasUser {
		appendStr(e, "owner", p.Owner)
		e.Object("user", (*programUser)(p))
	}
}

type programUser flow.Program

func (p *programUser) MarshalZerologObject(e *zerolog.Event) { appendUserID(e, p.UID) }

type summaryBytes flow.SummaryRecord

func (s *summaryBytes) MarshalZerologObject(e *zerolog.Event) {
	e.Uint64("client_to_server", s.C2S)
	e.Uint64("server_to_client", s.S2C)
}

type handshake flow.Handshake

func (h *handshake) MarshalZerologObject(e *zerolog.Event) {
	appendDuration(e, "p50", h.P50)
	appendDuration(e, "p90", h.P90)
	appendDuration(e, "p99", h.P99)
	appendDuration(e, "max", h.Max)
}
