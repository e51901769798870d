// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bytes"
	"flag"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer/flow"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// full has everything that there can be.
func full() Config {
	return Config{
		Version: "v1.2.3", Hooks: "tracepoint", Places: []string{"ring buffer"},
		Ring:  func() Ring { return Ring{Size: 4096, Used: 128, Peak: 2048} },
		Ports: func() (Ports, bool) { return Ports{Size: 28232, TCP: 20, UDP: 3}, true },
		Store: func() (int64, bool) { return 86528, true },
	}
}

// scrape asks as Prometheus does, and leaves out what differs from one process to the next.
func scrape(t *testing.T, s *Sink) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	var b strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "process_") {
			line = name + " N\n"
		}
		b.WriteString(strings.Replace(line, runtime.Version(), "GO", 1))
	}
	return b.String()
}

// value is one metric's, as the text has it; "" where there is none.
func value(t *testing.T, s *Sink, series string) string {
	t.Helper()
	for line := range strings.Lines(scrape(t, s)) {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// TestGolden feeds it the records that every sink is fed.
func TestGolden(t *testing.T) {
	lines, err := os.ReadFile("../testdata/records.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	s := New(full())
	for line := range bytes.Lines(lines) {
		r, err := output.Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	got := scrape(t, s)
	const golden = "testdata/metrics.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLint: names, units and help are what Prometheus's own linter wants.
func TestLint(t *testing.T) {
	s := New(full())
	problems, err := testutil.GatherAndLint(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]promlint.Problem(nil), problems); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n, err := testutil.GatherAndCount(s.registry); err != nil || n < 30 {
		t.Errorf("%d metrics linted, %v", n, err)
	}
}

// TestUnknownIsAbsent: what cannot be known has no metric, rather than a zero.
func TestUnknownIsAbsent(t *testing.T) {
	s := New(Config{
		Ports: func() (Ports, bool) { return Ports{}, false },
		Store: func() (int64, bool) { return 0, false },
	})
	got := scrape(t, s)
	for _, name := range []string{"looptrace_ring_", "looptrace_ephemeral_ports ", "looptrace_ephemeral_ports_in_use", "looptrace_store_"} {
		if strings.Contains(got, name) {
			t.Errorf("%s… is there:\n%s", name, got)
		}
	}
}

// proc is a program that made a call.
func proc(name string) flow.Actor {
	return flow.Actor{P: &flow.Process{Comm: name, ExeName: name}, Attribution: "hook"}
}

func refusal(name string, port uint16) *flow.Record {
	return &flow.Record{
		Event: "connect", Errno: int32(syscall.ECONNREFUSED), Port: port, HasPort: true,
		Conn: &flow.ConnRecord{Client: flow.End{Process: proc(name)}},
	}
}

func TestWrite(t *testing.T) {
	noPorts := func(inUse int) *flow.Record {
		return &flow.Record{
			Event: "connect", Errno: int32(syscall.EADDRNOTAVAIL), Port: 80, HasPort: true,
			Conn: &flow.ConnRecord{EphemeralPorts: &flow.EphemeralPorts{Low: 32768, High: 60999, InUse: inUse}},
		}
	}
	inUse := func(event string, sock flow.SockRecord) *flow.Record {
		sock.Process = proc("rival")
		return &flow.Record{Event: event, Errno: int32(syscall.EADDRINUSE), Sock: &sock}
	}
	anyPort := flow.SockRecord{HasRequested: true, Requested: netip.MustParseAddrPort("127.0.0.1:0")}
	listener := &flow.Record{Event: "listen", Preexisting: true, Sock: &flow.SockRecord{Process: proc("old")}}
	reset := refusal("curl", 80)
	reset.Event = "close"
	tests := []struct {
		name   string
		record *flow.Record
		series string
		want   string
	}{
		{"a refusal", refusal("curl", 80), `looptrace_refused_connections_total{port="80",program="curl"}`, "1"},
		{"a refusal is a failure", refusal("curl", 80), `looptrace_events_total{event="connect",outcome="failure"}`, "1"},
		{"a refusal of nobody known", &flow.Record{Event: "connect", Errno: int32(syscall.ECONNREFUSED), Port: 80, HasPort: true, Conn: &flow.ConnRecord{}}, `looptrace_refused_connections_total{port="80",program=""}`, "1"},
		{"a name that is no UTF-8", refusal("a\xffb", 80), "looptrace_refused_connections_total{port=\"80\",program=\"a\uFFFDb\"}", "1"},
		{"a connection that ended is not refused", reset, `looptrace_refused_connections_total{port="80",program="curl"}`, ""},
		{
			"refusals of a summary", &flow.Record{Event: "summary", Errno: int32(syscall.ECONNREFUSED), Port: 80, HasPort: true, Summary: &flow.SummaryRecord{Client: flow.Program{Comm: "curl"}, Count: 7}},
			`looptrace_refused_connections_total{port="80",program="curl"}`, "7",
		},
		{"a summary", &flow.Record{Event: "summary", Summary: &flow.SummaryRecord{Count: 5}}, `looptrace_summarized_connections_total{outcome="success"}`, "5"},
		{"bind of a port in use", inUse("bind", flow.SockRecord{HasRequested: true, Requested: netip.MustParseAddrPort("127.0.0.1:80")}), `looptrace_address_in_use_total{port="80",program="rival"}`, "1"},
		{"listen on a port in use", inUse("listen", flow.SockRecord{}), `looptrace_address_in_use_total{port="",program="rival"}`, "1"},
		{"bind of any port", inUse("bind", anyPort), `looptrace_address_in_use_total{port="0",program="rival"}`, "1"},
		{"bind of any port, none left", inUse("bind", anyPort), "looptrace_ephemeral_ports_exhausted_total", "1"},
		{"bind of a port, others left", inUse("bind", flow.SockRecord{HasRequested: true, Requested: netip.MustParseAddrPort("127.0.0.1:80")}), "looptrace_ephemeral_ports_exhausted_total", "0"},
		{"connect, no port left", noPorts(28000), "looptrace_ephemeral_ports_exhausted_total", "1"},
		{"connect, ports left: no such address", noPorts(20), "looptrace_ephemeral_ports_exhausted_total", "0"},
		{"a loss", &flow.Record{Event: "lost", Lost: &flow.LostRecord{Where: "ring buffer", Count: 3}}, `looptrace_lost_events_total{place="ring buffer"}`, "3"},
		{"a loss is no missed probe", &flow.Record{Event: "lost", Lost: &flow.LostRecord{Where: "ring buffer", Count: 3}}, "looptrace_missed_probes_total", "0"},
		{"a missed probe", &flow.Record{Event: "lost", Lost: &flow.LostRecord{Where: "probe tcp_close", Count: 2}}, "looptrace_missed_probes_total", "2"},
		{"a skipped program", &flow.Record{Event: "lost", Lost: &flow.LostRecord{Where: "program tp_exec", Count: 2}}, "looptrace_missed_probes_total", "2"},
		{"a missed probe is a loss", &flow.Record{Event: "lost", Lost: &flow.LostRecord{Where: "probe tcp_close", Count: 2}}, `looptrace_lost_events_total{place="probe tcp_close"}`, "2"},
		{"what was there before, while tracing", listener, `looptrace_events_total{event="listen",outcome="success"}`, "1"},
		{"start is no event", &flow.Record{Event: "start", Start: &flow.StartRecord{}}, `looptrace_events_total{event="start",outcome="success"}`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := New(full())
			if err := s.Write(test.record); err != nil {
				t.Fatal(err)
			}
			if got := value(t, s, test.series); got != test.want {
				t.Errorf("%s is %q, want %q", test.series, got, test.want)
			}
		})
	}
}

// TestSnapshotIsNotCounted: what was there before did not happen now, what becomes of it does.
func TestSnapshotIsNotCounted(t *testing.T) {
	ready := make(chan struct{})
	cfg := full()
	cfg.Ready = ready
	s := New(cfg)
	const series = `looptrace_events_total{event="listen",outcome="success"}`
	r := &flow.Record{Event: "listen", Preexisting: true, Sock: &flow.SockRecord{}}
	for _, want := range []string{"0", "1"} {
		if err := s.Write(r); err != nil {
			t.Fatal(err)
		}
		if got := value(t, s, series); got != want {
			t.Errorf("%s is %q, want %q", series, got, want)
		}
		if want == "0" {
			close(ready)
		}
	}
}

// TestFlushIsAlive: a reader that is stuck can be told from one that has nothing to do.
func TestFlushIsAlive(t *testing.T) {
	s := New(full())
	if got := value(t, s, "looptrace_last_batch_timestamp_seconds"); got != "0" {
		t.Errorf("before the first batch: %q", got)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(s.lastBatch); got < 1.7e9 {
		t.Errorf("after a batch: %v", got)
	}
}

// TestCardinality: programs and ports without end make a bounded number of series, and every refusal is in one.
func TestCardinality(t *testing.T) {
	s := New(full())
	const (
		programs = 3 * maxPrograms
		ports    = 3 * maxPorts
		bound    = maxPrograms*(maxPorts+1) + 1
	)
	for i := range programs {
		for port := range uint16(ports) {
			if err := s.Write(refusal(fmt.Sprintf("program-%03d", i), 1000+port)); err != nil {
				t.Fatal(err)
			}
		}
	}
	n, err := testutil.GatherAndCount(s.registry, "looptrace_refused_connections_total")
	if err != nil || n != bound || bound != 1051 {
		t.Errorf("%d series, %v, want %d", n, err, bound)
	}
	for series, want := range map[string]int{
		`{port="1000",program="program-000"}`:  1,
		`{port="1019",program="program-049"}`:  1,
		`{port="other",program="program-000"}`: ports - maxPorts,
		`{port="other",program="other"}`:       (programs - maxPrograms) * ports,
		`{port="1000",program="program-050"}`:  0,
		`{port="1020",program="program-000"}`:  0,
	} {
		wanted := fmt.Sprint(want)
		if want == 0 {
			wanted = ""
		}
		if got := value(t, s, "looptrace_refused_connections_total"+series); got != wanted {
			t.Errorf("%s is %q, want %q", series, got, wanted)
		}
	}
}

// TestLongNames: a program may call itself anything.
func TestLongNames(t *testing.T) {
	s := New(full())
	if err := s.Write(refusal(strings.Repeat("é", 300), 80)); err != nil {
		t.Fatal(err)
	}
	series := `looptrace_refused_connections_total{port="80",program="` + strings.Repeat("é", maxLabel/2) + `"}`
	if got := value(t, s, series); got != "1" {
		t.Errorf("%s is %q:\n%s", series, got, scrape(t, s))
	}
}
