// SPDX-License-Identifier: Apache-2.0

package output

import (
	"io"

	"github.com/rs/zerolog"

	"github.com/looptrace/looptrace/tracer/flow"
)

// ecsVersion is the Elastic Common Schema whose names these are. None of them is newer than 8.11.
const ecsVersion = "8.11.0"

// ECS writes records as JSON lines with the names of the Elastic Common Schema. What that has no name for stands
// under `looptrace`, with the names that JSON gives it. It is for one goroutine.
//
// See https://www.elastic.co/guide/en/ecs/8.11/ecs-field-reference.html.
type ECS struct{ lines lines }

// NewECS returns an ECS that writes to w, buffered as NewJSON does it.
func NewECS(w io.Writer) *ECS {
	s := &ECS{}
	s.lines.open(w)
	return s
}

// Write adds one record, and keeps nothing of it. The error is the underlying writer's, which may have come with an
// earlier record.
func (s *ECS) Write(r *flow.Record) error { return s.lines.write(r, encodeECS) }

// Flush writes out what is gathered.
func (s *ECS) Flush() error { return s.lines.out.flush() }

// encodeECS begins with what ecs-logging wants first.
func encodeECS(l *lines, r, whole *flow.Record) {
	e := l.log.Log()
	appendTime(e, "@timestamp", r.Time)
	e.Object("log", (*ecsLog)(r))
	e.Bytes("message", l.message(whole))
	e.Object("ecs", ecsSchema{})
	e.Object("event", (*ecsEvent)(r))
	if r.Errno != 0 {
		e.Object("error", (*failure)(r))
	}
	switch {
	case r.Sock != nil:
		e.EmbedObject((*ecsSocket)(r))
	case r.Conn != nil:
		e.EmbedObject((*ecsConnection)(r))
	case r.Summary != nil:
		e.EmbedObject((*ecsSummary)(r))
	case r.Start != nil:
		e.EmbedObject((*ecsStart)(r.Start))
	case r.Lost != nil:
		e.Object("looptrace", (*lost)(r.Lost))
	case r.Stop != nil:
		e.Object("looptrace", (*stop)(r.Stop))
	}
	e.Send()
}

type ecsLog flow.Record

func (r *ecsLog) MarshalZerologObject(e *zerolog.Event) { e.Str("level", r.Level.String()) }

type ecsSchema struct{}

func (ecsSchema) MarshalZerologObject(e *zerolog.Event) { e.Str("version", ecsVersion) }

type ecsEvent flow.Record

func (r *ecsEvent) MarshalZerologObject(e *zerolog.Event) {
	e.Str("module", "looptrace")
	e.Str("dataset", "looptrace.records")
	e.Str("action", r.Event)
	e.Str("kind", r.kind())
	if r.Sock != nil || r.Conn != nil || r.Summary != nil {
		e.RawJSON("category", []byte(`["network"]`))
		e.RawJSON("type", r.types())
		if r.Errno == 0 {
			e.Str("outcome", "success")
		} else {
			e.Str("outcome", "failure")
		}
	}
	switch {
	case r.Conn != nil && r.timed():
		appendDuration(e, "duration", r.Conn.Duration)
	case r.Stop != nil:
		appendDuration(e, "duration", r.Stop.Duration)
	case r.Summary != nil:
		appendTime(e, "start", r.Summary.First)
		appendTime(e, "end", r.Summary.Last)
	}
}

// kind tells what happened from what was found and from what was counted.
func (r *ecsEvent) kind() string {
	switch {
	case r.Summary != nil:
		return "metric"
	case r.Preexisting && (r.Event == "listen" || r.Event == "bind" || r.Event == "connect"):
		return "state"
	default:
		return "event"
	}
}

// types are event.type: of what ECS has for the category network, where in a thing's life this stands.
func (r *ecsEvent) types() []byte {
	switch r.Event {
	case "connect":
		return []byte(`["connection","start"]`)
	case "accept", "summary":
		return []byte(`["connection","info"]`)
	case "close":
		return []byte(`["connection","end"]`)
	case "listen":
		return []byte(`["start"]`)
	case "release":
		return []byte(`["end"]`)
	default:
		return []byte(`["info"]`)
	}
}

// timed says whether the length of a connection record was seen: as in JSON, not that of a first datagram.
func (r *ecsEvent) timed() bool {
	return r.Event != "connect" || r.Proto == flow.TCP && !r.Preexisting
}

type ecsStart flow.StartRecord

func (s *ecsStart) MarshalZerologObject(e *zerolog.Event) {
	e.Object("agent", (*ecsAgent)(s))
	e.Object("host", (*ecsHost)(s))
	e.Object("process", (*ecsSelf)(s))
	e.Object("looptrace", (*ecsRun)(s))
}

type ecsAgent flow.StartRecord

func (s *ecsAgent) MarshalZerologObject(e *zerolog.Event) {
	e.Str("type", "looptrace")
	e.Str("version", s.Version)
}

type ecsHost flow.StartRecord

func (s *ecsHost) MarshalZerologObject(e *zerolog.Event) {
	e.Str("name", s.Host)
	e.Str("hostname", s.Host)
	e.Object("os", (*ecsOS)(s))
	e.Object("boot", (*ecsBoot)(s))
}

type ecsOS flow.StartRecord

func (s *ecsOS) MarshalZerologObject(e *zerolog.Event) {
	e.Str("type", "linux")
	e.Str("kernel", s.Kernel)
}

type ecsBoot flow.StartRecord

func (s *ecsBoot) MarshalZerologObject(e *zerolog.Event) { e.Str("id", s.BootID) }

type ecsSelf flow.StartRecord

func (s *ecsSelf) MarshalZerologObject(e *zerolog.Event) { e.Int("pid", s.PID) }

type ecsRun flow.StartRecord

func (s *ecsRun) MarshalZerologObject(e *zerolog.Event) {
	e.Str("hooks", s.Hooks)
	e.Int("schema_version", flow.SchemaVersion)
	addFilters(e, s.Filters)
	e.Bool("self_excluded", true)
}
