// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/looptrace/looptrace/tracer/flow"
)

// Whatever changes of a process, what is remembered of it never comes out in its place: each field in turn, and
// another one that the compiler does not know yet.
func TestProcessTextsFollowTheProcess(t *testing.T) {
	record := sampleConn("connect", localhost4, sampleClient(), sampleServer())
	process := *record.Conn.Client.Process.P
	record.Conn.Client.Process.P = &process
	var remembering bytes.Buffer
	j := NewJSON(&remembering)
	check := func(what string) {
		t.Helper()
		var fresh bytes.Buffer
		want := NewJSON(&fresh)
		remembering.Reset()
		for _, out := range []*JSON{j, want} {
			if err := out.Write(record); err != nil {
				t.Fatal(err)
			}
			if err := out.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(fresh.String(), remembering.String()); diff != "" {
			t.Errorf("%s (-fresh +remembered):\n%s", what, diff)
		}
	}
	check("at first")
	check("again")
	changeEach(reflect.ValueOf(&process).Elem(), check)
	changeEach(reflect.ValueOf(&record.Conn.Client.Process).Elem(), check)
}

// changeEach changes each exported field of a struct, for good.
func changeEach(v reflect.Value, changed func(what string)) {
	for i := range v.NumField() {
		field, name := v.Field(i), v.Type().Field(i).Name
		switch {
		case !field.CanSet():
			continue
		case field.Type() == reflect.TypeFor[time.Time]():
			field.Set(reflect.ValueOf(field.Interface().(time.Time).Add(time.Hour)))
		case field.Kind() == reflect.Struct:
			changeEach(field, changed)
		case field.Kind() == reflect.String:
			field.SetString(field.String() + "x")
		case field.CanUint():
			field.SetUint(field.Uint() + 1)
		case field.CanInt():
			field.SetInt(field.Int() + 1)
		case field.Kind() == reflect.Bool:
			field.SetBool(!field.Bool())
		case field.Type() == reflect.TypeFor[[]flow.Ancestor]():
			field.Set(reflect.ValueOf([]flow.Ancestor{{PID: 1, ExeName: "other"}}))
		case field.Type() == reflect.TypeFor[[]flow.Actor]():
			field.Set(reflect.ValueOf([]flow.Actor{{P: &flow.Process{Comm: "holder"}}}))
		case field.Type() == reflect.TypeFor[*flow.Process]():
			field.Set(reflect.ValueOf(&flow.Process{Comm: "another"}))
		default:
			panic("no way to change " + name)
		}
		changed(name)
	}
}

// Processes whose numbers share a slot push each other out, and nothing else.
func TestProcessTextsShareSlots(t *testing.T) {
	var texts processTexts
	texts.open()
	a := flow.Actor{P: &flow.Process{ProcessID: flow.ProcessID{PID: 1}, Comm: "a"}}
	b := flow.Actor{P: &flow.Process{ProcessID: flow.ProcessID{PID: 1 + processSlots}, Comm: "b"}}
	if slotOf(&a) != slotOf(&b) {
		t.Fatalf("slots %d and %d differ", slotOf(&a), slotOf(&b))
	}
	for range 2 {
		for _, one := range []*flow.Actor{&a, &b} {
			want := `"comm":"` + one.P.Comm + `"`
			if got := texts.of(one); !bytes.Contains(got, []byte(want)) {
				t.Errorf("got %s, want %s in it", got, want)
			}
		}
	}
}

func TestQuoteTime(t *testing.T) {
	for _, at := range []time.Time{
		{},
		time.Unix(0, 0), time.Unix(0, 1), time.Date(2026, 11, 25, 9, 8, 7, 60504030, time.UTC), time.Date(1999, 12, 31, 23, 59, 59, 999999999, time.UTC),
		time.Date(9999, 12, 31, 0, 0, 0, 0, time.FixedZone("", 3600)), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, want := string(quoteTime(nil, at)), `"`+at.UTC().Format(timeLayout)+`"`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
