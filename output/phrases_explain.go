// SPDX-License-Identifier: Apache-2.0

package output

import "github.com/looptrace/looptrace/tracer/flow"

// finding is a sentence without its full stop.
func (w *words) finding(f *flow.Finding) {
	w.sep = ", "
	switch f.Kind {
	case flow.FindServer:
		w.role(f, " a server's port: ", " listens there", " listened there")
	case flow.FindBound:
		if f.Record.Proto == flow.UDP {
			w.role(f, " bound: ", " takes datagrams there", " took datagrams there")
			return
		}
		w.role(f, " bound, and nobody listens: by ", "", "")
	case flow.FindClient, flow.FindReused:
		w.sourcePort(f)
	case flow.FindConnection:
		w.target(f)
		w.str(" has no listener any more: a connection holds it")
		if f.Process.Known() {
			w.str(", of ")
			w.actor(&f.Process)
		}
		w.since(f.From)
	case flow.FindTimeWait:
		w.timeWait(f)
	case flow.FindNobody:
		w.nobody(f)
	case flow.FindAddress:
		w.addressKind(f)
	case flow.FindHolder:
		w.gotPort(f)
	case flow.FindProcess:
		w.processLine(f)
	case flow.FindReach:
		w.reach(f)
	case flow.FindOrigin:
		w.origin(f)
	case flow.FindSeen:
		w.seen(f)
	case flow.FindConnected, flow.FindVisitor:
		w.visitor(f, "connection", "connections")
	case flow.FindRefused, flow.FindInUse, flow.FindFailed:
		w.failed(f)
	case flow.FindBefore:
		w.formerHolder(f)
	case flow.FindAdvice:
		w.advice(f)
	case flow.FindKnown:
		w.known(f)
	case flow.FindUnwatched, flow.FindLost, flow.FindFiltered:
		w.gap(f)
	default:
		w.oddity(f)
	}
}

func (w *words) target(f *flow.Finding) {
	proto := uint16(flow.TCP)
	if f.Record != nil {
		proto = f.Record.Proto
	}
	w.endpoint(f.Target.Addr, f.Target.Port, proto)
}

func (w *words) role(f *flow.Finding, what, does, did string) {
	if f.Why == "more" {
		w.str("and ")
		w.uint(f.Count)
		w.str(" more sockets have it")
		return
	}
	w.target(f)
	w.elsewhere(f)
	if f.Then {
		w.str(" was")
	} else {
		w.str(" is")
	}
	w.str(what)
	w.actor(&f.Process)
	if f.Then {
		w.str(did)
		w.span(f)
		return
	}
	w.str(does)
	w.byStore()
}

// elsewhere: the same port of another network namespace is another port.
func (w *words) elsewhere(f *flow.Finding) {
	if own := w.inquiry.Host.Netns; own != 0 && f.Record != nil && f.Record.Netns != 0 && f.Record.Netns != own {
		w.str(" of another network namespace")
	}
}

// byStore: what nobody looked at is what the store heard last.
func (w *words) byStore() {
	if !w.inquiry.Looked {
		w.note("as far as the store knows")
	}
}

// span is from when to when, as far as that was seen.
func (w *words) span(f *flow.Finding) {
	if !f.From.IsZero() {
		w.str(" from ")
		w.when(f.From)
	}
	if !f.Until.IsZero() {
		w.str(" to ")
		w.when(f.Until)
	}
}

func (w *words) sourcePort(f *flow.Finding) {
	if f.Record.Conn == nil { // a server's, later
		w.actor(&f.Process)
		w.str(" had it as a server's port")
		w.span(f)
		return
	}
	c := f.Record.Conn
	if f.Kind == flow.FindReused {
		w.str("the source port of ")
	} else {
		w.target(f)
		w.elsewhere(f)
		if f.Then {
			w.str(" was a client's source port: ")
		} else {
			w.str(" is a client's source port: ")
		}
	}
	w.actor(&f.Process)
	if f.Kind == flow.FindReused {
		w.str(", which dialled ")
	} else {
		w.str(" dialled ")
	}
	w.endpoint(c.Server.Address, c.Server.Port, f.Record.Proto)
	if f.Other != nil && f.Other.Conn != nil && hasServer(f.Other.Conn) {
		w.note("")
		w.server(&f.Other.Conn.Server)
	}
	w.span(f)
	if f.HasBytes {
		w.traffic(f)
	}
	if f.Kind == flow.FindClient {
		w.startedBy(&f.Process, f.Ancestor)
	}
}

func (w *words) traffic(f *flow.Finding) {
	w.note("")
	w.size(f.C2S)
	w.str(" to server")
	w.note("")
	w.size(f.S2C)
	w.str(" back")
}

func (w *words) startedBy(a *flow.Actor, up flow.Ancestor) {
	if !a.Known() || up.PID == 0 {
		return
	}
	w.note("started by ")
	w.ancestor(up)
}

func (w *words) ancestor(a flow.Ancestor) {
	if a.ExeName == "" {
		w.str("pid ")
		w.uint(uint64(a.PID))
		return
	}
	w.foreign(a.ExeName)
	w.str("[")
	w.uint(uint64(a.PID))
	w.str("]")
}

func (w *words) timeWait(f *flow.Finding) {
	w.str("a closed connection")
	if f.Process.Known() {
		w.str(" of ")
		w.actor(&f.Process)
	}
	if f.Count > 1 {
		w.str(" and ")
		w.uint(f.Count - 1)
		w.str(" more")
	}
	w.str(" (TIME_WAIT) keep")
	if f.Count <= 1 {
		w.str("s")
	}
	w.str(" ")
	w.target(f)
	w.str(" until ")
	w.when(f.Until)
}

func (w *words) nobody(f *flow.Finding) {
	w.str("nobody ")
	if f.Then {
		w.str("is known to have had ")
	} else {
		w.str("has ")
	}
	w.endpoint(f.Target.Addr, f.Target.Port, flow.TCP)
	if f.Then {
		w.str(" at ")
		w.when(w.inquiry.At)
	} else {
		w.str(" now")
		w.byStore()
	}
	if f.Record == nil {
		return
	}
	switch f.Why {
	case flow.FindClient:
		w.str("; last it was the source port of ")
	case flow.FindBound:
		w.str("; last bound was ")
	default:
		w.str("; the last to listen was ")
	}
	w.actor(&f.Process)
	w.elsewhere(f)
	if f.Unseen {
		w.str(", last heard of ")
	} else {
		w.str(", until ")
	}
	w.when(f.Until)
}

func (w *words) addressKind(f *flow.Finding) {
	switch a := f.Target.Addr; {
	case !a.IsValid():
		w.str("any address")
	case a.IsLoopback():
		w.str("loopback")
	default:
		w.str("not a loopback address")
	}
	host := &w.inquiry.Host
	if in, known := host.InRange(f.Target.Port); known {
		if in {
			w.note("in the range that the kernel picks from (")
		} else {
			w.note("not in the range that the kernel picks from (")
		}
		w.uint(uint64(host.Low))
		w.str("-")
		w.uint(uint64(host.High))
		w.str(")")
	}
	if f.Why != "" {
		w.note("registered for ")
		w.foreign(f.Why)
	} else {
		w.note("no well-known port")
	}
}
