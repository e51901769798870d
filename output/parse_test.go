// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestParse: every golden line, read and written again, says the same.
func TestParse(t *testing.T) {
	text, err := os.ReadFile("testdata/records.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range bytes.Lines(text) {
		r, err := Parse(line)
		if err != nil {
			t.Errorf("%v\nin: %s", err, line)
			continue
		}
		var again bytes.Buffer
		j := NewJSON(&again)
		if err := j.Write(r); err != nil {
			t.Fatal(err)
		}
		if err := j.Flush(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(facts(t, line), facts(t, again.Bytes())); diff != "" {
			t.Errorf("(-line +again):\n%s", diff)
		}
		n++
	}
	if n < 50 {
		t.Errorf("%d lines only", n)
	}
}

// facts are the fields of a line but for the message, which may name what no field has: the container of one
// of many.
func facts(t *testing.T, line []byte) (fields map[string]any) {
	t.Helper()
	if err := json.Unmarshal(line, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "message")
	return fields
}

// TestParseRefuses: what is no record of looptrace's.
func TestParseRefuses(t *testing.T) {
	const head = `{"time":"2026-11-23T10:02:01.113000021Z","level":"info",`
	for name, line := range map[string]string{
		"nothing":           ``,
		"no JSON":           `10:02:01 connect`,
		"cut off":           head + `"event":"bind"`,
		"no time":           `{"event":"stop"}`,
		"another's log":     head + `"message":"hello"}`,
		"unknown event":     head + `"event":"poll"}`,
		"no ends":           head + `"event":"connect"}`,
		"another type":      head + `"event":"bind","port":"80"}`,
		"no port":           head + `"event":"bind","port":65536}`,
		"no address":        head + `"event":"bind","address":"here"}`,
		"no errno":          head + `"event":"bind","error":{"type":"EWRONG"}}`,
		"no id":             head + `"event":"bind","id":"-"}`,
		"no signal":         head + `"event":"release","process":{"pid":1,"exit":{"signal":"SIGWRONG"}}}`,
		"two lines at once": head + `"event":"lost"}` + "\n{}",
	} {
		if _, err := Parse([]byte(line)); err == nil || !strings.HasPrefix(err.Error(), "parse record: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
