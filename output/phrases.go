// SPDX-License-Identifier: Apache-2.0

package output

import (
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/looptrace/looptrace/tracer/flow"
)

// details writes the notes of a record: everything but who did what to which address.
func (w *words) details(r *flow.Record) {
	switch {
	case r.Sock != nil:
		w.before(r)
		w.failure(r)
		w.sockDetails(r)
	case r.Conn != nil:
		w.before(r)
		w.failure(r)
		w.connDetails(r)
	case r.Summary != nil:
		w.failure(r)
		w.summaryDetails(r.Summary)
	case r.Start != nil:
		w.startDetails(r.Start)
	case r.Lost != nil:
		w.lostDetails(r.Lost)
	case r.Stop != nil:
		w.stopDetails(r.Stop)
	}
}

// before marks what was there before tracing began.
func (w *words) before(r *flow.Record) {
	if !r.Preexisting {
		return
	}
	switch r.Event {
	case "bind", "listen", "connect":
		w.note("already there")
	default:
		w.note("there before tracing began")
	}
}

// failure says why a call failed. What the head of a message says already is not repeated there.
func (w *words) failure(r *flow.Record) {
	if r.Errno == 0 {
		return
	}
	if w.colon == "" && isRefusal(r) {
		return
	}
	w.note("")
	w.style(styleRed)
	if word := failureWord(r); word != "" {
		w.str(word)
	} else {
		w.str("failed with ")
		w.dst = appendErrno(w.dst, r.Errno)
	}
	w.style(styleNone)
	if w.colon != "" && hasCause(r) {
		w.sep = w.colon
	}
}

// hasCause says whether the next note is why the call failed.
func hasCause(r *flow.Record) bool {
	switch {
	case r.Sock != nil:
		return r.Sock.Holder != nil || r.Sock.EphemeralPorts != nil
	case r.Conn != nil:
		return isRefusal(r) || r.Conn.EphemeralPorts != nil
	}
	return false
}

func isRefusal(r *flow.Record) bool {
	return r.Event == "connect" && syscall.Errno(r.Errno) == syscall.ECONNREFUSED
}

// failureWord is the errno in words; "" for one that nobody expects here, whose name says more.
func failureWord(r *flow.Record) string {
	switch syscall.Errno(r.Errno) {
	case syscall.EADDRINUSE:
		if r.Sock != nil && r.Sock.EphemeralPorts != nil {
			return "no free port"
		}
		return "in use"
	case syscall.EADDRNOTAVAIL:
		if r.Conn != nil && r.Conn.EphemeralPorts != nil {
			return "no free port"
		}
		return "address not available"
	case syscall.ECONNREFUSED:
		return "refused"
	case syscall.EACCES, syscall.EPERM:
		return "no permission"
	case syscall.ETIMEDOUT:
		return "timed out"
	case syscall.EHOSTUNREACH:
		return "host unreachable"
	case syscall.ENETUNREACH:
		return "network unreachable"
	case syscall.ECONNRESET:
		return "reset"
	case syscall.ECANCELED:
		return "abandoned"
	}
	return ""
}

func (w *words) startDetails(s *flow.StartRecord) {
	w.note("hooks ")
	w.foreign(s.Hooks)
	w.note("kernel ")
	w.foreign(s.Kernel)
	w.note("host ")
	w.foreign(s.Host)
	for _, name := range slices.Sorted(maps.Keys(s.Filters)) {
		w.note("")
		w.foreign(name)
		w.str("=")
		w.foreign(fmt.Sprint(s.Filters[name]))
	}
	w.note("without looptrace's own sockets")
}

func (w *words) lostDetails(l *flow.LostRecord) {
	w.note("")
	w.style(styleYellow)
	w.str("lost in ")
	w.foreign(l.Where)
	w.since(l.Since)
	w.style(styleNone)
}

func (w *words) stopDetails(s *flow.StopRecord) {
	w.note("ran ")
	w.duration(s.Duration)
	for _, event := range eventNames {
		if n := s.Counts[event]; n > 0 && event != "start" && event != "lost" && event != "stop" {
			w.note("")
			w.uint(n)
			w.str(" ")
			w.str(event)
		}
	}
	if s.Lost > 0 {
		w.note("")
		w.style(styleYellow)
		w.uint(s.Lost)
		w.str(" lost")
		w.style(styleNone)
		return
	}
	w.note("nothing lost")
}
