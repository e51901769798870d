// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// gaps says what the store cannot know of what was asked: when nobody watched, what was lost, what was not to be kept.
func (x *explainer) gaps() {
	x.unwatched()
	x.losses()
	x.filtered()
}

// unwatched: of the past, the times without a recorder about the moment; else since when there is none.
func (x *explainer) unwatched() {
	list := x.q.Watches
	from, to := x.moment()
	for i, w := range list {
		gap := Finding{Kind: FindUnwatched, Level: Warn, From: w.Until}
		if i+1 < len(list) {
			gap.Until = list[i+1].From
		}
		switch {
		case w.Goes, !x.q.OfPast() && i+1 < len(list):
		case w.Until.Before(to) && (gap.Until.IsZero() || gap.Until.After(from)):
			x.say(gap)
		}
	}
}

// losses adds up what was lost about the moment; of now, what was lost ever: the counts of visitors may lack it.
func (x *explainer) losses() {
	f := Finding{Kind: FindLost, Level: Warn}
	from, to := x.moment()
	if !x.q.OfPast() {
		from = x.q.Since
	}
	for _, r := range x.q.Past {
		if r.Lost == nil || r.Time.Before(from) || r.Lost.Since.After(to) {
			continue
		}
		f.Count += r.Lost.Count
		if since := r.Lost.Since; !since.IsZero() && (f.From.IsZero() || since.Before(f.From)) {
			f.From = since
		}
		if r.Time.After(f.Until) {
			f.Until = r.Time
		}
	}
	if f.Count > 0 {
		x.say(f)
	}
}

// filtered tells the filters of the recorder of that time, where they may have kept records of the port out.
func (x *explainer) filtered() {
	_, to := x.moment()
	var start *Record
	for _, r := range x.q.Past {
		if r.Start != nil && !r.Time.After(to) && (start == nil || r.Time.After(start.Time)) {
			start = r
		}
	}
	if start == nil {
		return
	}
	var list []string
	for _, flag := range slices.Sorted(maps.Keys(start.Start.Filters)) {
		if value := start.Start.Filters[flag]; x.mayKeepOut(flag, value) {
			list = append(list, fmt.Sprint(flag, "=", value))
		}
	}
	if len(list) > 0 {
		x.say(Finding{Kind: FindFiltered, Level: Warn, Why: strings.Join(list, ", "), From: start.Time})
	}
}

// mayKeepOut says whether a filter, as the user gave it, may leave out what was asked for.
func (x *explainer) mayKeepOut(flag string, value any) bool {
	among := strings.Split(fmt.Sprint(value), ",")
	switch flag {
	case "local":
		return false
	case "netns":
		return !slices.Contains(among, strconv.FormatUint(uint64(x.q.Host.Netns), 10))
	case "port":
		return !slices.ContainsFunc(x.q.Targets, func(t Target) bool { return slices.Contains(among, strconv.Itoa(int(t.Port))) })
	default:
		return true
	}
}
