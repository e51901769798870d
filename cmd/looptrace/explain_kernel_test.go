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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

var updateAnswers = flag.Bool("answers", false, "write the answers into docs/explain.md")

// TestKernelExplain asks what people ask, about real processes in a network namespace that looptrace watches.
// What must be in an answer is in want: patterns of lines, in their order.
func TestKernelExplain(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
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
			w := newWatched(t)
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

// watched is a network namespace and the records of what happens in it.
type watched struct {
	t     *testing.T
	netns uint32

	mu      sync.Mutex
	records []*flow.Record // all so far, of this namespace
	began   time.Time
}

// newWatched locks the test to a thread in the namespace, which ends with the test.
func newWatched(t *testing.T) *watched {
	t.Helper()
	tr, err := tracer.New(tracer.Config{Snapshot: true, Version: version})
	if err != nil {
		t.Fatal(err)
	}
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
	w := &watched{t: t, netns: uint32(st.Ino), began: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tr.Run(ctx, w) }() // ends with the test
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, tr.Close()); err != nil {
			t.Error(err)
		}
	})
	<-tr.Ready()
	return w
}

// Write keeps what is of the namespace.
func (w *watched) Write(r *flow.Record) error {
	if r.Netns == w.netns || r.Start != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.records = append(w.records, r.Clone())
	}
	return nil
}

// Flush has nothing to do.
func (w *watched) Flush() error { return nil }

// until waits for so many records.
func (w *watched) until(what string, n int, ok func(*flow.Record) bool) *flow.Record {
	w.t.Helper()
	for end := time.Now().Add(awaitTime()); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		found := 0
		for _, r := range w.records {
			if ok(r) {
				if found++; found == n {
					w.mu.Unlock()
					return r
				}
			}
		}
		w.mu.Unlock()
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

// answer asks, as the command does, with the records so far for the store.
func (w *watched) answer(a asked) string {
	w.t.Helper()
	targets, err := flow.ParseTarget(a.target)
	if err != nil {
		w.t.Fatal(err)
	}
	q := &flow.Inquiry{Text: a.target, Targets: targets, Now: time.Now(), Remembers: w.began}
	if a.at != "" {
		from, width, ok := parseMoment(a.at, q.Now)
		if !ok {
			w.t.Fatalf("no moment: %s", a.at)
		}
		q.At, q.AtEnd = from, from.Add(width)
	} else if err := lookLive(q); err != nil {
		w.t.Fatal(err)
	}
	q.Live = slices.DeleteFunc(q.Live, func(r *flow.Record) bool { return r.Netns != w.netns })
	q.Host = hostNow(targets[0].Port)
	q.Host.Netns = w.netns
	w.mu.Lock()
	q.Past = slices.Clone(w.records)
	w.mu.Unlock()
	var text bytes.Buffer
	if err := output.ExplainText(&text, flow.Explain(q), output.TextOptions{}); err != nil {
		w.t.Fatal(err)
	}
	return text.String()
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
