// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestExplainCounts: what was counted together is told with what was kept one by one, of the address that was dialled.
func TestExplainCounts(t *testing.T) {
	flood := person(30, "python3")
	flood.P.ExeName, flood.P.CommandLine = "python3.11", "python3 flood.py"
	web := person(10, "web")
	var s tale
	s.talk(200, 1, flood, 50000, web, "127.0.0.1:8080")
	s.refused(150, flood, "127.0.0.1:8080")
	count := func(errno int32, n uint64) {
		s.add(&Record{Event: "summary", Time: at(209), Port: 8080, HasPort: true, Errno: errno, Summary: &SummaryRecord{
			Client:  Program{Comm: "python3", ExeName: "python3.11", P: &Process{ProcessID: flood.P.ProcessID, Created: boot, Comm: "python3", ExeName: "python3.11"}},
			Address: netip.MustParseAddr("127.0.0.1"), Count: n, First: at(201), Last: at(209),
		}})
	}
	count(0, 99)
	count(econnrefused, 49)
	for target, want := range map[string][]string{
		"127.0.0.1:8080": {"visitor 30 ×100", "refused 30 ×50"},
		"8080":           {"visitor 30 ×100", "refused 30 ×50"},
		"[::1]:8080":     nil,
		"127.0.0.9:8080": nil,
	} {
		q := inquiry(target)
		q.Past, q.Looked = s.records, true
		e := Explain(q)
		var got []string
		for i, line := range kinds(e) {
			if f := e.Findings[i]; f.Kind == FindVisitor || f.Kind == FindRefused {
				got = append(got, line)
				if f.Process.P.Name() != "python3" {
					t.Errorf("%s: it goes by %s", target, f.Process.P.Name())
				}
			}
		}
		if d := cmp.Diff(want, got); d != "" || e.Known != (want != nil) {
			t.Errorf("%s: known %v (-want +got):\n%s", target, e.Known, d)
		}
	}
}
