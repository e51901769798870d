// SPDX-License-Identifier: Apache-2.0

package output

import "github.com/looptrace/looptrace/tracer/flow"

// countedEnd names one end of what a summary counts; of several processes there is no pid.
func (w *words) countedEnd(p *flow.Program) {
	switch {
	case p.P != nil:
		w.actor(&flow.Actor{P: p.P})
	case p.Comm != "":
		w.foreign(p.Comm)
	default:
		w.str("unknown")
	}
}

func (w *words) summaryHead(r *flow.Record) {
	s := r.Summary
	w.countedEnd(&s.Client)
	if r.Errno != 0 {
		w.str(" failed to connect to ")
	} else {
		w.str(" connected to ")
	}
	if s.Address.IsValid() {
		w.endpoint(s.Address, r.Port, r.Proto)
	} else {
		w.str("port ")
		w.uint(uint64(r.Port))
		if r.Proto == flow.UDP {
			w.str("/udp")
		}
	}
	if s.Server.Comm != "" {
		w.str(" of ")
		w.countedEnd(&s.Server)
	}
}

// summaryServer is the address column; without an address, the summary is of several.
func (w *words) summaryServer(r *flow.Record) {
	column := len(w.dst)
	if r.Summary.Address.IsValid() {
		w.endpoint(r.Summary.Address, r.Port, r.Proto)
	} else {
		w.str(":")
		w.uint(uint64(r.Port))
		if r.Proto == flow.UDP {
			w.str("/udp")
		}
	}
	w.pad(column, addressWidth)
	w.str("  ")
	if r.Summary.Server.Comm != "" {
		w.note("")
		w.countedEnd(&r.Summary.Server)
	}
}

func (w *words) summaryDetails(s *flow.SummaryRecord) {
	w.note("")
	w.uint(s.Count)
	if s.Count == 1 {
		w.str(" time")
	} else {
		w.str(" times")
	}
	if h := s.Handshake; h.Max > 0 {
		w.note("handshake p50 ")
		w.duration(h.P50)
		w.note("p99 ")
		w.duration(h.P99)
		w.note("max ")
		w.duration(h.Max)
	}
	if s.HasBytes {
		w.note("")
		w.size(s.C2S)
		w.str(" to server")
		w.note("")
		w.size(s.S2C)
		w.str(" back")
	}
}
