// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"slices"
)

// List lets out the records that a run would begin with, as of a look at a time (CLOCK_BOOTTIME): a listen for
// each listener, a bind for each socket that is bound only, a connect for each connection, in this order, each by
// port, transport and address. It is for a Table that observes nothing else, and is called once. The rows are
// sorted in place.
func (t *Table) List(at uint64, rows []ListRow) {
	t.now = at
	socks := slices.IndexFunc(rows, ListRow.isConn)
	if socks < 0 {
		socks = len(rows)
	}
	for i := socks; i < len(rows); i++ { // sockets to the front: they are few
		if !rows[i].isConn() {
			rows[socks], rows[i] = rows[i], rows[socks]
			socks++
		}
	}
	t.listSocks(at, rows[:socks])
	for _, p := range t.pairUp(rows[socks:], rows) {
		t.listConn(at, &p)
	}
}

func (row ListRow) isConn() bool {
	return row.Proto == TCP && row.State != StateListen && row.State != stateClose
}

// listSocks takes the rows of sockets that hold a port, and lets out their records.
func (t *Table) listSocks(at uint64, rows []ListRow) {
	slices.SortStableFunc(rows, func(a, b ListRow) int {
		return cmp.Or(cmp.Compare(a.LPort, b.LPort), cmp.Compare(a.Proto, b.Proto), addrOf(a.Local).Compare(addrOf(b.Local)),
			cmp.Compare(a.Netns, b.Netns))
	})
	type socket struct{ sock, inode uint64 }
	ids := make(map[socket]uint64)
	for i := range rows {
		row := &rows[i]
		key := socket{row.Sock, row.Inode}
		if ids[key] == 0 {
			ids[key] = row.ID
		}
		ev := SockEvent{
			Header: Header{Time: at, Kind: KindBind, Flags: row.Flags | FlagPreexisting, Netns: row.Netns},
			ID:     ids[key], Actor: Owner{Start: row.Owner.Start, PID: row.Owner.PID, UID: row.Owner.UID},
			Addr: row.Local, Port: row.LPort, Proto: row.Proto, State: row.State, Backlog: row.Backlog,
			RangeLow: row.RangeLow, RangeHigh: row.RangeHigh,
		}
		if row.State == StateListen {
			ev.Kind = KindListen
		}
		t.SnapshotSock(&ev)
	}
	t.FinishSnapshot(true)
}
