// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"net/netip"
	"testing"

	"github.com/looptrace/looptrace/tracer/flow"
)

// TestOwnHas: the connections to looptrace's own listener, and nobody else's to a port of that number.
func TestOwnHas(t *testing.T) {
	here := netnsOf("self")
	tests := []struct {
		name  string
		own   string
		to    string
		other func(*flow.ConnEvent)
		want  bool
	}{
		{"to it", "127.0.0.1:9464", "127.0.0.1:9464", nil, true},
		{"through an IPv6 socket", "127.0.0.1:9464", "[::ffff:127.0.0.1]:9464", nil, true},
		{"to its port on another address", "127.0.0.1:9464", "127.0.0.2:9464", nil, false},
		{"to its port of IPv6", "127.0.0.1:9464", "[::1]:9464", nil, false},
		{"to another port", "127.0.0.1:9464", "127.0.0.1:9465", nil, false},
		{"to a wildcard", "0.0.0.0:9464", "127.0.0.2:9464", nil, true},
		{"to the port of a wildcard, of IPv6", "0.0.0.0:9464", "[::1]:9464", nil, false},
		{"to a wildcard of both", "[::]:9464", "127.0.0.1:9464", nil, true},
		{"to a wildcard of both, IPv6", "[::]:9464", "[::1]:9464", nil, true},
		{"elsewhere", "127.0.0.1:9464", "127.0.0.1:9464", func(ev *flow.ConnEvent) { ev.Netns++ }, false},
		{"UDP", "127.0.0.1:9464", "127.0.0.1:9464", func(ev *flow.ConnEvent) { ev.Proto = flow.UDP }, false},
		{"refused", "127.0.0.1:9464", "127.0.0.1:9464", func(ev *flow.ConnEvent) { ev.Error = 111 }, false},
		{"without a listener", "", "127.0.0.1:0", nil, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var at netip.AddrPort
			if test.own != "" {
				at = netip.MustParseAddrPort(test.own)
			}
			to := netip.MustParseAddrPort(test.to)
			ev := &flow.ConnEvent{ServerAddr: to.Addr().As16(), ServerPort: to.Port(), Proto: flow.TCP}
			ev.Netns = here
			if test.other != nil {
				test.other(ev)
			}
			o := ownListener(at)
			if got := o.has(ev); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}
