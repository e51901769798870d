// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/encoding/protowire"
)

// eventPrefix makes the kinds of records names that no other program has.
const eventPrefix = "looptrace."

// The numbers of the fields that are written here, from opentelemetry/proto/{logs,common}/v1.
const (
	logTime       protowire.Number = 1
	logSeverity   protowire.Number = 2
	logLevel      protowire.Number = 3
	logBody       protowire.Number = 5
	logAttributes protowire.Number = 6
	logObserved   protowire.Number = 11
	logEventName  protowire.Number = 12

	pairKey   protowire.Number = 1
	pairValue protowire.Number = 2

	anyString protowire.Number = 1
	anyBool   protowire.Number = 2
	anyInt    protowire.Number = 3
	anyDouble protowire.Number = 4
	anyArray  protowire.Number = 5
	anyMap    protowire.Number = 6

	elements protowire.Number = 1 // of an array and of a map
)

var severities = map[string]logs.SeverityNumber{
	"info":  logs.SeverityNumber_SEVERITY_NUMBER_INFO,
	"warn":  logs.SeverityNumber_SEVERITY_NUMBER_WARN,
	"error": logs.SeverityNumber_SEVERITY_NUMBER_ERROR,
}

// encoder makes log records of JSON lines, from bytes to bytes: to decode a line, build a message of it and marshal that
// costs ten times as much. That it reads JSON leaves one place to say which fields a record has. The keys joined with
// dots are the attributes, as the format promises; lists are lists of maps. It knows no space between tokens:
// output.JSON writes none.
type encoder struct {
	out  []byte // log records, each as a field of a ScopeLogs
	in   []byte // what is left of the line
	path []byte // the keys that lead to what is read
	base int    // where in path the name of an attribute begins: inside of a list, behind the keys of the list
}

var errLine = errors.New("a record that is no line of JSON")

// add appends the record of a line; with an error, nothing.
func (e *encoder) add(line []byte) error {
	start := len(e.out)
	e.in, e.path, e.base = line, e.path[:0], 0
	record := e.open(scopeRecords)
	if !utf8.Valid(line) || !e.take('{') || !e.object(logAttributes) || len(e.in) > 0 {
		e.out = e.out[:start]
		return errLine
	}
	e.close(record)
	return nil
}

// object reads the rest of one. Each value below it becomes a pair in the given field, at whatever depth it is.
func (e *encoder) object(pairs protowire.Number) bool {
	under := len(e.path)
	for first := true; !e.take('}'); first = false {
		if !first && !e.take(',') {
			return false
		}
		key, ok := e.text()
		if !ok || !e.take(':') {
			return false
		}
		e.path = append(e.path, key...)
		if e.take('{') {
			e.path = append(e.path, '.')
			ok = e.object(pairs)
		} else {
			ok = e.member(pairs)
		}
		if !ok {
			return false
		}
		e.path = e.path[:under]
	}
	return true
}

// member puts a value where a log record has it.
func (e *encoder) member(pairs protowire.Number) bool {
	if e.base > 0 {
		return e.pair(pairs)
	}
	switch string(e.path) {
	case "time":
		return e.time()
	case "level":
		level, ok := e.text()
		e.varint(logSeverity, uint64(severities[string(level)]))
		e.bytes(logLevel, level)
		return ok
	case "event":
		return e.event()
	case "message":
		return e.value(logBody)
	default:
		return e.pair(pairs)
	}
}

func (e *encoder) time() bool {
	text, _ := e.text()
	at, err := time.Parse(time.RFC3339, string(text))
	for _, field := range []protowire.Number{logTime, logObserved} {
		e.out = protowire.AppendTag(e.out, field, protowire.Fixed64Type)
		e.out = protowire.AppendFixed64(e.out, uint64(at.UnixNano()))
	}
	return err == nil
}

// event is also an attribute: many stores drop the event's name.
func (e *encoder) event() bool {
	event, ok := e.text()
	name := append([]byte(eventPrefix), event...)
	e.bytes(logEventName, name)
	pair := e.open(logAttributes)
	e.bytes(pairKey, []byte("event.name"))
	value := e.open(pairValue)
	e.bytes(anyString, name)
	e.close(value)
	e.close(pair)
	return ok
}

func (e *encoder) pair(field protowire.Number) bool {
	pair := e.open(field)
	e.bytes(pairKey, e.path[e.base:])
	ok := e.value(pairValue)
	e.close(pair)
	return ok
}

// value reads anything but an object. Null is an AnyValue that has nothing in it.
func (e *encoder) value(field protowire.Number) bool {
	value := e.open(field)
	ok := true
	switch {
	case e.take('['):
		list := e.open(anyArray)
		ok = e.list()
		e.close(list)
	case e.word("true"):
		e.varint(anyBool, 1)
	case e.word("false"):
		e.varint(anyBool, 0)
	case e.word("null"):
	case len(e.in) > 0 && e.in[0] == '"':
		var text []byte
		text, ok = e.text()
		e.bytes(anyString, text)
	default:
		ok = e.number()
	}
	e.close(value)
	return ok
}

// list reads the rest of one. The names of a map in it begin anew.
func (e *encoder) list() bool {
	base := e.base
	e.base = len(e.path)
	defer func() { e.base = base }()
	for first := true; !e.take(']'); first = false {
		if !first && !e.take(',') {
			return false
		}
		if !e.take('{') {
			if !e.value(elements) {
				return false
			}
			continue
		}
		value := e.open(elements)
		fields := e.open(anyMap)
		if !e.object(elements) {
			return false
		}
		e.close(fields)
		e.close(value)
	}
	return true
}

// number reads an integer, which the format has alone, or what a filter has beside.
func (e *encoder) number() bool {
	end := 0
	for end < len(e.in) && e.in[end] != ',' && e.in[end] != ']' && e.in[end] != '}' {
		end++
	}
	text := e.in[:end]
	e.in = e.in[end:]
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		e.varint(anyInt, uint64(n))
		return true
	}
	f, err := strconv.ParseFloat(string(text), 64)
	e.out = protowire.AppendTag(e.out, anyDouble, protowire.Fixed64Type)
	e.out = protowire.AppendFixed64(e.out, math.Float64bits(f))
	return err == nil
}

// text reads a string, which is valid as long as the line is.
func (e *encoder) text() ([]byte, bool) {
	if !e.take('"') {
		return nil, false
	}
	end := bytes.IndexByte(e.in, '"')
	if end < 0 {
		return nil, false
	}
	if text := e.in[:end]; bytes.IndexByte(text, '\\') < 0 {
		e.in = e.in[end+1:]
		return text, true
	}
	return e.escaped()
}

// escaped reads the rest of a string with a backslash in it: few have one.
func (e *encoder) escaped() ([]byte, bool) {
	for end := 0; end < len(e.in); end++ {
		switch e.in[end] {
		case '\\':
			end++
		case '"':
			var text string
			err := json.Unmarshal(slices.Concat([]byte{'"'}, e.in[:end+1]), &text)
			e.in = e.in[end+1:]
			return []byte(text), err == nil
		}
	}
	return nil, false
}

func (e *encoder) take(c byte) bool {
	if len(e.in) == 0 || e.in[0] != c {
		return false
	}
	e.in = e.in[1:]
	return true
}

func (e *encoder) word(w string) bool {
	rest, ok := bytes.CutPrefix(e.in, []byte(w))
	e.in = rest
	return ok
}

func (e *encoder) varint(field protowire.Number, n uint64) {
	e.out = protowire.AppendTag(e.out, field, protowire.VarintType)
	e.out = protowire.AppendVarint(e.out, n)
}

func (e *encoder) bytes(field protowire.Number, b []byte) {
	e.out = protowire.AppendTag(e.out, field, protowire.BytesType)
	e.out = protowire.AppendBytes(e.out, b)
}

// open begins a message inside the one at hand; close puts its length before it.
func (e *encoder) open(field protowire.Number) (start int) {
	e.out = protowire.AppendTag(e.out, field, protowire.BytesType)
	return len(e.out)
}

func (e *encoder) close(start int) {
	var size [10]byte // the longest varint
	e.out = slices.Insert(e.out, start, protowire.AppendVarint(size[:0], uint64(len(e.out)-start))...)
}
