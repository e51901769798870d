// SPDX-License-Identifier: Apache-2.0

package output

import (
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

// finding is a sentence without its full stop.
func (w *words) finding(f *flow.Finding) {
	w.sep = ", "
	switch f.Kind {
	case flow.FindServer:
		w.role(f, " a server's port: ", " listens there", " listened there")
	case flow.FindBound:
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
	if own := w.inquiry.Host.Netns; own != 0 && f.Record.Netns != own {
		w.str(" of another network namespace")
	}
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
	w.str(", until ")
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

// gotPort is how a holder got the port.
func (w *words) gotPort(f *flow.Finding) {
	w.actor(&f.Process)
	if f.From.IsZero() {
		w.note("since before anybody watched")
	} else {
		w.note("since ")
		w.when(f.From)
		if !f.Then {
			w.str(" (")
			w.duration(w.now.Sub(f.From))
			w.str(")")
		}
	}
	b := f.Other
	switch {
	case b == nil:
		w.note("how it got the port nobody saw")
	case b.Sock.HasRequested && b.Sock.Requested.Port() == 0:
		w.note("asked for any port, and the kernel picked this one")
	case b.Sock.HasRequested:
		w.note("asked for this port")
	case b.Sock.Ephemeral:
		w.note("never called bind(): the kernel picked the port")
	}
}

func (w *words) processLine(f *flow.Finding) {
	p := f.Process.P
	if p.CommandLine != "" {
		w.command(p.CommandLine)
	} else {
		w.foreign(p.Name())
	}
	w.sep = "; "
	switch {
	case p.Owner != "":
		w.note("user ")
		w.foreign(p.Owner)
	default:
		w.note("user ")
		w.uint(uint64(p.UID))
	}
	w.sep = ", "
	if p.Unit != "" {
		w.note("unit ")
		w.foreign(p.Unit)
	}
	if p.Container.ID != "" {
		w.note("container")
		w.container(&f.Process)
	}
	w.ancestry(p.Ancestors)
}

func (w *words) command(line string) {
	short := cutText(line, maxCommand)
	w.dst = Escape(w.dst, short)
	if len(short) < len(line) {
		w.str("…")
	}
}

// maxCommand is how much of a command line a page has room for.
const maxCommand = 120

// ancestry is the line of ancestors, to the top.
func (w *words) ancestry(up []flow.Ancestor) {
	for i, a := range up {
		if i == 0 {
			w.note("started by ")
		} else {
			w.str(" < ")
		}
		w.ancestor(a)
	}
}

func (w *words) reach(f *flow.Finding) {
	if f.Why == "" {
		w.str("loopback only: nothing outside this machine reaches it")
		return
	}
	w.str("open to the network: it listens on ")
	w.target(f)
	if f.Level == flow.Warn {
		w.note("a port that the kernel picked")
	}
}

func (w *words) origin(f *flow.Finding) {
	p := f.Process.P
	switch f.Why {
	case flow.OriginTerminal:
		w.str("started from your own session, below ")
		w.ancestor(f.Ancestor)
		return
	case flow.OriginContainer:
		w.str("runs in a container")
		w.container(&f.Process)
		return
	case flow.OriginUnit:
		w.str("started by unit ")
		w.foreign(p.Unit)
		return
	case flow.OriginSession:
		w.str("started from a session, ")
		w.foreign(p.Unit)
	case flow.OriginNowhere:
		w.str("out of nowhere: no unit, no session, and init is its parent")
	case flow.OriginOwn:
		w.str("started by your user, and not from this terminal")
	}
	if p.UID != w.inquiry.Host.UID {
		if f.Why != flow.OriginOtherUser {
			w.note("")
		}
		w.str("of another user")
		if p.Owner != "" {
			w.note("")
			w.foreign(p.Owner)
		}
	}
}

func (w *words) seen(f *flow.Finding) {
	switch f.Why {
	case "port":
		w.str("its program had this port before, ")
		w.times(f.Count)
		w.str(" since ")
		w.when(f.From)
	case "machine":
		w.str("its program was first seen on this machine at ")
		w.when(f.From)
	default:
		w.str("its program was never seen before; the store remembers since ")
		w.when(f.From)
	}
}

func (w *words) times(n uint64) {
	if n == 1 {
		w.str("once")
		return
	}
	w.uint(n)
	w.str(" times")
}

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
}

func (w *words) visitor(f *flow.Finding, one, many string) {
	if w.morePrograms(f) {
		return
	}
	w.visitorName(f)
	w.str(": ")
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

// occasions is when it happened, and at which pace.
func (w *words) occasions(f *flow.Finding) {
	if f.Count > 1 && !f.Until.Equal(f.From) {
		w.note("first ")
		w.when(f.From)
		w.note("last ")
		w.when(f.Until)
	} else {
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
	if every >= time.Second {
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

func (w *words) oddity(f *flow.Finding) {
	switch f.Kind {
	case flow.FindTaken:
		w.actor(&f.Other.Sock.Process)
		w.str(" let go of the port at ")
		w.when(f.From)
		w.note("")
		w.actor(&f.Process)
		w.str(" took it ")
		w.duration(f.Every)
		w.str(" later")
		if f.Why == flow.HolderConnection {
			w.str(" as the source port of a connection")
		}
		w.note("and ")
		w.actor(&f.Record.Sock.Process)
		w.str(" asked for it at ")
		w.when(f.Until)
		w.str(" in vain")
	case flow.FindElsewhere:
		w.actor(&f.Process)
		w.str(listens(f))
		w.target(f)
		switch f.Why {
		case "family":
			w.str(": the other address family, another server for localhost")
		case "netns":
			w.str(" in another network namespace (")
			w.uint(uint64(f.Record.Netns))
			w.str("), which this address does not reach")
		default:
			w.str(": another address")
		}
	case flow.FindLocalhost:
		w.str("one name, two servers: ")
		w.target(f)
		w.str(" is ")
		w.actor(&f.Process)
		w.str("'s, and ")
		w.endpoint(w.inquiry.Targets[0].Addr, f.Target.Port, f.Record.Proto)
		w.str(" is ")
		w.actor(&f.Other.Sock.Process)
		w.str("'s")
	case flow.FindShadowed:
		w.actor(&f.Process)
		w.str(listens(f))
		w.endpoint(f.Record.Sock.Address, f.Record.Port, f.Record.Proto)
		w.str(" too, and gets no connection to ")
		w.target(f)
		w.str(": that is ")
		w.actor(&f.Other.Sock.Process)
		w.str("'s, whose address is more specific")
	case flow.FindSelf:
		w.actor(&f.Process)
		w.str(" is connected to itself: it dialled a port that nobody had, and the kernel gave it the same as its own")
	case flow.FindNotListening:
		w.actor(&f.Process)
		w.str(" has bound the port and never called listen(): clients are refused, and lists of listeners do not show it")
	case flow.FindUnaccepted:
		w.uint(f.Count)
		w.str(" connections ended that no process had accepted, the last at ")
		w.when(f.Until)
	case flow.FindOwners:
		w.uint(f.Count)
		w.str(" programs in turn were given this port by the kernel: the number says nothing of who is next")
	case flow.FindPicked:
		w.str("the kernel picked the port for this run: the next has another")
	}
}

func listens(f *flow.Finding) string {
	if f.Then {
		return " listened on "
	}
	return " listens on "
}

func (w *words) advice(f *flow.Finding) {
	if f.Command != "" {
		w.str(f.Command)
		w.str("   ")
	}
	switch f.Why {
	case flow.AdviceFree:
		w.str("frees the port: it ends ")
		w.actor(&f.Process)
	case flow.AdviceWait:
		w.str("wait until ")
		w.when(f.Until)
		w.str(": the kernel frees it by itself; a server that sets SO_REUSEADDR need not wait")
	case flow.AdviceStart:
		w.str("starts what listened there")
		if f.Command == "" && f.Process.P.CommandLine != "" {
			w.str(": ")
			w.command(f.Process.P.CommandLine)
		}
	case flow.AdviceLook:
		w.str("asks about the other end")
	case flow.AdviceExposed:
		w.str("let ")
		w.actor(&f.Process)
		w.str(" listen on 127.0.0.1, if the network is not to reach it")
	case flow.AdviceFamily:
		w.str("give clients the address, 127.0.0.1 or [::1], in place of localhost")
	case flow.AdviceRecord:
		w.str("remembers from then on")
	}
}

func (w *words) known(f *flow.Finding) {
	switch {
	case w.inquiry.Looked && f.From.IsZero():
		w.str("the live state alone: there is no store")
	case w.inquiry.Looked:
		w.str("the live state, and the store since ")
		w.when(f.From)
	default:
		w.str("the store alone, since ")
		w.when(f.From)
	}
	if f.Count > 0 {
		w.note("")
		w.uint(f.Count)
		w.str(" older records of this port were not looked at")
	}
}
