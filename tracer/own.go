// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"net/netip"

	"github.com/looptrace/looptrace/tracer/flow"
)

// own is where this process listens. Its sockets are left out by the kernel side, but for one thing: a handshake with
// a listener ends before anybody has accepted, and then only the client is known.
type own struct {
	addr  netip.Addr
	port  uint16 // 0: nowhere
	netns uint32
}

func ownListener(at netip.AddrPort) own {
	return own{addr: at.Addr().Unmap(), port: at.Port(), netns: netnsOf("thread-self")}
}

// has says whether a connection is one to this process. One that failed met nobody, and is the client's alone.
func (o *own) has(ev *flow.ConnEvent) bool {
	if ev.ServerPort != o.port || o.port == 0 || ev.Netns != o.netns || ev.Proto != flow.TCP || ev.Error != 0 {
		return false
	}
	to := netip.AddrFrom16(ev.ServerAddr).Unmap()
	return to == o.addr || o.addr.IsUnspecified() && (o.addr.Is6() || to.Is4())
}
