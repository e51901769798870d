// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestExplainSeen: a program was seen before, or for the first time, or nobody can know.
func TestExplainSeen(t *testing.T) {
	for _, tc := range []struct {
		name    string
		began   float64   // the process, seconds from boot
		first   time.Time // zero: the store has not seen it
		since   float64   // the store remembers; negative: there is none
		want    string
		earlier bool // another process of it had the port
	}{
		{name: "seen before", began: 5000, first: at(100), want: "machine"},
		{name: "for the first time", began: 5000, first: at(5001), want: "first"},
		{name: "first seen within a clock tick of its start", began: 5000, first: at(4999.99), want: "first"},
		{name: "not seen yet", began: 5000, want: "first"},
		{name: "older than the store", began: 5000, first: at(7000), since: 6000},
		{name: "for the first time, by a store that is young", began: 5000, first: at(5001), since: 4000},
		{name: "seen before, and on this port", began: 5000, first: at(100), earlier: true, want: "port"},
		{name: "no store", began: 5000, since: -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := person(10, "server")
			server.P.Created = at(tc.began)
			var s tale
			if tc.earlier {
				s.serve(200, 1, person(9, "server"), "127.0.0.1:8080", 8080)
				s.release(210, 1, person(9, "server"), "127.0.0.1:8080")
			}
			s.serve(tc.began+1, 2, server, "127.0.0.1:8080", 8080)
			q := inquiry("127.0.0.1:8080")
			q.Past, q.Now = s.records, at(10000)
			if q.Remembers = at(tc.since); tc.since < 0 {
				q.Remembers = time.Time{}
			}
			if !tc.first.IsZero() {
				q.FirstSeen = map[string]time.Time{"/bin/server": tc.first}
			}
			found := Explain(q).Findings
			i := slices.IndexFunc(found, func(f Finding) bool { return f.Kind == FindSeen })
			got := ""
			if i >= 0 {
				got = found[i].Why
			}
			if got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// TestExplainHere: who has the port in another network namespace keeps nobody out of this one; a closed connection does,
// and the store knows whose it was.
func TestExplainHere(t *testing.T) {
	var s tale
	s.talk(990, 1, person(20, "client"), 50000, person(10, "server"), "127.0.0.1:8080")
	past := s.records
	s = tale{}
	s.sock("listen", 1000, 7, person(30, "elsewhere"), "127.0.0.1:8080").Preexisting = true
	s.records[0].Netns = home + 1
	q := inquiry("127.0.0.1:8080")
	q.Past, q.Live, q.Looked = past, s.records, true
	q.Waiting = []Holder{{
		Kind: HolderTimeWait, Address: netip.MustParseAddr("127.0.0.1"), Port: 8080, Peer: netip.MustParseAddrPort("127.0.0.1:50000"), Expires: time.Minute,
	}}
	found := Explain(q).Findings
	i := slices.IndexFunc(found, func(f Finding) bool { return f.Kind == FindTimeWait && f.Why == "" })
	if i < 0 || !found[i].Process.Known() || found[i].Process.P.PID != 10 {
		t.Errorf("no TIME_WAIT of process 10: %v", kinds(Explain(q)))
	}
	for _, f := range found {
		if f.Kind == FindAdvice && f.Why != AdviceWait {
			t.Errorf("advice %s: %s", f.Why, f.Command)
		}
	}
}

// TestExplainClosedClient: who closes first keeps the port for a minute. Of a client, which an access log names, the answer
// says what it was and dialled, and that it is over; of the server's end of the same connection it does not.
func TestExplainClosedClient(t *testing.T) {
	for _, tc := range []struct {
		target string
		want   []string
	}{
		{"127.0.0.1:50000", []string{"client 20 then", "time_wait 20 ×1", "address", "advice wait", "advice look $ sudo looptrace explain 127.0.0.1:8080", "known"}},
		{"127.0.0.1:8080", []string{"time_wait 10 ×1", "address", "visitor 20 ×1", "advice wait", "known"}},
	} {
		var s tale
		s.talk(990, 1, person(20, "client"), 50000, person(10, "server"), "127.0.0.1:8080")
		q := inquiry(tc.target)
		q.Past, q.Looked = s.records, true
		local, peer := netip.MustParseAddrPort("127.0.0.1:50000"), netip.MustParseAddrPort("127.0.0.1:8080")
		if q.Targets[0].Port != local.Port() {
			local, peer = peer, local
		}
		q.Waiting = []Holder{{Kind: HolderTimeWait, Address: local.Addr(), Port: local.Port(), Peer: peer, Expires: time.Minute}}
		if diff := cmp.Diff(tc.want, kinds(Explain(q))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.target, diff)
		}
	}
}

// TestExplainNetns: the same port of another network namespace is another port. Its visitors are told apart, and who had it
// there is not who had it here, nor to be started anew.
func TestExplainNetns(t *testing.T) {
	here, there, redis := person(10, "python", 5), person(20, "redis", 5), person(31, "redis-cli", 5)
	var s tale
	s.serve(100, 1, here, "127.0.0.1:8080", 8080)
	s.talk(110, 2, person(30, "redis-cli", 5), 50000, here, "127.0.0.1:8080")
	s.release(120, 1, here, "127.0.0.1:8080")
	s.refused(130, redis, "127.0.0.1:8080")
	n := len(s.records)
	s.serve(200, 3, there, "127.0.0.1:8080", 8080)
	s.talk(210, 4, redis, 50000, there, "127.0.0.1:8080")
	s.release(220, 3, there, "127.0.0.1:8080")
	s.refused(230, redis, "127.0.0.1:8080")
	for _, r := range s.records[n:] {
		r.Netns = home + 1
	}
	for _, tc := range []struct {
		target string
		past   []*Record
		want   []string
	}{
		{"127.0.0.1:8080", s.records, []string{
			"nobody 10 server", "address", "visitor 30 ×1", "visitor 31 ×1", "refused 31 ×1", "refused 31 ×1", "before 10 ×2", "before 20 ×2",
			"advice 10 start", "known",
		}},
		{"127.0.0.1:8080", s.records[n:], []string{"nobody 20 server", "address", "visitor 31 ×1", "refused 31 ×1", "before 20 ×1", "known"}},
		{"127.0.0.1:50000", s.records, []string{
			"nobody 30 client", "client 30 then", "address", "failed 31 ×1", "failed 31 ×1", "advice look $ sudo looptrace explain 127.0.0.1:8080", "known",
		}},
	} {
		q := inquiry(tc.target)
		q.Past, q.Looked = tc.past, true
		if diff := cmp.Diff(tc.want, kinds(Explain(q))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.target, diff)
		}
	}
}
