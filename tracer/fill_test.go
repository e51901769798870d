// SPDX-License-Identifier: Apache-2.0

package tracer

import "testing"

// TestFillKeepsAPeak: at least as long as who asks once a minute needs, and not for ever.
func TestFillKeepsAPeak(t *testing.T) {
	const minute = fillSpan
	tests := []struct {
		name string
		at   uint64 // after a peak of 100 bytes at 0 and 7 bytes at half a minute
		want int
	}{
		{"in its own minute", minute - 1, 100},
		{"in the minute after", minute, 100},
		{"at the end of the minute after", 2*minute - 1, 100},
		{"two minutes after", 2 * minute, 0},
		{"an hour after", 60 * minute, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var f fill
			f.note(100, 0)
			f.note(7, minute/2)
			f.turn(test.at)
			if got := max(f.peak, f.before); got != test.want {
				t.Errorf("peak %d, want %d", got, test.want)
			}
		})
	}
}
