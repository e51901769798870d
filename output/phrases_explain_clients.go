// SPDX-License-Identifier: Apache-2.0

package output

import (
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

func (w *words) morePrograms(f *flow.Finding) bool {
	if f.Why != "more" {
		return false
	}
	w.str("and ")
	w.uint(f.Count)
	w.str(" more programs")
	return true
}

// visitorName is the program where there were many processes of it, else the process.
func (w *words) visitorName(f *flow.Finding) {
	switch {
	case !f.Process.Known():
		w.str("an unknown process")
	case f.Ancestor.PID != 0 || f.Process.P.PID == 0:
		w.foreign(f.Process.P.Name())
		w.container(&f.Process)
	default:
		w.actor(&f.Process)
	}
	w.elsewhere(f)
}

func (w *words) visitor(f *flow.Finding, one, many string) {
	if w.morePrograms(f) {
		return
	}
	w.visitorName(f)
	w.str(": ")
	w.atLeast(f)
	w.uint(f.Count)
	if f.Count == 1 {
		w.str(" " + one)
	} else {
		w.str(" " + many)
	}
	w.occasions(f)
	if f.HasBytes {
		w.traffic(f)
	}
}

// atLeast: the store has more than was looked at.
func (w *words) atLeast(f *flow.Finding) {
	if w.inquiry.Partial && ofPastVisits(f) {
		w.str("at least ")
	}
}

// occasions is when it happened, and at which pace.
func (w *words) occasions(f *flow.Finding) {
	switch several := f.Count > 1 && !f.Until.Equal(f.From); {
	case w.inquiry.Partial && ofPastVisits(f):
		w.note("last ")
		w.when(f.Until)
	case several:
		w.note("first ")
		w.when(f.From)
		w.note("last ")
		w.when(f.Until)
	default:
		w.note("at ")
		w.when(f.Until)
	}
	if f.Every > 0 {
		w.note("every ")
		w.duration(f.Every.Round(pace(f.Every)))
	}
	if f.Ancestor.PID != 0 {
		w.note("each time another process of ")
		w.ancestors(f.Process.P, f.Ancestor)
	}
}

// pace is how exact a beat is told: timers are late by some milliseconds.
func pace(every time.Duration) time.Duration {
	if every >= 10*time.Second {
		return 100 * time.Millisecond
	}
	return 10 * time.Millisecond
}

func (w *words) ancestors(p *flow.Process, first flow.Ancestor) {
	const most = 4
	if len(p.Ancestors) == 0 {
		w.ancestor(first)
		return
	}
	for i, a := range p.Ancestors[:min(len(p.Ancestors), most)] {
		if i > 0 {
			w.str(" < ")
		}
		w.ancestor(a)
	}
}

// failed is a failure of a program, with the last time's cause.
func (w *words) failed(f *flow.Finding) {
	if w.morePrograms(f) {
		return
	}
	w.visitorName(f)
	w.str(": ")
	w.atLeast(f)
	w.times(f.Count)
	w.occasions(f)
	r := f.Record
	w.sep = ": "
	switch {
	case r.Conn != nil && isRefusal(r):
		w.refusal(r.Conn)
	case r.Sock != nil && r.Sock.Holder != nil:
		w.holder(r.Sock)
	case r.Sock != nil && r.Sock.EphemeralPorts != nil:
		w.ephemeralPorts(r.Sock.EphemeralPorts)
	case f.Kind == flow.FindInUse:
		w.note("who held it is not known")
	default:
		w.note("")
		if word := failureWord(r); word != "" {
			w.str(word)
		} else {
			w.dst = appendErrno(w.dst, r.Errno)
		}
	}
	w.sep = ", "
}

func (w *words) formerHolder(f *flow.Finding) {
	w.actor(&f.Process)
	w.elsewhere(f)
	if f.From.IsZero() {
		w.str(" since before anybody watched")
	} else {
		w.str(" from ")
		w.when(f.From)
	}
	if f.Then {
		w.note("last heard of ")
		w.when(f.Until)
		w.note("how it ended nobody saw")
		return
	}
	w.note("until ")
	w.when(f.Until)
	if s := f.Record.Sock; s != nil && f.Record.Event == "release" {
		w.ended(s.Reason, s.Exit)
	}
}
