// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"sort"
)

type rangeKey struct {
	proto uint16
	src   netip.Addr
	dst   netip.AddrPort
}

// aboutRange says whose ports are to be counted.
func (d *doubt) aboutRange() (key rangeKey, ok bool) {
	if c := d.conn; c != nil {
		return rangeKey{c.ev.Proto, c.client.Address, netip.AddrPortFrom(c.server.Address, c.server.Port)}, true
	}
	number, _ := wanted(&d.sock)
	return rangeKey{proto: d.sock.Proto}, number == 0
}

// ephemeralPorts counts who uses the range that the kernel picks from. For a connect, whose port
// only has to differ per source and destination, what is bound counts, and what goes from src to
// dst. Nil where the range is not known.
func (t *Table) ephemeralPorts(a *Answer, key rangeKey) *EphemeralPorts {
	if a == nil || a.High == 0 {
		return nil
	}
	if _, ok := a.ranges[key]; !ok {
		if a.ranges == nil {
			a.ranges = make(map[rangeKey]*EphemeralPorts)
		}
		// No port was to be had as the call failed: an answer that has most of them free came too late.
		if a.ranges[key] = t.countPorts(a, key); a.ranges[key].InUse*2 < int(a.High)-int(a.Low)+1 {
			a.ranges[key] = nil
		}
	}
	return a.ranges[key]
}

func (t *Table) countPorts(a *Answer, key rangeKey) *EphemeralPorts {
	e := &EphemeralPorts{Low: a.Low, High: a.High}
	users := make(map[*Process]*PortUser)
	for number := uint32(a.Low); number <= uint32(a.High); number++ {
		who, used := t.userOf(a, uint16(number), key)
		if !used {
			continue
		}
		e.InUse++
		if who.P == nil {
			continue
		}
		if users[who.P] == nil {
			users[who.P] = &PortUser{Process: who}
		}
		users[who.P].Count++
	}
	for _, u := range users {
		e.Top = append(e.Top, *u)
	}
	sort.Slice(e.Top, func(i, j int) bool {
		if e.Top[i].Count != e.Top[j].Count {
			return e.Top[i].Count > e.Top[j].Count
		}
		return e.Top[i].Process.P.PID < e.Top[j].Process.P.PID
	})
	e.Top = e.Top[:min(len(e.Top), maxTop)]
	return e
}

// userOf says whether a port of the range is used, and by whom.
func (t *Table) userOf(a *Answer, number uint16, key rangeKey) (who Actor, used bool) {
	for _, row := range a.byPort[heldKey{key.proto, number}] {
		if key.dst.IsValid() && !row.fixed() && !row.connects(key.src, key.dst) {
			continue
		}
		used = true
		if row.Owner.PID != 0 {
			who = t.actor(row.Owner)
			who.Attribution = "snapshot"
			return who, true
		}
		if w := t.waitOf(row); w != nil {
			who = w.proc
		} else if row.rank() == 3 {
			who = t.process(row.Known, [16]byte{})
		}
	}
	return who, used
}

// fixed: a port that bind() took is nobody's to dial from.
func (row *HeldRow) fixed() bool {
	return row.rank() < 2 || row.rank() == 2 && row.Flags&FlagEphemeral == 0
}

func (row *HeldRow) connects(src netip.Addr, dst netip.AddrPort) bool {
	return netip.AddrPortFrom(addrOf(row.Remote), row.RPort) == dst && (!src.IsValid() || addrOf(row.Local) == src)
}
