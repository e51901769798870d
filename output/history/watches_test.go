// SPDX-License-Identifier: Apache-2.0

package history

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/looptrace/looptrace/tracer/flow"
)

// TestWatches: a run ends with what it wrote last, whether that is a stop or not, and the last goes on while its writer lives.
func TestWatches(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	now := time.Now().Round(0)
	at := func(sec int) time.Time { return now.Add(time.Duration(sec-100) * time.Second) }
	start := func(sec int) *flow.Record {
		return &flow.Record{Event: "start", Time: at(sec), Start: &flow.StartRecord{}}
	}
	w := writer(t, Config{Path: path})
	watches := func() []flow.Watch {
		r, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		list, err := r.Watches(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := watches(); len(got) != 0 {
		t.Errorf("of an empty store: %v", got)
	}
	write(t, w, bind(1, 80, at(1))) // its start is forgotten
	write(t, w, start(10), bind(2, 80, at(11)), bind(3, 81, at(17)))
	write(t, w, start(20), bind(4, 80, at(22)))
	await(t, "the last record", func() bool {
		list := watches()
		return len(list) == 3 && list[2].Until.Equal(at(22))
	})
	want := []flow.Watch{{Until: at(1)}, {From: at(10), Until: at(17)}, {From: at(20), Until: at(22), Goes: true}}
	if diff := cmp.Diff(want, watches()); diff != "" {
		t.Errorf("while it is written (-want +got):\n%s", diff)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want[2].Goes = false
	if diff := cmp.Diff(want, watches()); diff != "" {
		t.Errorf("afterwards (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(path + ".lock"); err != nil {
		t.Error(err) // there is a lock to look for, and nobody holds it
	}
}
