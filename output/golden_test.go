// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/looptrace/looptrace/tracer/flow"
)

var update = flag.Bool("update", false, "write the golden files")

// sink is what both outputs are.
type sink interface {
	Write(*flow.Record) error
	Flush() error
}

// samplePID stands for looptrace's own.
const samplePID = 4711

func newSampleJSON(w io.Writer) *JSON {
	j := NewJSON(w)
	return j
}

func TestGolden(t *testing.T) {
	for _, tc := range []struct {
		name string
		file string
		open func(io.Writer) sink
	}{
		{"json", "records.jsonl", func(w io.Writer) sink { return newSampleJSON(w) }},
		{"ecs", "records-ecs.jsonl", func(w io.Writer) sink { return NewECS(w) }},
		{"text", "records.txt", func(w io.Writer) sink { return NewText(w, TextOptions{Location: time.UTC}) }},
		{"color", "records-color.txt", func(w io.Writer) sink { return NewText(w, TextOptions{Location: time.UTC, Color: true}) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got bytes.Buffer
			out := tc.open(&got)
			for _, s := range samples() {
				if err := out.Write(s.record); err != nil {
					t.Fatal(err)
				}
			}
			if err := out.Flush(); err != nil {
				t.Fatal(err)
			}
			compareGolden(t, tc.file, got.String())
		})
	}
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s, -update writes it (-want +got):\n%s", path, diff)
	}
}

// lineOf gives what an output makes of one record, and that it is one line of UTF-8.
func lineOf(t *testing.T, open func(io.Writer) sink, r *flow.Record) string {
	t.Helper()
	var buf bytes.Buffer
	out := open(&buf)
	if err := out.Write(r); err != nil {
		t.Fatal(err)
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	line, ok := strings.CutSuffix(buf.String(), "\n")
	if !ok || strings.ContainsAny(line, "\n\r") || !utf8.ValidString(line) {
		t.Fatalf("not one line of UTF-8: %q", buf.String())
	}
	return line
}

// TestMessageHasTheNotesOfText: what the text output says about a record, its message says too.
func TestMessageHasTheNotesOfText(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			text := words{loc: time.UTC, now: s.record.Time, colon: ", "}
			text.details(s.record)
			notes := strings.TrimPrefix(string(text.dst), "refused, ")
			var w words
			message := strings.ReplaceAll(string(w.message(nil, s.record)), " UTC", "")
			if !strings.HasSuffix(message, notes) {
				t.Errorf("message %q lacks %q", message, notes)
			}
		})
	}
}

// TestTextHasNoControls: whatever a process calls itself, the terminal only shows it.
func TestTextHasNoControls(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			line := lineOf(t, func(w io.Writer) sink { return NewText(w, TextOptions{}) }, s.record)
			checkPrintable(t, line)
		})
	}
}

// TestColorAddsNoWords: without its styles, a coloured line is the plain one.
func TestColorAddsNoWords(t *testing.T) {
	strip := strings.NewReplacer(styleNone, "", styleBold, "", styleDim, "", styleRed, "", styleYellow, "")
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			plain := lineOf(t, func(w io.Writer) sink { return NewText(w, TextOptions{}) }, s.record)
			color := lineOf(t, func(w io.Writer) sink { return NewText(w, TextOptions{Color: true}) }, s.record)
			if diff := cmp.Diff(plain, strip.Replace(color)); diff != "" {
				t.Errorf("(-plain +coloured):\n%s", diff)
			}
		})
	}
}
