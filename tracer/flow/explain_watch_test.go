// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"testing"
	"time"
)

// TestExplainAfterKill: a looptrace record that was killed writes no stop. What it wrote last, of whichever port, says
// how long it watched: until then the server and the connection were there.
func TestExplainAfterKill(t *testing.T) {
	web, curl := person(10, "web", 5), person(30, "curl", 6)
	var s tale
	s.add(&Record{Event: "start", Time: at(0), Start: &StartRecord{}})
	s.serve(100, 1, web, "127.0.0.1:8080", 8080)
	s.conn("connect", 101, 2, curl, 50000, web, "127.0.0.1:8080")
	s.add(&Record{Event: "start", Time: at(200), Start: &StartRecord{}})
	ended := []Watch{{From: at(0), Until: at(107)}, {From: at(200), Until: at(300), Goes: true}}
	for _, tc := range []struct {
		target, want string
		at           float64
		watches      []Watch
		until        time.Time
	}{
		{target: "127.0.0.1:8080", at: 100.5, watches: ended, want: FindServer},
		{target: "127.0.0.1:8080", at: 107, watches: ended, want: FindServer},
		{target: "127.0.0.1:8080", at: 108, watches: ended, want: FindNobody, until: at(107)},
		{target: "127.0.0.1:50000", at: 106, watches: ended, want: FindClient},
		{target: "127.0.0.1:50000", at: 108, watches: ended, want: FindNobody, until: at(107)},
		{target: "127.0.0.1:8080", at: 150, watches: ended[:1], want: FindNobody, until: at(107)},
		{target: "127.0.0.1:8080", at: 150, watches: []Watch{{From: at(0), Until: at(107), Goes: true}}, want: FindServer},
	} {
		q := inquiry(tc.target)
		q.Past, q.Watches, q.At, q.AtEnd = s.records, tc.watches, at(tc.at), at(tc.at)
		if len(tc.watches) == 1 {
			q.Past = s.records[:4]
		}
		f := Explain(q).Findings[0]
		if f.Kind != tc.want || !f.Until.Equal(tc.until) || f.Unseen != !tc.until.IsZero() {
			t.Errorf("%s at %v: %s, until %v, unseen %v", tc.target, tc.at, f.Kind, f.Until, f.Unseen)
		}
	}
}
