// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/looptrace/looptrace/output/otlp/otlptest"
	"github.com/looptrace/looptrace/tracer/flow"
)

func TestRecordsArrive(t *testing.T) {
	rc := &otlptest.Receiver{}
	server := httptest.NewServer(rc)
	defer server.Close()
	t.Setenv("OTEL_SERVICE_NAME", "who-connects")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,k8s.pod.uid=abc")
	cfg := settings(t, server.URL, map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=a%20b, Authorization = Basic%20cTpw"})
	cfg.Version = "1.2.3"
	s, told := open(t, cfg)
	write(t, s, 1, 2)
	waitFor(t, "record", func() bool { return len(rc.Records()) == 1 })

	r := rc.Records()[0]
	if r.TimeUnixNano != uint64(began.UnixNano()) || r.ObservedTimeUnixNano != r.TimeUnixNano {
		t.Errorf("time %d, observed %d, want %d", r.TimeUnixNano, r.ObservedTimeUnixNano, began.UnixNano())
	}
	if r.SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_WARN || r.SeverityText != "warn" || r.EventName != "looptrace.connect" {
		t.Errorf("severity %v %q, event %q", r.SeverityNumber, r.SeverityText, r.EventName)
	}
	if body := otlptest.Text(r.Body); body != "curl[4302]:51234 was refused by 127.0.0.1:49342: no listener known there" {
		t.Errorf("body %q", body)
	}
	want := map[string]string{
		"event.name": "looptrace.connect", "id": "1", "outcome": "failure", "error.type": "ECONNREFUSED", "network.transport": "tcp", "network.type": "ipv4",
		"port": "49342", "netns": "4026531840", "client.address": "127.0.0.1", "client.port": "51234", "server.address": "127.0.0.1", "server.port": "49342",
		"client.process.pid": "4302", "client.process.comm": "curl", "client.process.executable.name": "curl", "client.process.executable.path": "/usr/bin/curl",
		"client.process.user.id": "1000", "client.process.attribution": "hook", "client.process.ancestors": "[{executable.name=init pid=1}]", "duration_ns": "50000",
	}
	if diff := cmp.Diff(want, otlptest.Attributes(r.Attributes)); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	host, _ := os.Hostname()
	resource := maps.Clone(rc.Resource())
	delete(resource, "host.id")
	delete(resource, "container.id") // where the test runs in one
	wantResource := map[string]string{
		"service.name": "who-connects", "service.version": "1.2.3", "host.name": host, "os.type": "linux",
		"deployment.environment.name": "test", "k8s.pod.uid": "abc",
	}
	if diff := cmp.Diff(wantResource, resource); diff != "" {
		t.Errorf("resource (-want +got):\n%s", diff)
	}
	wantHeaders := map[string]string{
		"X-Tenant": "a b", "Authorization": "Basic cTpw", "User-Agent": "looptrace/1.2.3", "Content-Encoding": "gzip", "Content-Type": "application/x-protobuf",
	}
	for name, want := range wantHeaders {
		if got := rc.Headers().Get(name); got != want {
			t.Errorf("header %s: %q, want %q", name, got, want)
		}
	}
	if err := s.Close(); err != nil || s.Sent() != 1 || s.Lost() != 0 || told.all() != "" {
		t.Errorf("close: %v; sent %d, lost %d, said %q", err, s.Sent(), s.Lost(), told.all())
	}
}

// TestBatches: what waits goes out together, and no request is larger than a batch.
func TestBatches(t *testing.T) {
	rc := &otlptest.Receiver{}
	server := httptest.NewServer(rc)
	defer server.Close()
	s, _ := open(t, settings(t, server.URL, map[string]string{
		"OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "100", "OTEL_BLRP_SCHEDULE_DELAY": "60000", "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
	}))
	write(t, s, 0, 250)
	waitFor(t, "two batches", func() bool { return len(rc.Records()) == 200 })
	if n := rc.Requests(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(ids(rc.Records())); n != 250 || rc.Requests() != 3 {
		t.Errorf("%d records in %d requests, want 250 in 3", n, rc.Requests())
	}
	if rc.Headers().Get("Content-Encoding") != "" {
		t.Error("compressed")
	}
}

// TestReceiverIsAway: what fits arrives later, the rest is counted and told, once.
func TestReceiverIsAway(t *testing.T) {
	rc := &otlptest.Receiver{}
	addr := freeAddr(t)
	s, told := open(t, settings(t, "http://"+addr, map[string]string{"OTEL_BLRP_MAX_QUEUE_SIZE": "100", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "30"}))
	write(t, s, 0, 60)
	waitFor(t, "word of it", func() bool { return told.all() != "" })
	write(t, s, 60, 250)
	if n := s.Lost(); n != 150 {
		t.Errorf("lost %d, want 150", n)
	}
	if n, since := s.TakeLost(); n != 150 || time.Since(since) > time.Minute {
		t.Errorf("took %d since %v, want 150", n, since)
	}
	if err := s.Write(&flow.Record{Event: "lost", Time: began, Lost: &flow.LostRecord{Count: 150, Where: Place}}); err != nil {
		t.Fatal(err)
	}
	write(t, s, 0, 0)
	if n, _ := s.TakeLost(); n != 0 || s.Lost() != 150 {
		t.Errorf("took %d and lost %d: the loss of a lost record counts", n, s.Lost())
	}
	serve(t, addr, rc)
	waitFor(t, "records", func() bool { return len(rc.Records()) == 100 })
	waitFor(t, "word of the receiver", func() bool {
		return contains(told.all(), "connection refused", "up to 100 records wait", "again, 150 were lost")
	})
	write(t, s, 250, 260)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := ids(rc.Records())
	if len(got) != 110 || s.Sent() != 111 || s.Lost() != 150 {
		t.Errorf("%d arrived, sent %d, lost %d; want 110, 111 with the record of the gap, 150", len(got), s.Sent(), s.Lost())
	}
	var gaps []string
	for _, r := range rc.Records() {
		if r.EventName == "looptrace.lost" {
			gaps = append(gaps, otlptest.Attributes(r.Attributes)["count"]+" "+otlptest.Attributes(r.Attributes)["where"])
		}
	}
	if diff := cmp.Diff([]string{"150 otlp"}, gaps); diff != "" {
		t.Errorf("lost records (-want +got):\n%s", diff)
	}
}

// TestReceiverSaysLater: what the specification says can be tried again is, and arrives once.
func TestReceiverSaysLater(t *testing.T) {
	for _, status := range []int{429, 502, 503, 504} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			rc := &otlptest.Receiver{}
			rc.Set(func(w http.ResponseWriter, _ int) {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(status)
			})
			server := httptest.NewServer(rc)
			defer server.Close()
			s, _ := open(t, settings(t, server.URL, nil))
			write(t, s, 0, 10)
			waitFor(t, "request", func() bool { return rc.Requests() == 1 })
			rc.Set(nil)
			waitFor(t, "records", func() bool { return len(rc.Records()) == 10 })
			if err := s.Close(); err != nil || s.Sent() != 10 || s.Lost() != 0 || rc.Requests() != 2 {
				t.Errorf("close: %v; sent %d, lost %d, %d requests", err, s.Sent(), s.Lost(), rc.Requests())
			}
		})
	}
}

// TestReceiverRefuses: what is refused for good is lost, all of it or the part that the receiver says.
func TestReceiverRefuses(t *testing.T) {
	part := func(w http.ResponseWriter, _ int) {
		raw, _ := proto.Marshal(&collogs.ExportLogsServiceResponse{PartialSuccess: &collogs.ExportLogsPartialSuccess{RejectedLogRecords: 3, ErrorMessage: "too old"}})
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(raw)
	}
	tests := []struct {
		name   string
		answer func(w http.ResponseWriter, n int)
		lost   uint64
		said   string
	}{
		{"no password", func(w http.ResponseWriter, _ int) { http.Error(w, "who are you", http.StatusUnauthorized) }, 10, "who are you"},
		{"some", part, 3, "too old"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			rc := answering(test.answer)
			server := httptest.NewServer(rc)
			defer server.Close()
			s, told := open(t, settings(t, server.URL, nil))
			write(t, s, 0, 10)
			waitFor(t, "loss", func() bool { return s.Lost() == test.lost })
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if s.Sent() != 10-test.lost || !contains(told.all(), test.said) {
				t.Errorf("sent %d, said %q", s.Sent(), told.all())
			}
		})
	}
}

// TestCloseDoesNotHang: with a receiver that never answers, the end comes in time, and says what is missing.
func TestCloseDoesNotHang(t *testing.T) {
	free := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-free }))
	defer server.Close()
	defer close(free)
	s, _ := open(t, settings(t, server.URL, nil))
	write(t, s, 0, 10)
	closed := time.Now()
	err := s.Close()
	var undelivered *UndeliveredError
	if !errors.As(err, &undelivered) || undelivered.Count != 10 || s.Lost() != 10 {
		t.Errorf("close: %v, lost %d", err, s.Lost())
	}
	if took := time.Since(closed); took > 2*flushTime {
		t.Errorf("took %v", took)
	}
	if again := s.Close(); !errors.Is(again, err) {
		t.Errorf("closed again: %v", again)
	}
	write(t, s, 0, 1)
	if s.Lost() != 11 {
		t.Errorf("lost %d after a record that came too late, want 11", s.Lost())
	}
}
