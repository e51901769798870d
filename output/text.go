// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"io"
	"time"
	"unicode/utf8"

	"github.com/looptrace/looptrace/tracer/flow"
)

// Widths of the columns: what most lines need. A longer value pushes the rest of its own line to the right.
const (
	eventWidth   = 8  // longest: "connect", "release", and a space
	whoWidth     = 26 // "python3.12[1234567]:51234", "nginx[812] (4f1c0d2e4f1c)"
	addressWidth = 22 // "127.0.0.1:49342/udp", "255.255.255.255:65535"
)

// TextOptions are what a terminal decides. The zero value is for a pipe.
type TextOptions struct {
	Color    bool           // styles; nothing is said by them alone
	Location *time.Location // of the times; nil: local
	Today    time.Time      // records of another day than this have its date before the time; zero: none has
}

// Text writes records as aligned lines for people. It is for one goroutine.
type Text struct {
	out     buffer
	words   words
	options TextOptions
}

// NewText returns a Text that writes to w. Nothing reaches w before Flush, or before 256 KiB are gathered.
func NewText(w io.Writer, opts TextOptions) *Text {
	if opts.Location == nil {
		opts.Location = time.Local
	}
	return &Text{out: buffer{w: w}, options: opts}
}

// Write adds one record, and keeps nothing of it. The error is the underlying writer's, which may have come with an
// earlier record.
func (t *Text) Write(r *flow.Record) error {
	w := &t.words
	*w = words{dst: t.out.buf, loc: t.options.Location, now: r.Time, color: t.options.Color, colon: ": "}
	w.dated = !t.options.Today.IsZero() && !sameDay(r.Time.In(w.loc), t.options.Today.In(w.loc))
	w.line(r)
	t.out.buf = append(bytes.TrimRight(w.dst, " "), '\n')
	return t.out.full()
}

// Flush writes out what is gathered.
func (t *Text) Flush() error { return t.out.flush() }

// line is: time, event, who, address, notes. Of a connection, who is the client, the address the server's, and the
// server the first note.
func (w *words) line(r *flow.Record) {
	w.style(styleDim)
	layout := clockLayout
	if w.dated {
		layout = "2006-01-02 " + clockLayout
	}
	w.dst = r.Time.In(w.loc).AppendFormat(w.dst, layout)
	w.style(styleNone)
	w.str("  ")
	w.event(r)
	who := len(w.dst)
	switch {
	case r.Sock != nil:
		w.who(&r.Sock.Process)
		w.pad(who, whoWidth)
		w.address("   ", r)
	case r.Conn != nil:
		w.client(&r.Conn.Client)
		w.pad(who, whoWidth)
		w.address(" → ", r)
		w.lineServer(r.Conn)
	case r.Summary != nil:
		w.countedEnd(&r.Summary.Client)
		w.pad(who, whoWidth)
		w.str(" → ")
		w.summaryServer(r)
	case r.Start != nil:
		w.str("looptrace ")
		w.foreign(r.Start.Version)
		w.sep = ", "
	case r.Lost != nil:
		w.lostHead(r.Lost)
		w.sep = " "
	case r.Stop != nil:
		w.str("looptrace")
		w.sep = " "
	}
	w.details(r)
}

func (w *words) who(a *flow.Actor) {
	if a.P == nil {
		w.str("unknown")
		return
	}
	w.actor(a)
}

func (w *words) event(r *flow.Record) {
	w.styled(styleBold, r.Event)
	for n := len(r.Event); n < eventWidth; n++ {
		w.str(" ")
	}
	w.str(" ")
}

func (w *words) address(before string, r *flow.Record) {
	w.str(before)
	column := len(w.dst)
	if r.Sock != nil {
		w.socket(r)
	} else {
		w.endpoint(r.Conn.Server.Address, r.Conn.Server.Port, r.Proto)
	}
	w.pad(column, addressWidth)
	w.str("  ")
}

func (w *words) lineServer(c *flow.ConnRecord) {
	if hasServer(c) {
		w.note("")
		w.server(&c.Server)
	}
}

// pad fills what was written since column up to width. Characters of double width are rare in names of programs, and
// only move the rest of their line.
func (w *words) pad(column, width int) {
	for _, b := range w.dst[column:] {
		if utf8.RuneStart(b) {
			width--
		}
	}
	for ; width > 0; width-- {
		w.str(" ")
	}
}
