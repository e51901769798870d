// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/output"
)

// patience bounds each wait for a program or a record: a browser's first start on a slow machine takes
// most of it.
const patience = 60 * time.Second

// needRoot: kernel tests skip without root on a developer's machine, and fail in CI.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		absent(t, "root")
	}
}

// needPrograms treats programs that are not installed in the same way.
func needPrograms(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			absent(t, name)
		}
	}
}

func absent(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("needs %s", what)
	}
	t.Skipf("needs %s", what)
}

// forms gives the hook forms to trace with: the one that looptrace takes by itself, or those that
// LOOPTRACE_FORMS names.
func forms() []string {
	if want := os.Getenv("LOOPTRACE_FORMS"); want != "" {
		return strings.Split(want, ",")
	}
	return []string{"auto"}
}

// world is a network namespace with nothing in it but the scene, and a looptrace that watches.
type world struct {
	t         *testing.T
	netns     int
	looptrace *exec.Cmd
	stderr    bytes.Buffer
	lines     <-chan []byte // what looptrace writes, as it comes
	ended     bool          // lines is at its end
	records   []record      // all so far
}

// newWorld locks the test to a thread in the new namespace: whatever the test starts is there too. The
// thread ends with the test, and the namespace with the last process in it.
func newWorld(t *testing.T, form string) *world {
	t.Helper()
	runtime.LockOSThread()
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWNET), loopbackUp()); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, netns: int(st.Ino)}
	w.trace(form)
	return w
}

// loopbackUp sets IFF_UP on lo (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// trace starts looptrace, which is this test binary under another name (TestMain), and waits until it is
// ready.
func (w *world) trace(form string) {
	w.t.Helper()
	w.looptrace = exec.Command("looptrace", "-o", "json", "--hooks", form)
	w.looptrace.Stderr = &w.stderr
	w.looptrace.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	stdout, err := w.looptrace.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.looptrace.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.lines = readLines(stdout)
	w.t.Cleanup(func() {
		if !w.ended {
			w.end()
		}
		if w.t.Failed() {
			for _, r := range w.own() {
				w.t.Log(r.text)
			}
		}
	})
	w.until("start record", func() bool { return len(w.records) > 0 })
	if first := w.records[0]; first.at("event") != "start" || form != "auto" && first.at("hooks") != form {
		w.t.Fatalf("the first record is %s", first.text)
	}
}

// readLines gives what comes out of a pipe, line by line, to its end. Nobody has to take it.
func readLines(pipe io.Reader) <-chan []byte {
	const many = 1 << 16 // with less, a scene that nobody reads would stop the program that writes
	lines := make(chan []byte, many)
	go func() { // ends with the pipe: with the last process that could write to it
		defer close(lines)
		for in := bufio.NewReader(pipe); ; {
			line, err := in.ReadBytes('\n')
			if len(line) > 0 {
				lines <- bytes.TrimRight(line, "\r\n")
			}
			if err != nil {
				return
			}
		}
	}()
	return lines
}

// until takes records until there is what the test waits for.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.After(patience); !ok(); {
		select {
		case line, more := <-w.lines:
			if !more {
				w.ended = true
				err := w.looptrace.Wait()
				w.t.Fatalf("looptrace ended (%v) before %s: %s", err, what, w.stderr.String())
			}
			w.take(line)
		case <-deadline:
			w.t.Fatalf("no %s within %v", what, patience)
		}
	}
}

// take keeps a record. It must obey the schema, whoever it is about.
func (w *world) take(line []byte) {
	w.t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err == nil {
		err = schema().Validate(doc)
	}
	if err != nil {
		w.t.Errorf("%s: %v", line, err)
	}
	fields, _ := doc.(map[string]any)
	w.records = append(w.records, record{fields: fields, text: string(line)})
}

var schema = sync.OnceValue(func() *jsonschema.Schema {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(output.Schema()))
	if err != nil {
		panic(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		panic(err)
	}
	return c.MustCompile("schema.json")
})

// finish waits for the last of so many connections to close, and stops looptrace, which has to have
// lost nothing.
func (w *world) finish(connections int) {
	w.t.Helper()
	w.until(fmt.Sprintf("%d close records", connections), func() bool { return len(w.own("close")) >= connections })
	if err := w.end(); err != nil {
		w.t.Errorf("looptrace: %v", err)
	}
	if w.stderr.Len() > 0 {
		w.t.Errorf("looptrace says: %s", w.stderr.String())
	}
	for _, r := range w.records {
		if r.at("event") == "lost" {
			w.t.Errorf("lost: %s", r.text)
		}
	}
	if last := w.records[len(w.records)-1]; last.pick("event", "lost") != "stop 0" {
		w.t.Errorf("the last record is %s", last.text)
	}
}

// end stops looptrace and takes its last records.
func (w *world) end() error {
	w.t.Helper()
	_ = w.looptrace.Process.Signal(syscall.SIGINT) // it may have ended: Wait says so
	stuck := time.AfterFunc(patience, func() { _ = w.looptrace.Process.Kill() })
	defer stuck.Stop()
	for line := range w.lines {
		w.take(line)
	}
	w.ended = true
	return w.looptrace.Wait()
}

// own gives the records of this namespace, all or those of one event.
func (w *world) own(event ...string) []record {
	return slices.DeleteFunc(slices.Clone(w.records), func(r record) bool {
		return r.pick("netns") != strconv.Itoa(w.netns) || len(event) > 0 && r.at("event") != event[0]
	})
}

// record is a line of JSON, looked at by paths such as "client.process.pid".
type record struct {
	fields map[string]any
	text   string
}

func (r record) at(path string) any {
	var v any = r.fields
	for _, key := range strings.Split(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

// pick gives the fields at these paths, as text.
func (r record) pick(paths ...string) string {
	var parts []string
	for _, p := range paths {
		parts = append(parts, fmt.Sprint(r.at(p)))
	}
	return strings.Join(parts, " ")
}
