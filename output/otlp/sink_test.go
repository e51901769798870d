// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	logs "go.opentelemetry.io/proto/otlp/logs/v1"

	"github.com/looptrace/looptrace/output/otlp/otlptest"
	"github.com/looptrace/looptrace/tracer/flow"
)

func answering(answer otlptest.Answer) *otlptest.Receiver {
	rc := &otlptest.Receiver{}
	rc.Set(answer)
	return rc
}

// settings makes a Config of an environment, in which waiting is short.
func settings(t *testing.T, url string, env map[string]string) Config {
	t.Helper()
	cfg, ok, err := ReadConfig(url, func(name string) string {
		if name == "OTEL_BLRP_SCHEDULE_DELAY" && env[name] == "" {
			return "10"
		}
		return env[name]
	})
	if err != nil || !ok {
		t.Fatalf("ok %v, %v", ok, err)
	}
	return cfg
}

// said collects what a person is told.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *said) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

func open(t *testing.T, cfg Config) (*Sink, *said) {
	t.Helper()
	told := &said{}
	cfg.Say = told.add
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, told
}

var began = time.Date(2026, 11, 25, 10, 0, 0, 123456789, time.UTC)

func connect(n int) *flow.Record {
	curl := &flow.Process{ProcessID: flow.ProcessID{PID: 4302, UID: 1000}, Comm: "curl", ExeName: "curl", ExePath: "/usr/bin/curl", Ancestors: []flow.Ancestor{{PID: 1, ExeName: "init"}}}
	localhost := netip.MustParseAddr("127.0.0.1")
	return &flow.Record{
		Event: "connect", Time: began, ID: uint64(n), Level: flow.Warn, Errno: 111, Proto: flow.TCP, Netns: 4026531840, Port: 49342, HasPort: true,
		Conn: &flow.ConnRecord{
			Client:   flow.End{Address: localhost, Port: 51234, HasPort: true, Process: flow.Actor{P: curl, Attribution: "hook"}},
			Server:   flow.End{Address: localhost, Port: 49342, HasPort: true},
			Duration: 50 * time.Microsecond,
		},
	}
}

func write(t *testing.T, s *Sink, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := s.Write(connect(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s", what)
		}
	}
}

// ids counts how often each connection was delivered, without lost records.
func ids(records []*logs.LogRecord) map[string]int {
	m := map[string]int{}
	for _, r := range records {
		if id := otlptest.Attributes(r.Attributes)["id"]; id != "" {
			m[id]++
		}
	}
	return m
}

// freeAddr is an address of this host that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serve makes a receiver on an address, and gives what ends it.
func serve(t *testing.T, addr string, rc *otlptest.Receiver) (stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(rc)
	server.Listener.Close()
	server.Listener = l
	server.Start()
	stop = sync.OnceFunc(func() {
		server.CloseClientConnections()
		server.Close()
	})
	t.Cleanup(stop)
	return stop
}

func contains(text string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}

// benchSink sends to a receiver that reads and forgets.
func benchSink(b *testing.B) (*Sink, func()) {
	b.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	cfg, _, err := ReadConfig(server.URL, func(string) string { return "" })
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	return s, server.Close
}
