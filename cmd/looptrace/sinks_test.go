// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func ownNetns(t *testing.T) uint32 {
	t.Helper()
	link, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(link, "net:["), "]"), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// events notes what reaches a sink.
type events struct {
	got  []string
	stop *flow.StopRecord
}

func (e *events) Write(r *flow.Record) error {
	e.got = append(e.got, r.Event)
	if r.Stop != nil {
		e.stop = r.Stop
	}
	return nil
}

func (e *events) Flush() error { return nil }

func TestGateCounts(t *testing.T) {
	sock := func(event string, before bool) *flow.Record {
		return &flow.Record{Event: event, Preexisting: before, Sock: &flow.SockRecord{}}
	}
	sink := &events{}
	closed := 0
	g := &gate{sinks: []tracer.Sink{sink}, limit: 2, full: func() { closed++ }}
	for _, r := range []*flow.Record{
		{Event: "start", Start: &flow.StartRecord{}},
		sock("listen", true), sock("bind", false), sock("listen", false),
		sock("bind", false), sock("bind", false),
		{Event: "lost", Lost: &flow.LostRecord{Count: 1}},
		{Event: "stop", Stop: &flow.StopRecord{Counts: map[string]uint64{"listen": 2, "bind": 3}}},
	} {
		if err := g.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"start", "listen", "bind", "listen", "lost", "stop"}, sink.got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]uint64{"listen": 2, "bind": 1}, sink.stop.Counts); diff != "" {
		t.Errorf("counts of the stop record (-want +got):\n%s", diff)
	}
	if closed != 1 {
		t.Errorf("the gate closed %d times, want once", closed)
	}
}

// stuck is a disk that takes nothing until it is freed.
type stuck struct {
	free chan struct{}
	bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.free
	return s.Buffer.Write(p)
}

func TestQueueCountsWhatDoesNotFit(t *testing.T) {
	disk := &stuck{free: make(chan struct{})}
	q := newQueue(disk)
	line := bytes.Repeat([]byte("x"), 1<<20-1)
	line = append(line, '\n')
	const lines = 3 * queueSize >> 20
	for range lines {
		if err := q.put(line); err != nil {
			t.Fatal(err)
		}
	}
	close(disk.free)
	if err := q.close(); err != nil {
		t.Fatal(err)
	}
	written := uint64(bytes.Count(disk.Bytes(), []byte{'\n'}))
	if written+q.losses.Total() != lines || q.losses.Total() == 0 || written < queueSize>>20 {
		t.Errorf("%d lines written and %d lost of %d", written, q.losses.Total(), lines)
	}
}

// full is a disk with no room left.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestQueueTellsOfAFailedWrite(t *testing.T) {
	q := newQueue(full{})
	if err := q.put([]byte("x\n")); err != nil {
		t.Fatal(err)
	}
	if err := q.close(); err == nil {
		t.Error("the failed write was not told")
	}
	if err := q.put([]byte("x\n")); err == nil {
		t.Error("a later batch was taken")
	}
}

func TestLogFileIsRedacted(t *testing.T) {
	const secret = "hunter2"
	path := filepath.Join(t.TempDir(), "log.json")
	l, err := openLogFile(path, true)
	if err != nil {
		t.Fatal(err)
	}
	p := &flow.Process{ProcessID: flow.ProcessID{PID: 1}}
	p.SetArgs([]byte("curl\x00-H\x00Authorization: Bearer "+secret+"\x00--client-secret\x00not "+secret), nil)
	r := &flow.Record{Event: "bind", Time: time.Unix(0, 0), Proto: 6, Sock: &flow.SockRecord{
		Address: netip.MustParseAddr("127.0.0.1"), Process: flow.Actor{P: p, Attribution: "hook"},
	}}
	if err := errors.Join(l.Write(r), l.Flush(), l.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte(secret)) || !bytes.Contains(text, []byte("curl")) {
		t.Errorf("log file: %s", text)
	}
	if !strings.Contains(p.CommandLine, secret) {
		t.Error("the tracer's own record was changed")
	}
}

// TestLogFileIsLeftInOrder: what was there before is a line of its own, and nothing is made for nothing.
func TestLogFileIsLeftInOrder(t *testing.T) {
	start := &flow.Record{Event: "start", Time: time.Unix(1, 0), Start: &flow.StartRecord{}}
	tests := []struct {
		name   string
		before string // "": no file
		record *flow.Record
		want   string // how the file begins; "": no file
	}{
		{"a line that a full disk broke off", `{"time":"2026`, start, "{\"time\":\"2026\n{\"time\":\"1970"},
		{"whole lines", "{}\n", start, "{}\n{\"time\":"},
		{"a new file", "", start, "{\"time\":"},
		{"a new file without a record", "", nil, ""},
		{"a file without a new record", "{}\n", nil, "{}\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log.json")
			if test.before != "" {
				if err := os.WriteFile(path, []byte(test.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l, err := openLogFile(path, true)
			if err != nil {
				t.Fatal(err)
			}
			if test.record != nil {
				err = errors.Join(l.Write(test.record), l.Flush())
			}
			if err := errors.Join(err, l.Close()); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if (err == nil) != (test.want != "") || !strings.HasPrefix(string(got), test.want) {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

// TestRedactorReachesEveryProcess fills a record by reflection, so that a field which is added later and
// leads to a process fails here until the redactor knows it.
func TestRedactorReachesEveryProcess(t *testing.T) {
	var r flow.Record
	fill(reflect.ValueOf(&r).Elem(), 0)
	redacted := newRedactor(func([]string) []string { return []string{"gone"} }).record(&r)
	if left := commandLines(reflect.ValueOf(redacted), "record"); len(left) > 0 {
		t.Errorf("command lines left in %v", left)
	}
	if before := commandLines(reflect.ValueOf(&r), "record"); len(before) == 0 {
		t.Error("the redactor changed what is not its own")
	}
}

// fillDepth is how far the types are followed: Actor holds Actors.
const fillDepth = 7

func fill(v reflect.Value, depth int) {
	if depth > fillDepth || !v.CanSet() {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("secret")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case reflect.Struct:
		if v.Type().PkgPath() == reflect.TypeFor[flow.Record]().PkgPath() {
			for i := range v.NumField() {
				fill(v.Field(i), depth+1)
			}
		}
	}
}

// commandLines gives the paths of those that still have the secret.
func commandLines(v reflect.Value, path string) (left []string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			left = commandLines(v.Elem(), path)
		}
	case reflect.Slice:
		for i := range v.Len() {
			left = append(left, commandLines(v.Index(i), path+"[]")...)
		}
	case reflect.Struct:
		if p, ok := v.Interface().(flow.Process); ok && p.CommandLine == "secret" {
			left = append(left, path)
		}
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				left = append(left, commandLines(v.Field(i), path+"."+field.Name)...)
			}
		}
	}
	return left
}

func TestArrange(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"flags first", "-o json 80", "-o json -- 80"},
		{"flags last", "80 -o json", "-o json -- 80"},
		{"a switch takes no value", "--failed 80", "--failed -- 80"},
		{"a value after =", "80 --port=1 81", "--port=1 -- 80 81"},
		{"what follows a command is its own", "-o json run -- curl -v", "-o json run -- curl -v"},
		{"a command after a target is none", "80 run -v", "-v -- 80 run"},
		{"no targets", "--failed", "--failed"},
		{"after --", "--failed -- --x", "--failed -- --x"},
		{"a value that is missing", "80 --port", "--port"},
		{"a value at its letter", "80 -ojson", "-o=json -- 80"},
		{"a value at its letter, for a command", "run -ojson -- curl -ox", "run -o=json -- curl -ox"},
		{"a value at its letter, for a command without --", "run -ojson curl -ox", "run -o=json curl -ox"},
		{"a long flag with one dash", "-output json 80", "-output json -- 80"},
		{"help after targets", "80 --help", "--help"},
		{"help before a command is the command's", "--help run", "--help run"},
		{"the help of what run starts", "run curl -h", "run curl -h"},
	}
	app := newApp(nil, nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := arrange(append([]string{"looptrace"}, strings.Fields(test.in)...), app)
			if diff := cmp.Diff(append([]string{"looptrace"}, strings.Fields(test.want)...), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	words := []string{"run", "demo", "doctor", "schema"}
	tests := []struct{ name, word, want string }{
		{"swapped letters", "dcotor", "doctor"},
		{"a letter missing", "rn", "run"},
		{"nothing like it", "explain", ""},
		{"all of a short word wrong", "xyz", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := nearest(test.word, words); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
