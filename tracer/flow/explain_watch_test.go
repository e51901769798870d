// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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

// TestExplainDaemon: a server that forks after bind(), and whose parent exits, has the socket that the parent asked for.
// Where that is not certain, nothing is said of a past.
func TestExplainDaemon(t *testing.T) {
	parent, child := person(10, "web", 5), person(11, "web", 1)
	child.P.Created = boot.Add(100 * time.Second)
	inherited := []string{"server 11", "address", "holder 11", "process 11", "reach 11", "origin 10 own", "advice 11 free $ kill 11", "known"}
	apart := []string{"server 11", "address", "holder 11", "process 11", "reach 11", "origin 11 nowhere", "before 10 ×1 then", "advice 11 free $ kill 11", "known"}
	for _, tc := range []struct {
		name   string
		change func(*Inquiry)
		want   []string
	}{
		{"watched all the time", func(*Inquiry) {}, inherited},
		{"the recorder ended", func(q *Inquiry) { q.Watches[0].Goes = false }, apart},
		{"something was lost since", func(q *Inquiry) {
			q.Past = append(q.Past, &Record{Event: "lost", Time: at(200), Lost: &LostRecord{Count: 1}})
		}, apart},
		{"another socket of the look", func(q *Inquiry) {
			var s tale
			s.sock("listen", 1000, 78, person(20, "db"), "127.0.0.1:8080").Preexisting = true
			q.Live = append(q.Live, s.records...)
		}, nil},
		{"born a moment ago, which the store may not have yet", func(q *Inquiry) {
			young := *child.P
			young.Created = at(999)
			q.Live[0].Sock.Process.P = &young
		}, apart},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var past, live tale
			past.add(&Record{Event: "start", Time: at(0), Start: &StartRecord{}})
			past.serve(99.9, 1, parent, "127.0.0.1:8080", 8080)
			live.sock("listen", 1000, 77, child, "127.0.0.1:8080").Preexisting = true
			q := inquiry("127.0.0.1:8080")
			q.Past, q.Looked, q.Live = past.records, true, live.records
			q.Watches = []Watch{{From: at(0), Until: at(900), Goes: true}}
			tc.change(q)
			e := Explain(q)
			if tc.want == nil {
				if f := e.Findings[0]; !f.From.IsZero() {
					t.Errorf("since %v", f.From)
				}
				return
			}
			list := kinds(e)
			if diff := cmp.Diff(tc.want, list[:slices.Index(list, "known")+1]); diff != "" { // without the gaps of the store
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, f := range e.Findings {
				if f.Kind == FindHolder && f.From.Equal(at(99.9)) != (len(tc.want) == len(inherited)) {
					t.Errorf("since %v", f.From)
				}
				if f.Kind == FindHolder && f.Unseen != f.From.IsZero() {
					t.Errorf("since %v: that somebody watched is denied", f.From)
				}
			}
		})
	}

	// Of the past, who let go of it is the last who had it.
	var s tale
	s.serve(100, 1, parent, "127.0.0.1:8080", 8080)
	s.release(200, 1, child, "127.0.0.1:8080")
	q := inquiry("127.0.0.1:8080")
	q.Past, q.Looked = s.records, true
	if got := kinds(Explain(q)); !slices.Equal(got, []string{"nobody 11 server", "address", "before 11 ×1", "known"}) {
		t.Errorf("got %q", got)
	}
}

// TestExplainGaps: what the store cannot know is said with what it knows.
func TestExplainGaps(t *testing.T) {
	watches := []Watch{{From: at(0), Until: at(100)}, {From: at(200), Until: at(900), Goes: true}}
	start := func(sec float64, filters map[string]any) *Record {
		return &Record{Event: "start", Time: at(sec), Start: &StartRecord{Filters: filters}}
	}
	lost := func(since, sec float64) *Record {
		return &Record{Event: "lost", Time: at(sec), Lost: &LostRecord{Count: 10, Since: at(since)}}
	}
	for _, tc := range []struct {
		name    string
		at      float64
		watches []Watch
		past    []*Record
		want    []string
		from    float64
	}{
		{name: "all was watched", watches: watches, past: []*Record{start(200, nil)}},
		{name: "a moment that was watched", at: 50, watches: watches},
		{name: "a moment that was not", at: 150, watches: watches, want: []string{"unwatched"}, from: 100},
		{name: "nobody watches now", watches: watches[:1], want: []string{"unwatched"}, from: 100},
		{name: "nor did then", at: 150, watches: watches[:1], want: []string{"unwatched"}, from: 100},
		{name: "lost", watches: watches, past: []*Record{lost(300, 310), lost(320, 330)}, want: []string{"lost ×20"}, from: 300},
		{name: "lost then", at: 325, watches: watches, past: []*Record{lost(300, 310), lost(320, 330)}, want: []string{"lost ×10"}, from: 320},
		{name: "lost at another time", at: 400, watches: watches, past: []*Record{lost(300, 310), lost(420, 430)}},
		{
			name: "filtered", watches: watches, past: []*Record{start(0, nil), start(200, map[string]any{"port": "80,443", "comm": "curl"})},
			want: []string{"filtered comm=curl, port=80,443"}, from: 200,
		},
		{name: "filtered later", at: 50, watches: watches, past: []*Record{start(0, nil), start(200, map[string]any{"port": "80"})}},
		{name: "filters that have it", watches: watches, past: []*Record{start(200, map[string]any{"port": "80,8080", "netns": fmt.Sprint(home), "local": true})}},
		{name: "left out", watches: watches, past: []*Record{start(200, map[string]any{"port": "!8080"})}, want: []string{"filtered port=!8080"}, from: 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := inquiry("8080")
			q.Looked, q.Watches, q.Past = true, tc.watches, tc.past
			if tc.at != 0 {
				q.At, q.AtEnd, q.Looked = at(tc.at), at(tc.at+1), false
			}
			e := Explain(q)
			list := kinds(e)
			i := slices.Index(list, "known")
			if diff := cmp.Diff(tc.want, slices.Clip(list[i+1:]), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if last := e.Findings[len(e.Findings)-1]; tc.want != nil && !last.From.Equal(at(tc.from)) {
				t.Errorf("from %v", last.From)
			}
		})
	}
}
