// SPDX-License-Identifier: Apache-2.0

package output

import (
	"io"
	"reflect"
	"testing"

	"github.com/looptrace/looptrace/tracer/flow"
)

// TestCloneSharesNothing: a clone says the same, and has no pointer, list or map of the record's.
func TestCloneSharesNothing(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			c := s.record.Clone()
			open := func(w io.Writer) sink { return NewJSON(w) }
			if want, got := lineOf(t, open, s.record), lineOf(t, open, c); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
			held := map[uintptr]string{}
			common(reflect.ValueOf(s.record), "r", func(p uintptr, path string) { held[p] = path })
			common(reflect.ValueOf(c), "r", func(p uintptr, path string) {
				if held[p] != "" {
					t.Errorf("%s is the record's %s", path, held[p])
				}
			})
		})
	}
}

// common visits what a record points to; what a start record says of its filters is the caller's, and stays so.
func common(v reflect.Value, path string, visit func(uintptr, string)) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || v.Type().Elem().Size() == 0 || !ours(v.Type().Elem()) {
			return
		}
		visit(v.Pointer(), path)
		common(v.Elem(), path, visit)
	case reflect.Slice:
		if v.Len() > 0 {
			visit(v.Pointer(), path)
		}
		for i := range v.Len() {
			common(v.Index(i), path+"[]", visit)
		}
	case reflect.Struct:
		if !ours(v.Type()) {
			return // a time.Time, a netip.Addr: values
		}
		for i := range v.NumField() {
			common(v.Field(i), path+"."+v.Type().Field(i).Name, visit)
		}
	}
}

func ours(t reflect.Type) bool { return t.PkgPath() == reflect.TypeFor[flow.Record]().PkgPath() }
