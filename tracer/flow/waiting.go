// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"time"
)

// Waiting gives the TIME_WAITs of an answer that a filter lets through, ports at either end. No process holds
// one: a filter that includes processes lets none through. Expires is negative where it is not known.
func (a *Answer) Waiting(f *Filter) []Holder {
	var list []Holder
	for i := range a.Rows {
		row := &a.Rows[i]
		local, peer := addrOf(row.Local), netip.AddrPortFrom(addrOf(row.Remote), row.RPort)
		if row.State != stateTimeWait || !f.Local && !local.IsLoopback() && !peer.Addr().IsLoopback() {
			continue
		}
		if !f.Match(&Record{Event: "connect", Proto: TCP, Netns: a.Netns, Conn: &ConnRecord{
			Client: End{Address: local, Port: row.LPort},
			Server: End{Address: peer.Addr(), Port: peer.Port()},
		}}) {
			continue
		}
		h := Holder{Kind: HolderTimeWait, Address: local, Port: row.LPort, Peer: peer, Expires: -1}
		if a.Jiffy != 0 {
			left := int64(row.Expires - row.Jiffies)
			h.Expires = time.Duration(max(left, 0)) * a.Jiffy
		}
		list = append(list, h)
	}
	return list
}
