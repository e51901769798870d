// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"testing"
	"time"
)

// TestJiffyOf: jiffies of every HZ are the same five minutes after boot, and must not be taken for another's near that.
func TestJiffyOf(t *testing.T) {
	for name, tc := range map[string]struct {
		hz     uint64
		uptime time.Duration
		late   time.Duration // the clock is read before jiffies, and after them
		want   time.Duration
	}{
		"a minute after boot":                 {250, time.Minute, 0, 4 * time.Millisecond},
		"a day":                               {1000, 24 * time.Hour, 0, time.Millisecond},
		"a year":                              {100, 365 * 24 * time.Hour, 0, 10 * time.Millisecond},
		"300 Hz":                              {300, time.Hour, 0, 3333333},
		"just before five minutes, read late": {250, 294*time.Second + 900*time.Millisecond, 100 * time.Millisecond, 4 * time.Millisecond},
		"before five minutes, read very late": {250, 290 * time.Second, 600 * time.Millisecond, 4 * time.Millisecond},
		"just after five minutes":             {250, 309*time.Second + 990*time.Millisecond, 0, 4 * time.Millisecond},
		"read too late":                       {250, 297 * time.Second, 2 * time.Second, 0},
		"at five minutes nobody knows":        {250, 300 * time.Second, 0, 0},
		"no HZ that there is":                 {600, time.Hour, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			jiffies := uint64(uint32(-initialJiffies*int64(tc.hz))) + uint64(tc.uptime/time.Microsecond)*tc.hz/1e6
			if got := jiffyOf(jiffies, uint64(tc.uptime), uint64(tc.uptime+tc.late)); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
