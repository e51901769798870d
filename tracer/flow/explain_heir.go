// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"time"
)

// inherited finds sockets that another process has now than the one that asked for the port, which ended: a server that
// becomes a daemon forks and exits after bind(). That it is the same socket is known where the one of the store, of a
// run that goes on and lost nothing since, has no end, and the look has as many on that address, of a process that came
// after the one that asked, but before what the store may not have yet.
func (l *lives) inherited(now time.Time) {
	if len(l.watches) == 0 || !l.watches[len(l.watches)-1].Goes {
		return
	}
	type place struct {
		netns  uint32
		proto  uint16
		addr   netip.AddrPort
		listen bool
	}
	known, found := map[place][]*hold{}, map[place][]*hold{}
	for _, h := range l.holds {
		at := place{h.netns, h.proto, netip.AddrPortFrom(h.addr, h.port), h.listens()}
		switch {
		case h.live && h.run == l.run && len(h.records) == 1:
			found[at] = append(found[at], h)
		case !h.live && h.open() && !h.gone && h.run == l.run-1 && !h.since().Before(l.lost):
			known[at] = append(known[at], h)
		}
	}
	for at, olds := range known {
		news := found[at]
		if len(news) != len(olds) || !ofOne(olds) || !ofOne(news) || !cameBetween(news[0].who(), olds[0].who(), now.Add(-storeDelay)) {
			continue
		}
		for i, h := range olds {
			h.heir, h.live = news[i].who(), true
			for _, r := range news[i].records {
				h.add(r)
			}
			l.holds = slices.DeleteFunc(l.holds, func(o *hold) bool { return o == news[i] })
		}
	}
}

// storeDelay is more than it takes a record to be in the store.
const storeDelay = 2 * time.Second

// cameBetween says whether a process was born after another, and before that time.
func cameBetween(who, after Actor, before time.Time) bool {
	return who.Known() && after.Known() && !after.P.Created.IsZero() && who.P.Created.After(after.P.Created) && who.P.Created.Before(before)
}

// ofOne says whether one process has them all: then it is no matter which is which.
func ofOne(holds []*hold) bool {
	return !slices.ContainsFunc(holds, func(h *hold) bool { return !samePlace(h.who(), holds[0].who()) })
}
