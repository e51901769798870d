// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

func TestParseMoment(t *testing.T) {
	zone := time.FixedZone("east", 2*3600)
	now := time.Date(2026, 11, 24, 13, 0, 0, 0, zone)
	for _, tc := range []struct {
		in    string
		want  string
		width time.Duration
	}{
		{"12:03", "2026-11-24T12:03:00+02:00", time.Minute},
		{"14:03", "2026-11-23T14:03:00+02:00", time.Minute}, // today it is in the future
		{"14:03:07", "2026-11-23T14:03:07+02:00", time.Second},
		{"12:03:07.250", "2026-11-24T12:03:07.25+02:00", 0},
		{"yesterday 12:03", "2026-11-23T12:03:00+02:00", time.Minute},
		{"yesterday at 14:03:07", "2026-11-23T14:03:07+02:00", time.Second},
		{"yesterday", "2026-11-23T00:00:00+02:00", 24 * time.Hour},
		{"today", "2026-11-24T00:00:00+02:00", 24 * time.Hour},
		{"2026-11-20", "2026-11-20T00:00:00+02:00", 24 * time.Hour},
		{"3d", "2026-11-21T13:00:00+02:00", time.Second},
		{"2h", "2026-11-24T11:00:00+02:00", time.Second},
		{"2026-11-20 08:00", "2026-11-20T08:00:00+02:00", time.Minute},
		{"2026-11-20T08:00:01Z", "2026-11-20T08:00:01Z", time.Second},
		{"2026-11-20T08:00:01.5Z", "2026-11-20T08:00:01.5Z", 0},
		{"20/Nov/2026:08:00:01 +0000", "2026-11-20T08:00:01Z", time.Second},
	} {
		t.Run(tc.in, func(t *testing.T) {
			want, err := time.Parse(time.RFC3339Nano, tc.want)
			if err != nil {
				t.Fatal(err)
			}
			got, width, ok := parseMoment(tc.in, now)
			if !ok || !got.Equal(want) || width != tc.width {
				t.Errorf("got %v, %v wide (%t)", got, width, ok)
			}
		})
	}
	for _, bad := range []string{"", "noon", "25:00", "-2h", "0s", "0d", "-1d", "1.5d", "yesterday 2026-11-20 08:00", "14"} {
		if got, _, ok := parseMoment(bad, now); ok {
			t.Errorf("%q is %v", bad, got)
		}
	}
}
