// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func openJSON(w io.Writer) sink { return newSampleJSON(w) }

func TestJSONIsOfTheSchema(t *testing.T) {
	validator := compileSchema(t)
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			line := lineOf(t, openJSON, s.record)
			if err := validator.Validate(decodeRecord(t, line)); err != nil {
				t.Errorf("%v\n%s", err, line)
			}
			var compact bytes.Buffer
			if err := json.Compact(&compact, []byte(line)); err != nil || compact.String() != line {
				t.Errorf("not compact (%v): %s", err, line)
			}
		})
	}
}

func TestJSONFieldOrder(t *testing.T) {
	r := fail(preexisting(sampleSock("bind", localhost4, 1, sampleServer())), syscall.EACCES)
	r.Time = sampleTime
	decoder := json.NewDecoder(strings.NewReader(lineOf(t, openJSON, r)))
	var keys []string
	depth := 0
	for key := true; ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			key = true
			continue
		case json.Delim('}'), json.Delim(']'):
			depth--
			key = true
			continue
		}
		if depth == 1 && key {
			keys = append(keys, token.(string))
		}
		key = !key
	}
	want := []string{
		"time", "level", "event", "id", "outcome", "error", "network", "port", "netns", "preexisting",
		"address", "process", "message",
	}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestJSONBuffers(t *testing.T) {
	var got bytes.Buffer
	j := NewJSON(&got)
	r := sampleConn("connect", localhost4, sampleClient(), sampleServer())
	r.Time = sampleTime
	if err := j.Write(r); err != nil || got.Len() != 0 {
		t.Fatalf("wrote %d bytes at once (%v)", got.Len(), err)
	}
	for range 2 * flushSize / 1000 {
		if err := j.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if got.Len() < flushSize || !bytes.HasSuffix(got.Bytes(), []byte("}\n")) {
		t.Errorf("wrote %d bytes", got.Len())
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestOutputsReportTheWriter(t *testing.T) {
	for _, tc := range []struct {
		name string
		out  sink
	}{
		{"json", NewJSON(brokenPipe{})},
		{"ecs", NewECS(brokenPipe{})},
		{"text", NewText(brokenPipe{}, TextOptions{})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.out.Flush(); err != nil {
				t.Errorf("of nothing: %v", err)
			}
			if err := tc.out.Write(samples()[0].record); err != nil {
				t.Errorf("Write: %v", err)
			}
			if err := tc.out.Flush(); !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Flush: %v", err)
			}
		})
	}
}

func TestOutputsDoNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector empties pools")
	}
	for _, s := range samples() {
		if s.record.Start != nil {
			continue // once in a run
		}
		t.Run(s.name, func(t *testing.T) {
			for name, out := range map[string]sink{
				"json": NewJSON(io.Discard), "ecs": NewECS(io.Discard), "text": NewText(io.Discard, TextOptions{Location: time.UTC, Color: true}),
			} {
				for range 2000 { // until the buffers have their size
					if err := out.Write(s.record); err != nil {
						t.Fatal(err)
					}
				}
				if n := testing.AllocsPerRun(1000, func() { _ = out.Write(s.record) }); n != 0 {
					t.Errorf("%s: %v allocations", name, n)
				}
			}
		})
	}
}

func BenchmarkJSON(b *testing.B) { benchmark(b, NewJSON(io.Discard)) }

func BenchmarkText(b *testing.B) {
	benchmark(b, NewText(io.Discard, TextOptions{Location: time.UTC, Color: true}))
}

func benchmark(b *testing.B, out sink) {
	for _, s := range samples() {
		switch s.name {
		case "connect", "accept", "close", "bind, port picked", "refused, listener killed":
			b.Run(s.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := out.Write(s.record); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
