// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// TestTextDates: of records from several days, those of another day than today say theirs.
func TestTextDates(t *testing.T) {
	var buf bytes.Buffer
	midnight := time.Date(2026, 11, 23, 0, 0, 0, 0, time.FixedZone("east", 2*3600))
	text := NewText(&buf, TextOptions{Location: midnight.Location(), Today: midnight.Add(9 * time.Hour)})
	for _, at := range []time.Time{midnight.Add(-time.Second).UTC(), midnight.UTC(), midnight.AddDate(-1, 0, 0)} {
		r := sampleSock("bind", localhost4, 80, sampleServer())
		r.Time = at
		if err := text.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := text.Flush(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(buf.String()) {
		stamp, _, _ := strings.Cut(line, "  ")
		got = append(got, stamp)
	}
	want := []string{"2026-11-22 23:59:59.000", "00:00:00.000", "2025-11-23 00:00:00.000"}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("%q, want %q", got, want)
	}
}
