// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/output/history"
	"github.com/looptrace/looptrace/tracer/flow"
)

var updateAnswers = flag.Bool("answers", false, "write the answers into docs/explain.md")

// TestKernelExplain asks what people ask: looptrace explain, about real processes in a network namespace of their own,
// of which a looptrace record keeps a store. What must be in an answer is in want: patterns of lines, in their order.
func TestKernelExplain(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	looptrace, err := exec.LookPath("looptrace") // this test, see TestMain
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin") // the distribution's programs: their paths are in the answers
	for _, tc := range explainScenes {
		t.Run(tc.name, func(t *testing.T) {
			for _, name := range append(tc.programs, "python3") {
				if _, err := exec.LookPath(name); err != nil {
					if os.Getenv("CI") != "" {
						t.Fatalf("needs %s", name)
					}
					t.Skipf("needs %s", name)
				}
			}
			w := newWatched(t, looptrace)
			ask := tc.scene(w)
			answer := w.answer(ask)
			rest := answer
			for _, pattern := range tc.want {
				at := regexp.MustCompile("(?m)" + pattern).FindStringIndex(rest)
				if at == nil {
					t.Fatalf("no %q (or not in this order) in:\n%s", pattern, answer)
				}
				rest = rest[at[1]:]
			}
			for _, pattern := range tc.never {
				if regexp.MustCompile("(?m)" + pattern).MatchString(answer) {
					t.Errorf("%q in:\n%s", pattern, answer)
				}
			}
			keepAnswer(t, tc.name, ask, answer)
		})
	}
}

// asked is a command line of explain.
type asked struct {
	target string
	at     string
}

func (a asked) String() string {
	line := "looptrace explain " + quoted(a.target)
	if a.at != "" {
		line += " --at " + quoted(a.at)
	}
	return line
}

func quoted(s string) string {
	if strings.ContainsAny(s, " '()") {
		return strconv.Quote(s)
	}
	return s
}

// watched is a network namespace, and a real looptrace record that writes a store of what happens in it.
type watched struct {
	t         *testing.T
	looptrace string
	store     string
	netns     string // record's filter
	record    *exec.Cmd
	reader    *history.Reader
	last      int64          // the store's row that was read last
	records   []*flow.Record // all so far
}

// newWatched locks the test to a thread in the namespace, which ends with the test.
func newWatched(t *testing.T, looptrace string) *watched {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	w := &watched{t: t, looptrace: looptrace, store: filepath.Join(t.TempDir(), "history.db"), netns: strconv.FormatUint(st.Ino, 10)}
	w.begin()
	var err error
	for end := time.Now().Add(awaitTime()); ; time.Sleep(10 * time.Millisecond) {
		if w.reader, err = history.Read(w.store); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { w.reader.Close() })
	t.Cleanup(w.stop)
	w.until("start", 1, func(r *flow.Record) bool { return r.Start != nil })
	return w
}

// begin starts record.
func (w *watched) begin() {
	w.t.Helper()
	w.record = exec.Command(w.looptrace, "record", "--store", w.store, "--netns", w.netns)
	w.record.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := w.record.Start(); err != nil {
		w.t.Fatal(err)
	}
}

// gap kills record, lets something happen that nobody sees, and starts it again.
func (w *watched) gap(unseen func()) {
	w.t.Helper()
	if err := w.record.Process.Kill(); err != nil {
		w.t.Fatal(err)
	}
	_ = w.record.Wait()
	unseen()
	w.begin()
	w.until("second start", 2, func(r *flow.Record) bool { return r.Start != nil })
}

// stop ends record in order: the store has all then, and lacks nothing.
func (w *watched) stop() {
	w.t.Helper()
	if w.record.ProcessState != nil {
		return
	}
	if err := errors.Join(w.record.Process.Signal(syscall.SIGTERM), w.record.Wait()); err != nil {
		w.t.Errorf("record: %v", err)
	}
	if !w.t.Failed() {
		w.until("stop, with nothing lost", 1, func(r *flow.Record) bool { return r.Stop != nil && r.Stop.Lost == 0 })
	}
}

// until waits until the store has so many records.
func (w *watched) until(what string, n int, ok func(*flow.Record) bool) *flow.Record {
	w.t.Helper()
	for end := time.Now().Add(awaitTime()); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		news, err := w.reader.News(context.Background(), w.last)
		if err != nil {
			w.t.Fatal(err)
		}
		more, err := parseLines(news)
		if err != nil {
			w.t.Fatal(err)
		}
		if w.records = append(w.records, more...); len(news) > 0 {
			w.last = news[len(news)-1].Row
		}
		found := 0
		for _, r := range w.records {
			if ok(r) {
				if found++; found == n {
					return r
				}
			}
		}
	}
	w.t.Fatalf("no %s", what)
	return nil
}

// start runs a program in the background, to the end of the test at the latest.
func (w *watched) start(name string, args ...string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if w.t.Failed() && said.Len() > 0 {
			w.t.Logf("%s said:\n%s", name, said.String())
		}
	})
	return cmd
}

// fail runs a program and gives what it said; its status is its own.
func (w *watched) fail(name string, args ...string) string {
	out, _ := exec.Command(name, args...).CombinedOutput()
	return string(out)
}

// python starts a server, and waits until it listens.
func (w *watched) python(addr string, port int) *exec.Cmd {
	w.t.Helper()
	cmd := w.start("python3", "-m", "http.server", strconv.Itoa(port), "--bind", addr, "--directory", w.t.TempDir())
	w.until("listen", 1, func(r *flow.Record) bool {
		return r.Event == "listen" && r.Errno == 0 && int(r.Port) == port && r.Sock.Address == netip.MustParseAddr(addr)
	})
	return cmd
}

// answer asks, from within the namespace.
func (w *watched) answer(a asked) string {
	w.t.Helper()
	args := []string{"explain", "--store", w.store, a.target}
	if a.at != "" {
		args = append(args, "--at", a.at)
	}
	cmd := exec.Command(w.looptrace, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%s: %v, %s", a, err, said.String())
	}
	return string(out)
}

// keepAnswer puts an answer into docs/explain.md, between the lines that name its question.
func keepAnswer(t *testing.T, name string, a asked, answer string) {
	t.Helper()
	if !*updateAnswers {
		return
	}
	path := filepath.Join("..", "..", "docs", "explain.md")
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head := "### " + name + "\n"
	before, rest, ok := strings.Cut(string(doc), head)
	if !ok {
		t.Fatalf("%s has no %q", path, head)
	}
	_, after, ok := strings.Cut(rest, "\n```\n\n")
	if !ok {
		t.Fatalf("%s has no answer under %q", path, head)
	}
	// Where the tests run is not of interest: what started them is left out.
	answer = regexp.MustCompile(`(looptrace\.test\[\d+\])( < [^ ,:]+(?:[^ ,]*\])?( 1)?)+`).ReplaceAllString(answer, "$1 < …")
	text := fmt.Sprintf("%s%s\n```console\n$ sudo %s\n%s```\n\n%s", before, head, a, answer, after)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
