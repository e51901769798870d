// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"
)

// TestEncode: every field of every kind of record is in its log record, and nothing else.
func TestEncode(t *testing.T) {
	lines, err := os.ReadFile("../testdata/records.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(lines)) {
		line = strings.TrimSpace(line)
		if diff := cmp.Diff(reference(t, line), encoded(t, line)); diff != "" {
			t.Errorf("%s\n(-want +got):\n%s", line, diff)
		}
		n++
	}
	if n < 50 {
		t.Errorf("only %d records", n)
	}
}

func TestEncodeValues(t *testing.T) {
	tests := []struct {
		name, value string
		want        any
	}{
		{"escapes", `"a\"b\\\n\u2028\u00e9é"`, "a\"b\\\n\u2028éé"},
		{"a backslash before the end", `"\\"`, `\`},
		{"the largest integer", `9223372036854775807`, int64(9223372036854775807)},
		{"one that is larger", `18446744073709551615`, 18446744073709551615.0},
		{"a negative one", `-1`, int64(-1)},
		{"a fraction", `1.5`, 1.5},
		{"a list", `[1,"a",true,[2],{"b":{"c":3},"d":[]}]`, []any{int64(1), "a", true, []any{int64(2)}, map[string]any{"b.c": int64(3), "d": []any(nil)}}},
		{"null", `null`, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			line := `{"x":{"y":` + test.value + `,"z":{}},"w":false}`
			want := map[string]any{"x.y": test.want, "w": false}
			if diff := cmp.Diff(want, encoded(t, line)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEncodeErrors(t *testing.T) {
	const whole = `{"time":"2026-11-25T10:00:00.123456789Z","event":"bind","a":[{"b":1},true],"c":"\"","message":"m"}`
	lines := []string{whole + "}", whole + " ", strings.Replace(whole, "2026", "2O26", 1), strings.Replace(whole, `"m"`, "\"\xff\"", 1), strings.Replace(whole, "true", "tru", 1)}
	for i := range whole {
		lines = append(lines, whole[:i])
	}
	for _, line := range lines {
		e := encoder{out: []byte("before")}
		if err := e.add([]byte(line)); !errors.Is(err, errLine) || string(e.out) != "before" {
			t.Errorf("%q: %v, left %q", line, err, e.out)
		}
	}
}

// FuzzEncode: whatever the bytes, there is no panic, and what is made of them is a message.
func FuzzEncode(f *testing.F) {
	f.Add([]byte(`{"time":"2026-11-25T10:00:00.123456789Z","level":"warn","event":"bind","a":{"b":[1,{"c":"\u0041"}]},"message":null}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var e encoder
		if e.add(line) != nil {
			return
		}
		if err := proto.Unmarshal((&request{}).body(e.out), &logs.LogsData{}); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	})
}

// encoded is what a receiver finds in a line's log record: the attributes, and the fields under their names here.
func encoded(t *testing.T, line string) map[string]any {
	t.Helper()
	var e encoder
	if err := e.add([]byte(line)); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	var data logs.LogsData
	if err := proto.Unmarshal((&request{}).body(e.out), &data); err != nil {
		t.Fatal(err)
	}
	r := data.ResourceLogs[0].ScopeLogs[0].LogRecords[0]
	m := pairs(r.Attributes)
	if r.TimeUnixNano != 0 {
		m["time"], m["observed"] = r.TimeUnixNano, r.ObservedTimeUnixNano
	}
	if r.SeverityText != "" {
		m["level"], m["severity"] = r.SeverityText, r.SeverityNumber
	}
	if r.EventName != "" {
		m["event"] = r.EventName
	}
	if r.Body != nil {
		m["message"] = goValue(r.Body)
	}
	return m
}

func pairs(list []*common.KeyValue) map[string]any {
	m := map[string]any{}
	for _, kv := range list {
		m[kv.Key] = goValue(kv.Value)
	}
	return m
}

func goValue(v *common.AnyValue) any {
	switch v := v.Value.(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_BoolValue:
		return v.BoolValue
	case *common.AnyValue_IntValue:
		return v.IntValue
	case *common.AnyValue_DoubleValue:
		return v.DoubleValue
	case *common.AnyValue_KvlistValue:
		return pairs(v.KvlistValue.Values)
	case *common.AnyValue_ArrayValue:
		var list []any
		for _, e := range v.ArrayValue.Values {
			list = append(list, goValue(e))
		}
		return list
	default:
		return nil
	}
}

// reference is the same by way of encoding/json.
func reference(t *testing.T, line string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	m := flatten(object)
	if text, ok := m["time"].(string); ok {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		m["time"], m["observed"] = uint64(at.UnixNano()), uint64(at.UnixNano())
	}
	if level, ok := m["level"].(string); ok {
		m["severity"] = map[string]logs.SeverityNumber{"info": 9, "warn": 13, "error": 17}[level]
	}
	if event, ok := m["event"].(string); ok {
		m["event"], m["event.name"] = "looptrace."+event, "looptrace."+event
	}
	return m
}

func flatten(object map[string]any) map[string]any {
	m := map[string]any{}
	for key, value := range object {
		below, ok := value.(map[string]any)
		if !ok {
			m[key] = scalar(value)
			continue
		}
		for name, v := range flatten(below) {
			m[key+"."+name] = v
		}
	}
	return m
}

func scalar(value any) any {
	switch v := value.(type) {
	case map[string]any:
		return flatten(v)
	case []any:
		var list []any
		for _, e := range v {
			list = append(list, scalar(e))
		}
		return list
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	default:
		return v
	}
}
