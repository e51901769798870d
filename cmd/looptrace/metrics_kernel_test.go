// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// metricsAt is a port of the test's own network namespace.
const metricsAt = "127.0.0.1:9464"

// dialMetrics connects as soon as somebody listens. Package http would dial from a thread of another namespace.
func dialMetrics(t *testing.T) net.Conn {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp4", metricsAt)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// scrape gives the value of each series.
func scrape(t *testing.T, c net.Conn) map[string]string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+metricsAt+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.SetDeadline(time.Now().Add(patience)), req.Write(c)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v: %s", resp.StatusCode, err, body)
	}
	series := map[string]string{}
	for line := range strings.Lines(string(body)) {
		if at := strings.LastIndexByte(line, ' '); !strings.HasPrefix(line, "#") {
			series[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return series
}

// ownNamespace puts this test, and what it starts, into a network namespace of its own.
func ownNamespace(t *testing.T) (inode uint64) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWNET), loopbackUp()); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// TestKernelMetrics: what is scraped is what happened, and scraping is nothing that happened.
func TestKernelMetrics(t *testing.T) {
	needRoot(t)
	inode := ownNamespace(t)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40099"), 0); err != nil {
		t.Fatal(err)
	}
	before, err := net.Listen("tcp4", "127.0.0.1:0") // there before tracing: it is no event
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	cmd := exec.Command("looptrace", "-o", "json", "--netns", fmt.Sprint(inode), "--metrics", ":9464")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := dialMetrics(t) // before the hooks are there: it waits in the queue of the listener
	await := func(series, want string) map[string]string {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			got := scrape(t, c)
			if got[series] == want {
				return got
			}
			if time.Now().After(end) {
				t.Fatalf("%s is %q, want %q: %v\n%s", series, got[series], want, got, &stderr)
			}
		}
	}
	await(`looptrace_events_total{event="listen",outcome="success"}`, "0")
	await("looptrace_ephemeral_ports", "100")
	// The listener from before, and the connection that scrapes.
	await(`looptrace_ephemeral_ports_in_use{transport="tcp"}`, "2")

	const refusals, inUse, udp = 3, 2, 4
	for range refusals {
		if _, err := net.Dial("tcp4", "127.0.0.1:81"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	server, err := net.Listen("tcp4", "127.0.0.1:82")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	plain := net.ListenConfig{}
	plain.SetMultipathTCP(false) // else it binds twice: MPTCP, and when that fails TCP
	for range inUse {
		if _, err := plain.Listen(t.Context(), "tcp4", "127.0.0.1:82"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	for range udp {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	await(`looptrace_events_total{event="bind",outcome="success"}`, fmt.Sprint(1+udp))
	await(`looptrace_ephemeral_ports_in_use{transport="udp"}`, fmt.Sprint(udp))
	await(`looptrace_events_total{event="connect",outcome="failure"}`, fmt.Sprint(refusals))
	got := await(`looptrace_events_total{event="bind",outcome="failure"}`, fmt.Sprint(inUse))
	program := filepath.Base(os.Args[0])
	for series, want := range map[string]string{
		`looptrace_refused_connections_total{port="81",program="` + program + `"}`: fmt.Sprint(refusals),
		`looptrace_address_in_use_total{port="82",program="` + program + `"}`:      fmt.Sprint(inUse),
		`looptrace_refused_connections_total{port="other",program="other"}`:        "0",
		`looptrace_lost_events_total{place="ring buffer"}`:                         "0",
		`looptrace_missed_probes_total`:                                            "0",
		`looptrace_ephemeral_ports_exhausted_total`:                                "0",
		`looptrace_ephemeral_ports_in_use{transport="tcp"}`:                        "2",
		`looptrace_events_total{event="connect",outcome="success"}`:                "0",
		`looptrace_events_total{event="accept",outcome="success"}`:                 "0",
		`looptrace_store_size_bytes`:                                               "", // not recording
	} {
		if got[series] != want {
			t.Errorf("%s is %q, want %q", series, got[series], want)
		}
	}
	if size, err := strconv.ParseFloat(got["looptrace_ring_size_bytes"], 64); err != nil || size < 8<<20 { // more on many processors
		t.Errorf("looptrace_ring_size_bytes is %q", got["looptrace_ring_size_bytes"])
	}
	for range 5 { // each a connection of its own
		scrape(t, dialMetrics(t))
	}
	if got["looptrace_ring_used_peak_bytes"] == "0" {
		t.Error("nothing ever was in the ring")
	}

	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
		t.Errorf("looptrace: %v: %s", err, &stderr)
	}
	checkOutput(t, stdout.Bytes(), got)
}

// TestKernelMetricsPortInUse: said before anything is traced; and the port is free for looptrace again right after.
func TestKernelMetricsPortInUse(t *testing.T) {
	needRoot(t)
	ownNamespace(t)
	l, err := net.Listen("tcp4", metricsAt)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("looptrace", "--metrics", "localhost:9464")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	want := "looptrace: --metrics " + metricsAt + ": address already in use\nhint: looptrace explain :9464 says who has it; or take another port\n"
	if cmd.ProcessState.ExitCode() != 1 || stdout.Len() > 0 || stderr.String() != want {
		t.Errorf("%v: %s%s", err, &stdout, &stderr)
	}
	l.Close()
	for range 2 { // the second time with connections of the first in TIME_WAIT
		var stderr bytes.Buffer
		cmd := exec.Command("looptrace", "--metrics", "9464", "--no-snapshot")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c := dialMetrics(t)
		scrape(t, c)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
			t.Fatalf("looptrace: %v: %s", err, &stderr)
		}
		if _, err := net.Dial("tcp4", metricsAt); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("the port is not free: %v", err)
		}
	}
}

// checkOutput holds the records against the metrics.
func checkOutput(t *testing.T, stdout []byte, scraped map[string]string) {
	t.Helper()
	counts := map[string]int{}
	for line := range bytes.Lines(stdout) {
		var r struct {
			Event, Outcome string
			Hooks          string
			Preexisting    bool
			Port           int
			Client         struct{ Port int }
		}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Event == "start":
			found := false
			for series := range scraped {
				found = found || strings.HasPrefix(series, "looptrace_build_info{") && strings.Contains(series, `hooks="`+r.Hooks+`"`)
			}
			if !found {
				t.Errorf("no build_info with hooks %s in %v", r.Hooks, scraped)
			}
		case r.Port == 9464 || r.Client.Port == 9464:
			t.Errorf("a record of looptrace's own port: %s", line)
		case r.Outcome != "" && !r.Preexisting:
			counts[fmt.Sprintf("looptrace_events_total{event=%q,outcome=%q}", r.Event, r.Outcome)]++
		}
	}
	got := map[string]int{}
	for series, n := range scraped {
		if strings.HasPrefix(series, "looptrace_events_total{") && n != "0" {
			var value int
			if _, err := fmt.Sscan(n, &value); err != nil {
				t.Fatal(err)
			}
			got[series] = value
		}
	}
	if diff := cmp.Diff(counts, got); diff != "" {
		t.Errorf("(-records +metrics):\n%s", diff)
	}
}
