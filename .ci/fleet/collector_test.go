// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/looptrace/looptrace/output/otlp/otlptest"
)

const (
	connections = 100_000
	restarts    = 5
	burst       = 2000
	// queueSize is less than what happens in one of the collector's absences: something has to be lost.
	queueSize = 10_000
)

// passOn has the collector hand each request on before it answers it: what it took, the sink has.
const passOn = `receivers:
  otlp:
    protocols:
      http:
        endpoint: %s
exporters:
  otlp_http:
    endpoint: %s
    sending_queue: { enabled: false }
    retry_on_failure: { enabled: false }
service:
  telemetry:
    metrics: { level: none }
  pipelines:
    logs: { receivers: [otlp], exporters: [otlp_http] }
`

// TestCollectorIsKilled: the collector is killed and started again five times during 100,000 connections. What
// arrived and what looptrace counts as lost is what happened, to the record.
func TestCollectorIsKilled(t *testing.T) {
	arrived := &sink{seen: map[string]int{}}
	server := httptest.NewServer(arrived)
	defer server.Close()
	addr := freeAddr(t)
	config := filepath.Join(t.TempDir(), "collector.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, passOn, addr, server.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	running := startCollector(t, config, addr)
	defer func() { kill(running) }()

	target := accepting(t)
	records := &counter{}
	trace := exec.Command(*looptrace, "-o", "json", "--no-snapshot", "--netns", netns(t, "self"), "--port", port(target), "--otlp", "http://"+addr)
	trace.Env = append(os.Environ(), "OTEL_BLRP_MAX_QUEUE_SIZE="+strconv.Itoa(queueSize))
	trace.Stdout = records
	var stderr bytes.Buffer
	trace.Stderr = &stderr
	defer func() { t.Logf("stderr:\n%s", &stderr) }()
	trace.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := trace.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "start record", func() bool { return records.count("start") == 1 })

	dialed := 0
	load := func(n int) { // no faster than they are recorded: what a busy machine loses in the kernel is another test's
		for range n / burst {
			dial(t, target, burst)
			dialed += burst
			records.settle(t, dialed)
		}
	}
	for i := range restarts {
		kill(running)
		load(connections / restarts / 2)
		running = startCollector(t, config, addr)
		load(connections / restarts / 2)
		t.Logf("%d: %d records written, %d arrived", i+1, records.total(), arrived.records())
	}
	// Everything that waits arrives, and last of all word of what was lost.
	await(t, "delivery", func() bool { return arrived.records()+arrived.confessed() == records.total() })
	if err := trace.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := trace.Wait(); err != nil {
		t.Errorf("looptrace: %v", err)
	}

	lost, inKernel := records.stopped(t)
	if inKernel != 0 {
		t.Errorf("%d events were lost in the kernel", inKernel)
	}
	for _, event := range []string{"connect", "accept", "close"} {
		if n := records.count(event); n > connections || connections-n > unseen() {
			t.Errorf("%d %s records, want %d", n, event, connections)
		}
	}
	if arrived.records()+lost != records.total() || lost != arrived.confessed() || lost == 0 {
		t.Errorf("%d arrived + %d lost, of which the receiver was told %d, of %d", arrived.records(), lost, arrived.confessed(), records.total())
	}
	t.Logf("%d records = %d arrived + %d lost; %d arrived twice", records.total(), arrived.records(), lost, arrived.twice())
	if n := strings.Count(stderr.String(), "takes records again"); n == 0 || n > 2*restarts {
		t.Errorf("told %d times that the collector is back", n)
	}
}

// unseen is how many events of a kind may be missing. Where even root may not read /proc/1/exe, a security module
// runs beside us that keeps the kernel from running any BPF program now and then, uncounted. Elsewhere none may.
func unseen() int {
	if _, err := os.Readlink("/proc/1/exe"); err != nil {
		return connections / 1000
	}
	return 0
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

// accepting is a server that takes connections until they end.
func accepting(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// dial makes connections and ends them with a reset: there are not ports enough for that many TIME_WAITs.
func dial(t *testing.T, addr string, n int) {
	t.Helper()
	const workers = 4
	errs := make(chan error, workers)
	for range workers {
		go func() { errs <- dialSome(addr, n/workers) }()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

func dialSome(addr string, n int) error {
	for range n {
		c, err := net.Dial("tcp4", addr)
		if err != nil {
			return err
		}
		if err := errors.Join(c.(*net.TCPConn).SetLinger(0), c.Close()); err != nil {
			return err
		}
	}
	return nil
}

// sink is what the collector passes on to. A record may come twice, when the answer to the first did not get through.
type sink struct {
	mu   sync.Mutex
	seen map[string]int
	gaps int
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := otlptest.Decode(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range request.ResourceLogs {
		for _, scope := range of.ScopeLogs {
			for _, record := range scope.LogRecords {
				attrs := otlptest.Attributes(record.Attributes)
				key := fmt.Sprint(record.EventName, attrs["id"], record.TimeUnixNano)
				if s.seen[key]++; s.seen[key] == 1 && attrs["where"] == "otlp" {
					n, _ := strconv.Atoi(attrs["count"])
					s.gaps += n
				}
			}
		}
	}
}

// records counts those that are not about what was lost on the way here.
func (s *sink) records() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.seen {
		if !strings.HasPrefix(key, "looptrace.lost") {
			n++
		}
	}
	return n
}

// confessed is how many records the sink was told that it lacks.
func (s *sink) confessed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gaps
}

func (s *sink) twice() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, times := range s.seen {
		n += times - 1
	}
	return n
}

// counter counts what looptrace writes on stdout.
type counter struct {
	mu     sync.Mutex
	rest   []byte
	events map[string]int
	stop   []byte
	kernel int
	losses int // records that tell of a loss, whatever was lost
}

func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.events == nil {
		c.events = map[string]int{}
	}
	c.rest = append(c.rest, p...)
	for {
		line, rest, whole := bytes.Cut(c.rest, []byte{'\n'})
		if !whole {
			return len(p), nil
		}
		c.line(line)
		c.rest = append(c.rest[:0], rest...)
	}
}

func (c *counter) line(line []byte) {
	var r struct {
		Event, Where string
		Count        int
	}
	if json.Unmarshal(line, &r) != nil {
		r.Event = "broken"
	}
	if r.Event == "lost" {
		c.losses++
		if r.Where != "otlp" {
			c.kernel += r.Count
		}
		return
	}
	c.events[r.Event]++
	if r.Event == "stop" {
		c.stop = bytes.Clone(line)
	}
}

func (c *counter) count(event string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.events[event]
}

// settle waits for the records of so many connections, and goes on without one that was not seen. What looptrace
// says that it lost in the kernel is the end's to judge.
func (c *counter) settle(t *testing.T, dialed int) {
	t.Helper()
	const quiet = time.Second
	before, since := -1, time.Now()
	await(t, fmt.Sprintf("records of %d connections", dialed), func() bool {
		if n := c.total(); n != before {
			before, since = n, time.Now()
		}
		return c.count("close") == dialed || dialed-c.count("close") <= unseen() && time.Since(since) > quiet
	})
}

func (c *counter) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, count := range c.events {
		n += count
	}
	return n
}

// stopped gives what the stop record counts as lost on the way, and what was lost before.
func (c *counter) stopped(t *testing.T) (lost, inKernel int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var stop struct{ Lost int }
	if err := json.Unmarshal(c.stop, &stop); err != nil {
		t.Fatalf("stop record %q: %v", c.stop, err)
	}
	return stop.Lost - c.kernel, c.kernel
}
