// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"time"
)

// ObserveInUse takes a bind or a listen of TCP that failed with EADDRINUSE, and what the call itself
// found in its way in the kernel's bind table; Sock 0: it was gone by then.
func (t *Table) ObserveInUse(ev *SockEvent, way *HeldRow) {
	if way.Sock == 0 {
		t.ObserveSock(ev)
		return
	}
	t.now = ev.Time
	h, sure := t.inWay(ev, way)
	if sure {
		t.tellFailed(ev, h, nil)
		return
	}
	if a := t.known(ev.Netns, ev.Time); a != nil && a.Time >= ev.Time {
		t.tellFailed(ev, t.ownInWay(h, way, ev, a), a)
	} else if !t.wait(doubt{sock: *ev, holder: h, way: *way}) {
		t.tellFailed(ev, h, nil)
	}
}

// SetJiffy says how long a jiffy is: the kernel counts what is left of a TIME_WAIT in those.
func (t *Table) SetJiffy(d time.Duration) { t.jiffy = d }

// inWay makes the holder of what was in the way. Not sure: which process has it open is a question for
// the table of open files; until that is answered it is the one that the calls name, if no other can
// have got it since.
func (t *Table) inWay(ev *SockEvent, way *HeldRow) (h *Holder, sure bool) {
	h = &Holder{Kind: heldKinds[way.rank()], Address: addrOf(way.Local), Port: way.LPort}
	switch h.Kind {
	case HolderListener, HolderBound:
		k := t.socks[way.ID]
		if k == nil {
			return h, false // its own event is on its way, or was lost
		}
		h.Address, h.Process = k.addr, k.standing() // as its records have it: a connection that failed narrows it
		if since, ok := k.heldAs(h.Kind); ok {
			h.Since = t.wall(since)
		}
		return h, h.Process.P != nil // else it was its parent's, which is gone
	case HolderConnection:
		h.State = way.stateName()
		h.Peer = netip.AddrPortFrom(addrOf(way.Remote), way.RPort)
		h.Process = t.named(way, ev.Time)
		if since, ok := t.connectedSince(way); ok {
			h.Since = t.wall(since)
		}
		if way.Flags&FlagOrphan != 0 {
			h.Process = Actor{}
			return h, true
		}
		return h, false
	default:
		if left := time.Duration(way.Expires-way.Jiffies) * t.jiffy; left > 0 {
			h.Expires = left
		}
		t.lastOwner(h, way)
		return h, true
	}
}

// heldAs gives since when a socket holds its port in this way.
func (k *sock) heldAs(kind string) (since uint64, ok bool) {
	if kind == HolderListener {
		return k.listenSince, k.listening && !k.preexisting
	}
	return k.since, !k.preexisting
}

// lastOwner says who left a TIME_WAIT behind, and when, where that was seen.
func (t *Table) lastOwner(h *Holder, way *HeldRow) {
	if w := t.waitOf(way); w != nil {
		h.Process, h.Since = w.proc, t.wall(w.since)
	} else if since, ok := way.began(); ok {
		h.Process, h.Since = t.process(way.Known, [16]byte{}), t.wall(since)
	}
}

func (t *Table) connectedSince(way *HeldRow) (uint64, bool) {
	if l := t.endOf(way); l != nil {
		return l.conn.ev.Time, !l.conn.preexisting
	}
	return way.began()
}

// named gives the process that the calls name as a connection's, if it lived when the port was asked for,
// had no child in between that would have the socket too, and nobody was given any.
func (t *Table) named(way *HeldRow, at uint64) Actor {
	known := t.process(way.Known, [16]byte{})
	if l := t.endOf(way); l != nil {
		end := &l.conn.client
		if l == &l.conn.serverLink {
			end = &l.conn.server
			if !l.conn.accepted && !l.conn.preexisting {
				return Actor{}
			}
		}
		known = end.Process
		known.Short, known.Thread = false, ""
	}
	if known.P == nil || known.Attribution == "shared" {
		return Actor{}
	}
	since, ok := t.connectedSince(way)
	if !ok || known.P.forked >= since || t.passedAt >= since || !known.P.Exited.IsZero() && !known.P.Exited.After(t.wall(at)) {
		return Actor{}
	}
	return known
}

// ownInWay completes a holder with what the table of open files says of its socket, if that is still the
// same one.
func (t *Table) ownInWay(h *Holder, way *HeldRow, ev *SockEvent, a *Answer) *Holder {
	if a == nil {
		return h
	}
	rows := a.byPort[heldKey{way.Proto, way.LPort}]
	i := slices.IndexFunc(rows, func(row *HeldRow) bool {
		return row.Sock == way.Sock && row.Local == way.Local && row.Remote == way.Remote && row.RPort == way.RPort
	})
	if i < 0 {
		return h
	}
	if h.Kind != HolderConnection {
		if t.socks[rows[i].ID] != nil {
			way.ID = rows[i].ID
			if known, sure := t.inWay(ev, way); sure {
				return known
			}
			t.heldAsFound(t.socks[way.ID], t.ownerOf(a, way, ev.Time))
		}
		h.Process = t.ownerOf(a, way, ev.Time)
		return h
	}
	owner := t.ownerOf(a, way, ev.Time)
	switch {
	case owner.P == nil:
	case owner.P == h.Process.P && owner.Attribution != "shared": // as the calls name it
	default:
		h.Process = t.confirmed(way, owner)
	}
	return h
}

// heldAsFound lets the ledger know who holds a socket, before the next look does.
func (t *Table) heldAsFound(k *sock, owner Actor) {
	switch {
	case owner.P == nil:
	case owner.Holders != nil:
		t.rehold(k, owner.Holders)
	default:
		t.rehold(k, []Actor{owner})
	}
}

// confirmed gives the calls' name of an end that the table of open files found with the same process.
func (t *Table) confirmed(way *HeldRow, owner Actor) Actor {
	if l := t.endOf(way); l != nil {
		return l.conn.confirm(l, owner)
	}
	if known := t.process(way.Known, [16]byte{}); known.P == owner.P && owner.Attribution != "shared" {
		return known
	}
	return owner
}
