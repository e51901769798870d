// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"net/netip"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

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
		"a target":        {flow.Filter{Targets: []flow.Target{target}}, false, false}, // the address is not known
		"the target":      {flow.Filter{Targets: []flow.Target{{Port: 80}}}, true, true},
		"another target":  {flow.Filter{Targets: []flow.Target{{Port: 81}}}, false, false},
		"the client":      {flow.Filter{Comms: only("curl")}, true, true},
		"another program": {flow.Filter{Comms: only("wget")}, false, false},
		"the process":     {flow.Filter{PIDs: flow.Set[uint32]{Include: []uint32{7}}}, true, true},
		"a user":          {flow.Filter{UIDs: flow.Set[uint32]{Include: []uint32{0}}}, false, false},
		"a container":     {flow.Filter{Containers: only("web")}, false, false},
		"a namespace":     {flow.Filter{Netns: flow.Set[uint32]{Include: []uint32{5}}}, false, false},
		"not a user":      {flow.Filter{UIDs: flow.Set[uint32]{Exclude: []uint32{1}}}, false, false},
		"not a container": {flow.Filter{Containers: flow.Set[string]{Exclude: []string{"web"}}}, false, false},
	} {
		if got := matchesCount(tc.filter, &made); got != tc.made {
			t.Errorf("%s: %v for connections", name, got)
		}
		if got := matchesCount(tc.filter, refused); got != tc.failed {
			t.Errorf("%s: %v for refusals", name, got)
		}
	}
}

// TestMatchesAlike: where all that were counted have the same user, namespace, address or container, a filter on it knows.
func TestMatchesAlike(t *testing.T) {
	sum := &flow.Record{
		Event: "summary", Proto: flow.TCP, Port: 80, HasPort: true, Netns: 5,
		Summary: &flow.SummaryRecord{
			Client:  flow.Program{Comm: "curl", HasUser: true, UID: 0, Container: flow.Container{ID: "0123", Name: "shop"}},
			Server:  flow.Program{Comm: "nginx", HasUser: true, UID: 33},
			Address: netip.MustParseAddr("127.0.0.1"), Count: 3,
		},
	}
	numbers := func(include, exclude []uint32) flow.Set[uint32] {
		return flow.Set[uint32]{Include: include, Exclude: exclude}
	}
	for name, tc := range map[string]struct {
		filter flow.Filter
		want   bool
	}{
		"the client's user":   {flow.Filter{UIDs: numbers([]uint32{0}, nil)}, true},
		"the server's user":   {flow.Filter{UIDs: numbers([]uint32{33}, nil)}, true},
		"another user":        {flow.Filter{UIDs: numbers([]uint32{1}, nil)}, false},
		"not another user":    {flow.Filter{UIDs: numbers(nil, []uint32{1})}, true},
		"not the user":        {flow.Filter{UIDs: numbers(nil, []uint32{33})}, false},
		"the namespace":       {flow.Filter{Netns: numbers([]uint32{5}, nil)}, true},
		"another namespace":   {flow.Filter{Netns: numbers([]uint32{6}, nil)}, false},
		"not the namespace":   {flow.Filter{Netns: numbers(nil, []uint32{5})}, false},
		"the container":       {flow.Filter{Containers: flow.Set[string]{Include: []string{"shop"}}}, true},
		"not the container":   {flow.Filter{Containers: flow.Set[string]{Exclude: []string{"shop"}}}, false},
		"the address":         {flow.Filter{Targets: []flow.Target{{Addr: netip.MustParseAddr("127.0.0.1"), Port: 80}}}, true},
		"another address":     {flow.Filter{Targets: []flow.Target{{Addr: netip.IPv6Loopback(), Port: 80}}}, false},
		"the address's ports": {flow.Filter{Targets: []flow.Target{{Addr: netip.MustParseAddr("127.0.0.1"), Port: 81}}}, false},
	} {
		if got := matchesCount(tc.filter, sum); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestOnePort: a port that is the only one that passes is looked up; what may let others pass looks at all.
func TestOnePort(t *testing.T) {
	localhost, err := flow.ParseTarget("localhost:80")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		filter flow.Filter
		want   uint16
	}{
		"none":          {flow.Filter{}, 0},
		"a target":      {flow.Filter{Targets: []flow.Target{{Port: 80}}}, 80},
		"both families": {flow.Filter{Targets: localhost}, 80},
		"two targets":   {flow.Filter{Targets: []flow.Target{{Port: 80}, {Port: 81}}}, 0},
		"an address":    {flow.Filter{Targets: []flow.Target{{Addr: netip.IPv6Loopback()}}}, 0},
		"a port":        {flow.Filter{Ports: flow.Set[uint16]{Include: []uint16{80}}}, 80},
		"two ports":     {flow.Filter{Ports: flow.Set[uint16]{Include: []uint16{80, 81}}}, 0},
		"all but one":   {flow.Filter{Ports: flow.Set[uint16]{Exclude: []uint16{80}}}, 0},
	} {
		if got := onePort(tc.filter); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// TestSpan: times of day are those that the other one makes sense with.
func TestSpan(t *testing.T) {
	now := time.Date(2026, 11, 24, 9, 35, 0, 0, time.UTC)
	for _, tc := range []struct{ since, until, from, to string }{
		{"08:00", "09:00", "24 08:00", "24 09:00"},
		{"08:00", "12:00", "24 08:00", "24 12:00"}, // all until now
		{"14:00", "14:05", "23 14:00", "23 14:05"},
		{"23:00", "01:00", "23 23:00", "24 01:00"},
		{"2026-11-22 23:00", "01:00", "22 23:00", "24 01:00"},
		{"yesterday", "today", "23 00:00", "24 00:00"},
		{"3d", "2d", "21 09:35", "22 09:35"},
		{"", "10:00", "", "23 10:00"},
		{"08:00", "", "24 08:00", ""},
	} {
		t.Run(tc.since+" to "+tc.until, func(t *testing.T) {
			set := flag.NewFlagSet("log", flag.ContinueOnError)
			for name, value := range map[string]string{"since": tc.since, "until": tc.until} {
				set.String(name, "", "")
				if value != "" {
					if err := set.Set(name, value); err != nil {
						t.Fatal(err)
					}
				}
			}
			c := cli.NewContext(nil, set, nil)
			c.Command = &cli.Command{Name: "log"}
			p := parser{given: given{c}}
			from, to := p.span(now)
			text := func(at time.Time) string {
				if at.IsZero() {
					return ""
				}
				return at.Format("02 15:04")
			}
			if p.err != nil || text(from) != tc.from || text(to) != tc.to {
				t.Errorf("%s to %s, %v; want %s to %s", text(from), text(to), p.err, tc.from, tc.to)
			}
		})
	}
}
