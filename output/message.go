// SPDX-License-Identifier: Apache-2.0

package output

import "github.com/looptrace/looptrace/tracer/flow"

// message appends a record as one plain sentence: who did what, and the notes that the text output has
// too. Points in time are in UTC, as in the fields beside it.
func (w *words) message(dst []byte, r *flow.Record) []byte {
	*w = words{dst: dst, now: r.Time}
	switch {
	case r.Sock != nil:
		w.sockHead(r)
		w.sep = headSep(r)
	case r.Conn != nil:
		w.connHead(r)
		w.sep = headSep(r)
	case r.Summary != nil:
		w.summaryHead(r)
		w.sep = headSep(r)
	case r.Start != nil:
		w.str("looptrace ")
		w.foreign(r.Start.Version)
		w.str(" started")
		w.sep = ": "
	case r.Lost != nil:
		w.lostHead(r.Lost)
		w.sep = " "
	case r.Stop != nil:
		w.str("looptrace stopped")
		w.sep = ", "
	default:
		w.str(r.Event)
	}
	w.details(r)
	return w.dst
}

// headSep leads from what happened to its notes: after a failure they say why.
func headSep(r *flow.Record) string {
	if r.Failed() {
		return ": "
	}
	return ", "
}

func (w *words) sockHead(r *flow.Record) {
	w.actor(&r.Sock.Process)
	w.str(sockVerb(r))
	w.socket(r)
}

func sockVerb(r *flow.Record) string {
	switch {
	case r.Event == "release":
		return " released "
	case r.Event == "listen" && r.Errno != 0:
		return " could not listen on "
	case r.Event == "listen":
		return " listens on "
	case r.Errno != 0:
		return " could not bind "
	case r.Preexisting:
		return " is bound to "
	default:
		return " bound "
	}
}

func (w *words) connHead(r *flow.Record) {
	c := r.Conn
	switch {
	case r.Event == "accept":
		w.actor(&c.Server.Process)
		w.str(" accepted ")
		w.client(&c.Client)
		w.str(" on ")
		w.endpoint(c.Server.Address, c.Server.Port, r.Proto)
		return
	case r.Event == "close" && r.Proto == flow.UDP:
		w.str("the flow of ")
		w.client(&c.Client)
		w.str(" to ")
	case r.Event == "close":
		w.str("the connection of ")
		w.client(&c.Client)
		w.str(" to ")
	default:
		w.client(&c.Client)
		w.str(connectVerb(r))
	}
	w.endpoint(c.Server.Address, c.Server.Port, r.Proto)
	if hasServer(c) {
		w.str(serverWord(c))
		w.server(&c.Server)
	}
	if r.Event == "close" {
		w.str(" ended")
	}
}

func serverWord(c *flow.ConnRecord) string {
	if c.Server.Process.P == nil {
		return ", "
	}
	return " of "
}

func connectVerb(r *flow.Record) string {
	switch {
	case isRefusal(r):
		return " was refused by "
	case r.Errno != 0:
		return " could not connect to "
	case r.Preexisting:
		return " is connected to "
	case r.Proto == flow.UDP:
		return " sent its first datagram to "
	default:
		return " connected to "
	}
}

func (w *words) lostHead(l *flow.LostRecord) {
	w.uint(l.Count)
	if l.Count == 1 {
		w.str(" event")
	} else {
		w.str(" events")
	}
}
