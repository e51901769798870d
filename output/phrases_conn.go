// SPDX-License-Identifier: Apache-2.0

package output

import "github.com/looptrace/looptrace/tracer/flow"

func (w *words) connDetails(r *flow.Record) {
	c := r.Conn
	switch r.Event {
	case "connect":
		w.connectDetails(r)
	case "accept":
		if c.Duration >= 0 {
			w.note("waited ")
			w.duration(c.Duration)
		}
		if c.Listener.P != nil {
			w.note("")
			w.actor(&c.Listener)
			w.str(" called listen()")
		}
	case "close":
		w.closeDetails(r)
	}
}

func (w *words) connectDetails(r *flow.Record) {
	c := r.Conn
	if isRefusal(r) {
		w.refusal(c)
		return
	}
	if c.Self {
		w.warning("to itself")
	}
	if r.Proto == flow.TCP && !r.Preexisting && c.Duration >= 0 {
		if r.Errno == 0 {
			w.note("in ")
		} else {
			w.note("after ")
		}
		w.duration(c.Duration)
	}
	if c.Retransmits > 0 {
		w.note("")
		w.style(styleYellow)
		w.str("SYN sent ")
		w.uint(uint64(c.Retransmits) + 1)
		w.str(" times")
		w.style(styleNone)
	}
	w.acceptQueue(c.AcceptQueue)
	w.ephemeralPorts(c.EphemeralPorts)
}

func (w *words) acceptQueue(q *flow.AcceptQueue) {
	if q == nil {
		return
	}
	if q.Length > q.Limit {
		w.warning("accept queue full: ")
	} else {
		w.note("accept queue: ")
	}
	w.uint(uint64(q.Length))
	w.str(" waiting, limit ")
	w.uint(uint64(q.Limit))
}

// refusal says who used to listen where nobody does, and who listens close by.
func (w *words) refusal(c *flow.ConnRecord) {
	const most = 3
	if l := c.LastListener; l != nil {
		w.note("")
		w.actor(&l.Process)
		w.str(" listened there")
		if !l.Until.IsZero() {
			w.str(" until ")
			w.when(l.Until)
		}
		w.ended(l.Reason, l.Exit)
	} else {
		w.note("no listener known there")
	}
	for i := range c.Nearby[:min(len(c.Nearby), most)] {
		n := &c.Nearby[i]
		if i == 0 {
			w.note("but ")
		} else {
			w.note("")
		}
		w.actor(&n.Process)
		w.str(" listens on ")
		w.addrPort(n.Address, n.Port)
		if n.Because == "netns" {
			w.str(" in another network namespace")
		}
	}
	w.more(len(c.Nearby) - most)
}

func (w *words) closeDetails(r *flow.Record) {
	c := r.Conn
	if c.Duration >= 0 {
		w.note("after ")
		w.duration(c.Duration)
	}
	if c.HasBytes {
		w.note("")
		w.size(c.C2S)
		w.str(" to server")
		w.note("")
		w.size(c.S2C)
		w.str(" back")
	}
	switch c.ClosedBy {
	case "client":
		w.note("closed by client")
	case "server":
		w.note("closed by server")
	}
	if c.Reset {
		w.warning("reset")
	}
	if r.Proto == flow.TCP && !c.Accepted {
		w.warning("never accepted")
	}
}
