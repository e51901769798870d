// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"testing"

	"github.com/looptrace/looptrace/tracer/flow"
)

// TestMatchesCount: what was counted together passes a filter where each of its connections does, as far as that
// is known.
func TestMatchesCount(t *testing.T) {
	refused := &flow.Record{
		Event: "summary", Errno: 111, Proto: flow.TCP, Port: 80, HasPort: true,
		Summary: &flow.SummaryRecord{Client: flow.Program{Comm: "curl"}, Server: flow.Program{Comm: "nginx", P: &flow.Process{ProcessID: flow.ProcessID{PID: 7}, Comm: "nginx"}}, Count: 3},
	}
	made := *refused
	made.Errno = 0
	only := func(values ...string) flow.Set[string] { return flow.Set[string]{Include: values} }
	target := flow.Target{Addr: netip.MustParseAddr("127.0.0.1"), Port: 80}
	for name, tc := range map[string]struct {
		filter       flow.Filter
		made, failed bool
	}{
		"none":            {flow.Filter{}, true, true},
		"failures":        {flow.Filter{Failed: true}, false, true},
		"connects":        {flow.Filter{Events: only("connect")}, true, true},
		"binds":           {flow.Filter{Events: only("bind")}, false, false},
		"the port":        {flow.Filter{Ports: flow.Set[uint16]{Include: []uint16{80}}}, true, true},
		"not the port":    {flow.Filter{Ports: flow.Set[uint16]{Exclude: []uint16{80}}}, false, false},
		"the target":      {flow.Filter{Targets: []flow.Target{target}}, true, true},
		"another target":  {flow.Filter{Targets: []flow.Target{{Port: 81}}}, false, false},
		"the client":      {flow.Filter{Comms: only("curl")}, true, true},
		"another program": {flow.Filter{Comms: only("wget")}, false, false},
		"the process":     {flow.Filter{PIDs: flow.Set[uint32]{Include: []uint32{7}}}, true, true},
		"a user":          {flow.Filter{UIDs: flow.Set[uint32]{Include: []uint32{0}}}, false, false},
		"a container":     {flow.Filter{Containers: only("web")}, false, false},
	} {
		if got := matchesCount(tc.filter, &made); got != tc.made {
			t.Errorf("%s: %v for connections", name, got)
		}
		if got := matchesCount(tc.filter, refused); got != tc.failed {
			t.Errorf("%s: %v for refusals", name, got)
		}
	}
}
