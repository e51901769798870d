// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"slices"
	"time"
)

// snapshot gathers what was there before tracing began, row by row: one for each process that
// holds a socket.
type snapshot struct {
	socks []*sock
	rows  map[uint64]*SockEvent
	conns []*conn
}

// SnapshotSock takes a row of a socket that holds a port.
func (t *Table) SnapshotSock(ev *SockEvent) {
	if ev.Flags&FlagLive != 0 {
		return // a hook was first: its events are in the ring
	}
	holder := t.actor(ev.Actor)
	if holder.P != nil {
		holder.Attribution = "snapshot"
	}
	if k := t.socks[ev.ID]; k != nil {
		t.count(k, -1)
		k.share(holder)
		t.count(k, 1)
		return
	}
	k := t.hold(ev, &SockRecord{Address: addrOf(ev.Addr), Process: holder})
	k.preexisting = true
	if ev.Kind == KindListen {
		t.listens(k, ev.Time)
		k.listenFrom = 0 // before the hooks, which did not see it begin
	}
	k.untold = ev.Proto == UDP && ev.State == stateEstablished
	if t.snapshot.rows == nil {
		t.snapshot.rows = make(map[uint64]*SockEvent)
	}
	row := *ev
	t.snapshot.rows[ev.ID] = &row
	t.snapshot.socks = append(t.snapshot.socks, k)
}

// share notes one more process that holds the socket. Who of them called listen() was not seen:
// the oldest stands for all, and the record says that it is shared.
func (k *sock) share(holder Actor) {
	if k.holders = addHolder(k.holders, holder); len(k.holders) > 0 {
		k.proc = k.holders[0]
		k.standFor()
	}
}

// addHolder enters a process into a list that has the oldest first, each once.
func addHolder(list []Actor, holder Actor) []Actor {
	if holder.P == nil || slices.ContainsFunc(list, func(h Actor) bool { return h.P == holder.P }) {
		return list
	}
	list = append(list, holder)
	slices.SortStableFunc(list, func(a, b Actor) int { return cmp.Compare(a.P.Start, b.P.Start) })
	return list
}

// standFor lets the holders speak through the process that stands for the socket.
func (k *sock) standFor() {
	if len(k.holders) > 1 {
		k.proc.Attribution, k.proc.Holders = "shared", k.holders
	}
}

// lookDelay is how long after a fork the table of open files is looked at: a child that executes
// something else has closed by then what it should not have, and the contract allows a second.
const lookDelay = uint64(200 * time.Millisecond)

// forked notes that a process which holds ports has a child now, which holds them too.
func (t *Table) forked(ev *TaskEvent) {
	parent := t.procs.lookup(ev.ParentPID, ev.ParentStart)
	if parent != nil && t.holding[&parent.Process] > 0 {
		t.lookSoon(ev.Time)
	}
}

// lookSoon asks for a look; several within its delay are one.
func (t *Table) lookSoon(at uint64) {
	if t.lookAt == 0 {
		t.lookAt = at + lookDelay
	}
}

// WantsLook says that the table of open files should be looked at now: who holds what may have
// changed. A fork is seen, and a descriptor that another process gets; one that is closed while others
// hold the socket is not, and io_uring's ways are not in each hook form: so the table is looked at twice
// a second while anything is held, unless looks take long. Give the rows to Look.
func (t *Table) WantsLook(now uint64) bool {
	due := t.lookAt
	if len(t.socks) > 0 {
		if t.lookedAt == 0 {
			t.lookedAt = now
		}
		share := idleShare
		if t.dialled {
			share = lookShare
		}
		next := t.lookedAt + max(lookEvery, share*uint64(t.lookTook))
		if due == 0 || next < due {
			due = next
		}
	}
	if due == 0 || now < due {
		return false
	}
	t.lookAt, t.lookedAt, t.dialled = 0, now, false
	return true
}

const (
	lookEvery = uint64(500 * time.Millisecond) // the contract allows a second, and an idle reader sleeps as long
	// Of the time, at most one part in these goes into looks: while there are connections whose
	// server is to be named, and else.
	lookShare = uint64(50)
	idleShare = uint64(2000)
)

// Look takes the rows of sockets that hold a port, one for each process that holds it, and how long
// it took to get them. whole: these are all rows.
func (t *Table) Look(rows []SockEvent, took time.Duration, whole bool) {
	t.lookTook = took
	found := make(map[*sock][]Actor)
	for i := range rows {
		k := t.socks[rows[i].ID]
		if k == nil {
			continue
		}
		holder := t.actor(rows[i].Actor)
		holder.Attribution = "snapshot"
		if holder.P != nil && holder.P == k.caller.P {
			holder.Attribution = "hook"
		}
		found[k] = addHolder(found[k], holder)
	}
	for k, holders := range found {
		if k.calledAt > t.lookedAt && k.caller.P != nil && k.caller.P.Exited.IsZero() { // since the walk began: it holds it for sure
			holders = addHolder(holders, k.caller)
		}
		k.seen, k.missed = true, false
		t.rehold(k, holders)
	}
	if whole {
		t.heldByNobody(found)
	}
}

// heldByNobody: a socket that an earlier look found and two in a row do not is open in no process: its
// descriptor is on its way through a UNIX socket, or io_uring's alone. One look may pass by a descriptor that
// is moved meanwhile.
func (t *Table) heldByNobody(found map[*sock][]Actor) {
	for _, k := range t.socks {
		switch {
		case !k.seen || found[k] != nil || len(k.holders) == 0 || k.calledAt > t.lookedAt:
		case !k.missed:
			k.missed = true
			t.lookSoon(t.lookedAt + uint64(t.lookTook))
		default:
			t.rehold(k, nil)
		}
	}
}

// rehold replaces the holders of a socket. Whoever called listen() stands for it while it holds it.
func (t *Table) rehold(k *sock, holders []Actor) {
	t.count(k, -1)
	k.holders = holders
	t.count(k, 1)
	k.proc.Holders = nil
	i := slices.IndexFunc(holders, func(h Actor) bool { return h.P == k.proc.P })
	switch {
	case i >= 0:
		if k.proc.Attribution == "shared" {
			k.proc.Attribution = holders[i].Attribution
		}
		k.standFor()
	case k.caller.P == nil && len(holders) > 0:
		k.proc = holders[0]
		k.standFor()
	case k.proc.Attribution == "shared": // it holds the socket no more, and is named as who called listen()
		k.proc.Attribution = k.caller.Attribution
	}
}

// count keeps how many sockets each process holds.
func (t *Table) count(k *sock, n int) {
	for _, h := range k.holders {
		if t.holding[h.P] += n; t.holding[h.P] <= 0 {
			delete(t.holding, h.P)
		}
	}
}

// SnapshotConn takes a row of one end of a connection.
func (t *Table) SnapshotConn(ev *ConnEvent) {
	if ev.Flags&FlagLive != 0 {
		return
	}
	c := t.conns[ev.ID]
	if c == nil {
		c = t.newConn(ev)
		c.preexisting = true
		t.track(c)
		t.snapshot.conns = append(t.snapshot.conns, c)
	}
	end, id := &c.client, ev.Client
	if ev.Flags&FlagServer == 0 {
		c.portKnown, c.ephemeral = true, ev.Flags&FlagEphemeral != 0
		c.ending = ev.Flags&FlagEnding != 0
	}
	if ev.Flags&FlagServer != 0 {
		end, id = &c.server, ev.Server
		c.accepted = true
	}
	a := t.process(id, [16]byte{})
	a.Attribution = "snapshot"
	end.Process = addTo(end.Process, a)
	if ev.Flags&FlagSelf != 0 {
		c.server.Process, c.accepted = c.client.Process, true
	}
}

// addTo notes one more process that holds what standing holds.
func addTo(standing, holder Actor) Actor {
	holders := standing.Holders
	if holders == nil {
		standing.Attribution = "snapshot" // by itself it is not shared
		holders = addHolder(nil, standing)
	}
	holders = addHolder(holders, holder)
	if len(holders) == 0 {
		return Actor{}
	}
	standing = holders[0]
	if len(holders) > 1 {
		standing.Attribution, standing.Holders = "shared", holders
	}
	return standing
}

// FinishSnapshot lets out a record for each socket and connection that was there before; write
// false keeps the knowledge and is silent.
func (t *Table) FinishSnapshot(write bool) {
	for _, c := range t.snapshot.conns {
		if c.server.Process.P == nil && !c.ending && t.sureListener(c) {
			t.nameServer(c, c.ev.Time)
		}
	}
	if write {
		for _, event := range []string{"listen", "bind"} {
			for _, k := range t.snapshot.socks {
				if k.listening == (event == "listen") && !k.untold {
					t.emitSnapshotSock(event, k)
				}
			}
		}
		for _, c := range t.snapshot.conns {
			r, rc := t.beginConn("connect", c, c.ev.Time)
			rc.HasEphemeral, rc.Ephemeral = c.portKnown, c.ephemeral
			t.emit(r)
			c.give(rc)
		}
	}
	if t.endless {
		for _, c := range t.snapshot.conns {
			t.drop(c)
		}
	}
	t.snapshot = snapshot{}
}

// sureListener: of a connection that was there before, nobody saw which listener answered. It is
// known where there is only one that could have.
func (t *Table) sureListener(c *conn) bool {
	p, fit := t.ports[portKey{c.ev.Netns, c.ev.ServerPort, c.ev.Proto}], 0
	if p == nil {
		return false
	}
	for _, k := range p.socks {
		if k.listening && k.fits(c.server.Address) != fitNone {
			fit++
		}
	}
	return fit == 1
}

func (t *Table) emitSnapshotSock(event string, k *sock) {
	ev := t.snapshot.rows[k.id]
	r, s := t.beginSock(event, ev)
	r.Preexisting = true
	s.Process = k.proc
	s.V6Only = k.v6only
	s.Ephemeral = k.ephemeral
	s.RangeLow, s.RangeHigh = ev.RangeLow, ev.RangeHigh
	s.Backlog = ev.Backlog
	s.Exposed = !s.Address.IsLoopback()
	if event == "listen" && s.Exposed && k.ephemeral {
		r.Level = Warn
	}
	t.emit(r)
}
