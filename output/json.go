// SPDX-License-Identifier: Apache-2.0

package output

import (
	"io"
	"strconv"

	"github.com/rs/zerolog"

	"github.com/looptrace/looptrace/tracer/flow"
)

const (
	// maxLine is the contract's longest line. It fits the pipe buffer's atomic writes four times and every log
	// shipper's default; a longer one gets split somewhere downstream.
	maxLine = 16 << 10
	// flushSize is how much is gathered before it is written without being asked: smaller costs a write(2) per
	// few records in a burst, larger only memory.
	flushSize = 256 << 10
)

// JSON writes records as the contract's JSON lines. It is for one goroutine.
type JSON struct{ lines lines }

// NewJSON returns a JSON that writes to w. Nothing reaches w before Flush, or before 256 KiB are gathered.
func NewJSON(w io.Writer) *JSON {
	j := &JSON{}
	j.lines.open(w)
	return j
}

// Write adds one record, and keeps nothing of it. The error is the underlying writer's, which may have come with an
// earlier record.
func (j *JSON) Write(r *flow.Record) error { return j.lines.write(r, encodeJSON) }

// Flush writes out what is gathered.
func (j *JSON) Flush() error { return j.lines.out.flush() }

// lines gathers records as JSON objects, one a line. The formats differ in how they encode one.
type lines struct {
	out   buffer
	log   zerolog.Logger
	words words
	text  []byte // the message of the record at hand

	ends      [2]end // of the record at hand
	processes processTexts
}

func (l *lines) open(w io.Writer) {
	l.out.w = w
	l.log = zerolog.New(&l.out)
	l.processes.open()
}

// write shortens a record until it fits a line. Encode gets what is to be written, and the whole record.
func (l *lines) write(r *flow.Record, encode func(l *lines, r, whole *flow.Record)) error {
	for cut := whole; ; cut++ {
		start := len(l.out.buf)
		encode(l, shorten(r, cut), r)
		if len(l.out.buf)-start <= maxLine || cut == shortest {
			return l.out.full()
		}
		l.out.buf = l.out.buf[:start]
	}
}

// message gives the record's sentence, until the next call.
func (l *lines) message(r *flow.Record) []byte {
	l.text = l.words.message(l.text[:0], r)
	return l.text
}

// encodeJSON builds the line with its keys in the order of the contract. The message is of the whole record: it counts what
// the other fields may have had to leave out, and is short by itself. The name of the level is written here and not by
// zerolog, whose names and formats a program that links this package may change for its own log.
func encodeJSON(l *lines, r, whole *flow.Record) {
	e := l.log.Log()
	appendTime(e, "time", r.Time)
	e.Str("level", r.Level.String())
	e.Str("event", r.Event)
	switch {
	case r.Sock != nil:
		e.EmbedObject((*traffic)(r))
		e.EmbedObject((*socket)(r))
	case r.Conn != nil:
		e.EmbedObject((*traffic)(r))
		texts := &l.processes
		if r != whole {
			texts = nil // a shortened process is a copy for this record alone
		}
		l.addEnds(e, r.Conn, texts)
		(*connection)(r).details(e)
	case r.Summary != nil:
		e.EmbedObject((*summary)(r))
	case r.Start != nil:
		e.EmbedObject((*start)(r.Start))
		e.Int("pid", r.Start.PID)
		e.Bool("self_excluded", true)
	case r.Lost != nil:
		e.EmbedObject((*lost)(r.Lost))
	case r.Stop != nil:
		e.EmbedObject((*stop)(r.Stop))
	}
	e.Bytes("message", l.message(whole))
	e.Send()
}

// buffer gathers whole lines. Its Write never fails, since zerolog would report that on stderr.
type buffer struct {
	w   io.Writer
	buf []byte
}

func (b *buffer) Write(p []byte) (int, error) {
	b.buf = append(b.buf, p...)
	return len(p), nil
}

func (b *buffer) full() error {
	if len(b.buf) < flushSize {
		return nil
	}
	return b.flush()
}

// flush drops what it could not write: a reader that went away must not make memory grow.
func (b *buffer) flush() error {
	if len(b.buf) == 0 {
		return nil
	}
	_, err := b.w.Write(b.buf)
	b.buf = b.buf[:0]
	return err
}

// The types below are views of a record's parts: a pointer that is converted to one, and that to an interface, costs no
// allocation. A view writes the fields of one JSON object.

type traffic flow.Record

func (t *traffic) MarshalZerologObject(e *zerolog.Event) {
	addID(e, (*flow.Record)(t))
	addResult(e, (*flow.Record)(t))
	e.Object("network", (*network)(t))
	if t.HasPort {
		e.Uint16("port", t.Port)
	}
	e.Uint32("netns", t.Netns)
	if t.Preexisting {
		e.Bool("preexisting", true)
	}
}

func addID(e *zerolog.Event, r *flow.Record) {
	var id [13]byte // 2^64 in base 36
	e.Bytes("id", strconv.AppendUint(id[:0], r.ID, 36))
}

func addResult(e *zerolog.Event, r *flow.Record) {
	if r.Errno == 0 {
		e.Str("outcome", "success")
		return
	}
	e.Str("outcome", "failure")
	e.Object("error", (*failure)(r))
}

type failure flow.Record

func (f *failure) MarshalZerologObject(e *zerolog.Event) {
	var name [16]byte
	e.Bytes("type", appendErrno(name[:0], f.Errno))
}

type network flow.Record

func (n *network) MarshalZerologObject(e *zerolog.Event) {
	e.Str("transport", transportName(n.Proto))
	if n.IPv6 {
		e.Str("type", "ipv6")
	} else {
		e.Str("type", "ipv4")
	}
}

func transportName(proto uint16) string {
	if proto == flow.UDP {
		return "udp"
	}
	return "tcp"
}

type start flow.StartRecord

func (s *start) MarshalZerologObject(e *zerolog.Event) {
	e.Str("hooks", s.Hooks)
	e.Str("kernel", s.Kernel)
	e.Str("version", s.Version)
	e.Int("schema_version", flow.SchemaVersion)
	addFilters(e, s.Filters)
	e.Object("host", (*host)(s))
	e.Str("boot_id", s.BootID)
}

func addFilters(e *zerolog.Event, filters map[string]any) {
	if len(filters) == 0 {
		e.RawJSON("filters", []byte("{}"))
		return
	}
	e.Interface("filters", filters)
}

type host flow.StartRecord

func (h *host) MarshalZerologObject(e *zerolog.Event) { e.Str("name", h.Host) }

type lost flow.LostRecord

func (l *lost) MarshalZerologObject(e *zerolog.Event) {
	e.Uint64("count", l.Count)
	e.Str("where", l.Where)
	appendTime(e, "since", l.Since)
}

type stop flow.StopRecord

func (s *stop) MarshalZerologObject(e *zerolog.Event) {
	e.Object("counts", (*counts)(s))
	e.Uint64("lost", s.Lost)
	appendDuration(e, "duration_ns", s.Duration)
}

type counts flow.StopRecord

func (c *counts) MarshalZerologObject(e *zerolog.Event) {
	for _, event := range eventNames {
		if n, ok := c.Counts[event]; ok {
			e.Uint64(event, n)
		}
	}
}

// eventNames has every kind of record in the order in which people think of them.
var eventNames = [...]string{"start", "bind", "listen", "release", "connect", "accept", "close", "summary", "lost", "stop"}
