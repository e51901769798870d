// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"time"
)

// States of a TCP socket (include/net/tcp_states.h).
const (
	stateEstablished = 1
	stateFinWait1    = 4
	stateFinWait2    = 5
	stateTimeWait    = 6
	stateClose       = 7
)

var stateNames = [...]string{
	"", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
	"LAST_ACK", "LISTEN", "CLOSING",
}

// HeldRow is a socket that holds a port: one row for each process that has it open, and one of the
// TCP tables without Owner. It has the layout of its C twin in bpf/event.h.
type HeldRow struct {
	Sock    uint64 // the same in all rows of a socket
	ID      uint64 // of its records; 0: it has none
	Expires uint64 // TIME_WAIT: when it ends, in jiffies
	Jiffies uint64 // when the row was written
	Owner   Owner
	Since   uint64    // when a connection became what it is; 0: no hook saw it
	Known   ProcessID // whose end it is, or was last, by the calls
	Local   [16]byte
	Remote  [16]byte
	LPort   uint16
	RPort   uint16
	Proto   uint16
	Flags   uint16
	Netns   uint32
	State   uint32
}

// heldRank orders holders as a person would name them: who listens before who is bound, a
// connection, what is left of one.
func (row *HeldRow) rank() int {
	switch {
	case row.State == StateListen:
		return 0
	case row.Proto == UDP || row.State == stateClose:
		return 1
	case row.State != stateTimeWait:
		return 2
	default:
		return 3
	}
}

var heldKinds = [...]string{HolderListener, HolderBound, HolderConnection, HolderTimeWait}

// blocks says whether the socket is in the way of a bind to addr (inet_csk_bind_conflict, udp_lib_lport_inuse).
func (row *HeldRow) blocks(ev *SockEvent, addr netip.Addr) bool {
	only := row.Flags&FlagV6Only != 0 || row.rank() > 1
	if !overlap(addr, ev.Flags&FlagV6Only != 0, addrOf(row.Local), only) {
		return false
	}
	both := row.Flags & ev.Flags
	if both&FlagReusePort != 0 && (row.Owner.PID == 0 || row.Owner.UID == ev.Actor.UID) {
		return false
	}
	return both&FlagReuse == 0 || row.State == StateListen
}

// judge weighs what the ledger knew as the call failed against the kernel's tables a little later; nil:
// they could not be asked. A connection that they have too is the holder, and so is one that has ended
// meanwhile; one that the ledger only thinks is there is not. With SO_REUSEADDR some are in the way
// and some are not, which only the tables tell.
func (t *Table) judge(known *Holder, a *Answer, ev *SockEvent, addr netip.Addr) *Holder {
	picky := ev.Flags&FlagReuse != 0
	if number, _ := wanted(ev); ev.Error != eaddrinuse || number == 0 {
		return nil
	}
	switch {
	case known != nil && t.plain(known, ev):
		return known
	case a == nil && known != nil && (picky && known.Kind != HolderBound || t.mayBeOver(known.conn, a, ev.Time)):
		return nil // of bound sockets the ledger knows the option
	case a == nil:
		return known
	case known != nil && known.Kind == HolderBound:
		if row := a.socketOf(known, ev.Proto); row == nil || row.rank() < 2 && row.blocks(ev, addr) {
			return known // or it has let go since
		}
	}
	alive := false
	if known != nil && known.conn != 0 && !t.mayBeOver(known.conn, a, ev.Time) {
		row := a.rowOf(known, ev.Proto)
		if row != nil && row.blocks(ev, addr) {
			known.State = row.stateName()
			if l := t.endOf(row); l != nil {
				known.Process = l.conn.confirm(l, t.ownerOf(a, row, ev.Time))
			}
			return known
		}
		alive = row != nil || t.conns[known.conn] != nil
	}
	if h := t.holderFrom(a, ev, addr, known != nil); h != nil && (known == nil || known.conn == 0 || alive) {
		return h
	}
	if alive || picky || known != nil && t.mayBeOver(known.conn, a, ev.Time) {
		return nil
	}
	return known
}

// mayBeOver: where the client has closed its socket before anyone accepted the connection, it may have
// reset it. That is told when the other end has left it too; an answer that is older than the call does
// not know either.
func (t *Table) mayBeOver(id uint64, a *Answer, at uint64) bool {
	c := t.conns[id]
	return c != nil && c.clientGone && !c.accepted && (a == nil || a.Time < at)
}

// socketOf finds a socket of the ledger.
func (a *Answer) socketOf(h *Holder, proto uint16) *HeldRow {
	for _, row := range a.byPort[heldKey{proto, h.Port}] {
		if row.ID == h.sock {
			return row
		}
	}
	return nil
}

// rowOf finds a connection of the ledger.
func (a *Answer) rowOf(h *Holder, proto uint16) *HeldRow {
	for _, row := range a.byPort[heldKey{proto, h.Port}] {
		if row.rank() == 2 && addrOf(row.Local) == h.Address && netip.AddrPortFrom(addrOf(row.Remote), row.RPort) == h.Peer {
			return row
		}
	}
	return nil
}

// orphan: no process has the connection open.
func (a *Answer) orphan(row *HeldRow) bool {
	return row.State != stateEstablished && !slices.ContainsFunc(a.byPort[heldKey{row.Proto, row.LPort}], func(other *HeldRow) bool {
		return other.Sock == row.Sock && other.Owner.PID != 0
	})
}

// holderFrom finds who was in the way among the rows of an answer. explained: the ledger knew of
// something, if not for sure.
func (t *Table) holderFrom(a *Answer, ev *SockEvent, addr netip.Addr, explained bool) *Holder {
	number, self := wanted(ev)
	var best *HeldRow
	for _, row := range a.byPort[heldKey{ev.Proto, number}] {
		if self != 0 && row.ID == self || t.later(row, ev.Time) || !t.asOf(row, ev.Time).blocks(ev, addr) {
			continue
		}
		// The ledger has all loopback connections but orphans from before tracing: others came or went
		// since. Where the kernel side keeps connections from it, it cannot tell.
		if row.rank() == 2 {
			l := t.endOf(row)
			if l == nil && addrOf(row.Local).IsLoopback() && t.sees && (explained || !a.orphan(row)) {
				continue
			}
			if l != nil && t.mayBeOver(l.conn.ev.ID, a, ev.Time) {
				continue
			}
		}
		if best == nil || row.before(best) {
			best = row
		}
	}
	if best == nil {
		return nil
	}
	if k := t.socks[best.ID]; k != nil && best.rank() < 2 {
		if best.rank() == 0 && !k.preexisting && k.listenSince > ev.Time {
			return t.sockHolder(HolderBound, k, k.since) // it listens only since
		}
		return t.sockHolder(heldKinds[best.rank()], k, k.heldSince())
	}
	h := &Holder{
		Kind: heldKinds[best.rank()], Address: addrOf(best.Local), Port: number, Process: t.ownerOf(a, best, ev.Time),
	}
	switch best.rank() {
	case 2:
		h.State = best.stateName()
		h.Peer = netip.AddrPortFrom(addrOf(best.Remote), best.RPort)
		if l := t.endOf(best); l != nil {
			if !l.conn.preexisting {
				h.Since = t.wall(l.conn.ev.Time)
			}
			h.Process = l.conn.confirm(l, h.Process)
		} else if since, ok := best.began(); ok {
			h.Since = t.wall(since)
			if known := t.process(best.Known, [16]byte{}); known.P != nil && known.P == h.Process.P && h.Process.Attribution != "shared" {
				h.Process = known
			}
		}
	case 3:
		if left := time.Duration(best.Expires-best.Jiffies) * a.Jiffy; left > 0 {
			h.Expires = left + time.Duration(a.Time-ev.Time)
		}
		if w := t.waitOf(best); w != nil {
			h.Process, h.Since = w.proc, t.wall(w.since)
		} else if since, ok := best.began(); ok {
			h.Process, h.Since = t.process(best.Known, [16]byte{}), t.wall(since)
		}
	}
	return h
}

// before says which of two holders is named: the higher rank, the younger connection (as connHolder has
// it), the TIME_WAIT that lasts longest.
func (row *HeldRow) before(best *HeldRow) bool {
	switch {
	case row.rank() != best.rank():
		return row.rank() < best.rank()
	case row.rank() == 2:
		return row.Since > best.Since
	default:
		return row.rank() == 3 && row.Expires > best.Expires
	}
}

// began gives since when a connection is what it is, where a hook saw that.
func (row *HeldRow) began() (since uint64, ok bool) {
	return row.Since, row.Since != 0 && row.Flags&FlagPreexisting == 0
}

func (row *HeldRow) stateName() string {
	if int(row.State) < len(stateNames) {
		return stateNames[row.State]
	}
	return ""
}

// asOf gives a row as it was when the call failed: a socket that listens only since was bound, which
// with SO_REUSEADDR may have been in nobody's way.
func (t *Table) asOf(row *HeldRow, at uint64) *HeldRow {
	k := t.socks[row.ID]
	if row.State != StateListen || k == nil || k.preexisting || k.listenFrom <= at {
		return row
	}
	then := *row
	then.State = stateClose
	return &then
}

// later says whether a socket came after the call that failed, as far as the ledger knows it.
func (t *Table) later(row *HeldRow, at uint64) bool {
	if row.ID != 0 && row.rank() < 2 {
		k := t.socks[row.ID] // without: it is released by now
		return k == nil || !k.preexisting && k.since > at
	}
	if row.rank() == 3 {
		if w := t.waitOf(row); w != nil {
			return w.since > at
		}
	} else if l := t.endOf(row); l != nil {
		return !l.conn.preexisting && l.conn.ev.Time > at
	}
	since, ok := row.began()
	return ok && since > at
}

// ownerOf names who has the socket of a row open, of those who were born when the call failed.
func (t *Table) ownerOf(a *Answer, of *HeldRow, at uint64) Actor {
	var holders []Actor
	for _, row := range a.byPort[heldKey{of.Proto, of.LPort}] {
		if row.Sock == of.Sock && row.Owner.PID != 0 && row.Owner.Start <= at {
			holder := t.actor(row.Owner)
			holder.Attribution = "snapshot"
			holders = addHolder(holders, holder)
		}
	}
	if len(holders) == 0 {
		return Actor{}
	}
	standing := holders[0]
	if len(holders) > 1 {
		standing.Attribution, standing.Holders = "shared", holders
	}
	return standing
}

// confirm gives the ledger's name of an end that the file table found with the same process.
func (c *conn) confirm(l *link, found Actor) Actor {
	end := &c.client
	if l == &c.serverLink {
		end = &c.server
	}
	if found.P == nil || found.P != end.Process.P || found.Attribution == "shared" {
		return found
	}
	known := end.Process
	known.Short, known.Thread = false, ""
	return known
}

// endOf finds a row's socket among the connections of the ledger.
func (t *Table) endOf(row *HeldRow) *link {
	p := t.ports[portKey{row.Netns, row.LPort, row.Proto}]
	if p == nil || row.RPort == 0 {
		return nil
	}
	local, remote := addrOf(row.Local), netip.AddrPortFrom(addrOf(row.Remote), row.RPort)
	for l := p.conns.first; l != nil; l = l.next {
		end := &l.conn.client
		if l == &l.conn.serverLink {
			end = &l.conn.server
		}
		if end.Address == local && l.conn.peerOf(l) == remote {
			return l
		}
	}
	return nil
}

// waitOf finds what the ledger knows of a row's TIME_WAIT.
func (t *Table) waitOf(row *HeldRow) *timeWait {
	p := t.ports[portKey{row.Netns, row.LPort, row.Proto}]
	if p == nil {
		return nil
	}
	local, remote := addrOf(row.Local), netip.AddrPortFrom(addrOf(row.Remote), row.RPort)
	var last *timeWait
	for i := range p.waiting {
		if w := &p.waiting[i]; w.addr == local && w.peer == remote && (last == nil || w.since > last.since) {
			last = w
		}
	}
	return last
}
