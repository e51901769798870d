// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"
	"strings"
	"time"
)

// momentLayouts are the ways to write a point in time, and how wide each is: 14:03 is a whole minute. Those
// without a zone are local; those without a date are of the last day that had it.
var momentLayouts = []struct {
	layout string
	width  time.Duration
	clock  bool
}{
	{time.RFC3339Nano, 0, false},
	{"2006-01-02T15:04:05", time.Second, false},
	{"2006-01-02 15:04:05", time.Second, false},
	{"2006-01-02T15:04", time.Minute, false},
	{"2006-01-02 15:04", time.Minute, false},
	{time.DateOnly, day, false},
	{"15:04:05.999999999", time.Second, true},
	{"15:04", time.Minute, true},
	{"02/Jan/2006:15:04:05 -0700", time.Second, false}, // access logs
}

const momentHint = "RFC 3339, a time of day such as 14:03 or 'yesterday 14:03:07', a date, or how long ago, such as 2h or 3d"

const day = 24 * time.Hour

// moment reads a flag that takes a point in time; zero where it was not given.
func (p *parser) moment(name string, now time.Time) (from, to time.Time) {
	if !p.isSet(name) {
		return from, to
	}
	from, width, ok := parseMoment(p.text(name), now)
	if !ok {
		p.fail(momentHint, "--%s %q: not a point in time", name, p.text(name))
	} else if from.After(now) {
		p.fail(momentHint, "--%s %q: that is in the future", name, p.text(name))
	}
	return from, from.Add(width)
}

func parseMoment(text string, now time.Time) (from time.Time, width time.Duration, ok bool) {
	if ago, err := time.ParseDuration(text); err == nil && ago > 0 {
		return now.Add(-ago), time.Second, true
	}
	if number, found := strings.CutSuffix(text, "d"); found {
		if ago, err := strconv.ParseUint(number, 10, 16); err == nil && ago > 0 {
			return now.AddDate(0, 0, -int(ago)), time.Second, true
		}
	}
	days := 0
	switch text {
	case "today":
		text = now.Format(time.DateOnly)
	case "yesterday":
		text = now.AddDate(0, 0, -1).Format(time.DateOnly)
	}
	if rest, found := strings.CutPrefix(text, "yesterday "); found {
		text, days = strings.TrimPrefix(rest, "at "), -1
	}
	for _, l := range momentLayouts {
		t, err := time.ParseInLocation(l.layout, text, now.Location())
		if err != nil {
			continue
		}
		width = l.width
		if t.Nanosecond() != 0 {
			width = 0
		} else if l.layout == time.RFC3339Nano {
			width = time.Second
		}
		if !l.clock {
			return t, width, days == 0
		}
		at := func(day int) time.Time {
			return time.Date(now.Year(), now.Month(), now.Day()+day, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location())
		}
		if days == 0 && at(0).After(now) {
			days = -1
		}
		return at(days), width, true
	}
	return from, 0, false
}

// clockOnly says whether a moment has no day.
func clockOnly(text string) bool {
	for _, l := range momentLayouts {
		if _, err := time.Parse(l.layout, text); err == nil {
			return l.clock
		}
	}
	return false
}
