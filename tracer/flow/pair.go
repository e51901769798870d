// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"slices"
)

// pair is a connection as a look found it: the rows of its sockets, client first. A socket that no process holds
// has none, one that several hold has several, each linked to the next.
type pair struct {
	client, server *pairRow
	netns          uint32
	from, to       wireEnd
}

type pairRow struct {
	*ListRow
	next *pairRow
}

// wireEnd is an address and a port as rows have them.
type wireEnd struct {
	addr [16]byte
	port uint16
}

func (e *wireEnd) compare(o *wireEnd) int {
	if e.port != o.port {
		return cmp.Compare(e.port, o.port)
	}
	if e.addr == o.addr {
		return 0
	}
	return addrOf(e.addr).Compare(addrOf(o.addr))
}

// pairKey is a connection, the same from either end: the lower one is first.
type pairKey struct {
	netns  uint32
	lo, hi wireEnd
}

// pairUp joins the rows of connections, which are among all, and gives them by server port, server, client.
func (t *Table) pairUp(rows, all []ListRow) []pair {
	index := make(map[pairKey]int32, len(rows)/2)
	pairs := make([]pair, 0, len(rows)/2)
	links := make([]pairRow, len(rows)) // at once: one by one they cost more than all else
	for i := range rows {
		row := &rows[i]
		links[i].ListRow = row
		local, remote := wireEnd{row.Local, row.LPort}, wireEnd{row.Remote, row.RPort}
		higher := local.compare(&remote) >= 0
		key := pairKey{row.Netns, local, remote}
		if higher {
			key.lo, key.hi = remote, local
		}
		at, known := index[key]
		if !known {
			at = int32(len(pairs))
			index[key] = at
			pairs = append(pairs, pair{netns: key.netns, from: key.hi, to: key.lo})
		}
		end := &pairs[at].server
		if higher { // as long as nothing says which is the client
			end = &pairs[at].client
		}
		links[i].next, *end = *end, &links[i]
	}
	pairs = slices.DeleteFunc(pairs, remote(all))
	for i := range pairs {
		t.orient(&pairs[i])
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(a.to.compare(&b.to), a.from.compare(&b.from), cmp.Compare(a.netns, b.netns))
	})
	return pairs
}

// remote says of connections that loopback has no part in, as there are with Filter.Local, whether they leave the
// network namespace: only one end is here, and no socket has the other's address.
func remote(all []ListRow) func(pair) bool {
	type host struct {
		netns uint32
		addr  [16]byte
	}
	var here map[host]bool // made when asked for: without Filter.Local it is not
	return func(p pair) bool {
		if p.client != nil && p.server != nil || addrOf(p.from.addr).IsLoopback() || addrOf(p.to.addr).IsLoopback() {
			return false
		}
		if here == nil {
			here = make(map[host]bool)
			for i := range all {
				here[host{all[i].Netns, all[i].Local}] = true
			}
		}
		return !here[host{p.netns, p.from.addr}] || !here[host{p.netns, p.to.addr}]
	}
}

// orient decides which end dialled. An end of which nothing says that it was accepted dialled; where that is so of
// both, the higher port is taken for the client's.
func (t *Table) orient(p *pair) {
	client, server := t.served(p.client, p.netns, p.from.port), t.served(p.server, p.netns, p.to.port)
	if client == server && p.client != nil && p.server != nil { // a child inherits a port that was asked for
		client, server = fixed(p.client), fixed(p.server)
	}
	if p.from != p.to && (client > server || client == server && p.client == nil) {
		p.client, p.server, p.from, p.to = p.server, p.client, p.to, p.from
	}
}

// served says how much speaks for an end having been accepted. A child is cloned from its listener and keeps its
// backlog limit, which a socket that dialled does not have. listen(0) leaves it at 0, so a listener on the port
// speaks for it too, but less: a client may have bound that port.
func (t *Table) served(row *pairRow, netns uint32, port uint16) int {
	if row != nil && row.Backlog > 0 {
		return 2
	}
	p := t.ports[portKey{netns, port, TCP}]
	if p != nil && slices.ContainsFunc(p.socks, func(k *sock) bool { return k.listening }) {
		return 1
	}
	return 0
}

func fixed(row *pairRow) int { return 1 - int(row.Flags&FlagEphemeral) }

// listConn lets out the record of a connection.
func (t *Table) listConn(at uint64, p *pair) {
	ev := ConnEvent{
		Header:     Header{Time: at, Kind: KindConnect, Flags: FlagPreexisting, Netns: p.netns},
		ClientAddr: p.from.addr, ClientPort: p.from.port, ServerAddr: p.to.addr, ServerPort: p.to.port, Proto: TCP,
	}
	if p.from == p.to {
		ev.Flags |= FlagSelf
	}
	c := t.newConn(&ev)
	for row := p.client; row != nil; row = row.next {
		c.ev.ID = row.ID
		c.client.Process = t.heldBy(c.client.Process, row)
		c.portKnown, c.ephemeral = true, row.Flags&FlagEphemeral != 0
	}
	for row := p.server; row != nil; row = row.next {
		if p.client == nil {
			c.ev.ID = row.ID
		}
		c.server.Process = t.heldBy(c.server.Process, row)
	}
	if p.server == nil && p.client.mayWait() && (p.from == p.to || t.sureListener(c)) {
		t.nameServer(c, at)
	}
	r, rc := t.beginConn("connect", c, at)
	rc.HasEphemeral, rc.Ephemeral = c.portKnown, c.ephemeral
	t.emit(r)
	t.free = append(t.free, c)
}

// mayWait says whether the other end may be in an accept queue. The client of one that was closed has got its
// FIN: who had accepted it is not known.
func (row *ListRow) mayWait() bool {
	return row.State == stateEstablished || row.State == stateFinWait1 || row.State == stateFinWait2
}

// heldBy notes a process that holds an end.
func (t *Table) heldBy(standing Actor, row *pairRow) Actor {
	a := t.process(row.Owner, [16]byte{})
	a.Attribution = "snapshot"
	if standing.P == nil {
		return a
	}
	return addTo(standing, a)
}
