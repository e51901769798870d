// SPDX-License-Identifier: Apache-2.0

package history

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer/flow"
)

// Query chooses records. Its zero value is all of them.
type Query struct {
	Port     uint16    // at either end; 0: any
	From, To time.Time // both included; zero: no bound
	Sockets  bool      // binds, listens and releases alone
}

// Has says whether a record is within the query's bounds: a count, where a part of its interval is.
func (q *Query) Has(r *flow.Record) bool {
	s, first, last := spanOf(q.From, q.To), r.Time, r.Time
	if r.Summary != nil {
		first, last = r.Summary.First, r.Summary.Last
	}
	return s.from <= last.UnixNano() && first.UnixNano() <= s.to
}

// lookups of a query; a record that two of them find is one.
func (q *Query) lookups() []lookup {
	switch {
	case q.Sockets && q.Port == 0:
		return []lookup{everySocket}
	case q.Sockets:
		return []lookup{asSocket}
	case q.Port == 0:
		return []lookup{everything}
	default:
		return []lookup{asServer, asClient}
	}
}

// Lines gives the records in the order of their time, an hour at a time, however many there are: what is written
// meanwhile may be among them. Counts that began within the bounds and ended after them come last.
func (r *Reader) Lines(ctx context.Context, q Query) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		s := spanOf(q.From, q.To)
		hours, err := r.hoursOf(ctx, q, s)
		if err != nil {
			yield(Line{}, err)
			return
		}
		for _, hour := range hours {
			var keys []key
			for _, l := range q.lookups() {
				more, err := r.keys(ctx, l, hour, q.Port, s, -1, false)
				if err != nil {
					yield(Line{}, err)
					return
				}
				keys = append(keys, more...)
			}
			slices.SortFunc(keys, key.compare)
			for l, err := range r.fetch(ctx, slices.Compact(keys)) {
				if !yield(l, err) || err != nil {
					return
				}
			}
		}
		if q.To.IsZero() || q.Sockets {
			return
		}
		for l, err := range r.begun(ctx, q) {
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// begun gives the counts that began within the bounds of a query and ended after them.
func (r *Reader) begun(ctx context.Context, q Query) iter.Seq2[Line, error] {
	// Counts of earlier versions have the time of their interval's end.
	longest := 2 * foldEvery
	return func(yield func(Line, error) bool) {
		lines, err := scan(r.db.QueryContext(ctx, "SELECT id, time, line FROM records WHERE "+notes+" AND event = 'summary' AND time > ?1 AND time <= ?2"+
			" AND (?3 = 0 OR port = ?3) ORDER BY time, id", q.To.UnixNano(), q.To.Add(longest).UnixNano(), q.Port))
		if err != nil {
			yield(Line{}, err)
			return
		}
		for _, l := range lines {
			if rec, err := output.Parse([]byte(l.Text)); err == nil && !q.Has(rec) {
				continue
			}
			if !yield(l, nil) {
				return
			}
		}
	}
}

// hoursOf are those that have records of a query, in order.
func (r *Reader) hoursOf(ctx context.Context, q Query, s span) (list []int64, err error) {
	for _, l := range q.lookups() {
		for hour, err := range r.hours(ctx, l, q.Port, s, false) {
			if err != nil {
				return nil, err
			}
			list = append(list, hour)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// News gives records in the order of their writing, after that number: no more than some hundred at a time.
func (r *Reader) News(ctx context.Context, after int64) ([]Line, error) {
	return scan(r.db.QueryContext(ctx, "SELECT id, time, line FROM records WHERE id > ? ORDER BY id LIMIT ?", after, fetchAtOnce))
}

// near finds the records that are nearest to one end of a span, the nearest first.
func (r *Reader) near(ctx context.Context, l lookup, port uint16, s span, most int, back bool) (list []key, err error) {
	for hour, err := range r.hours(ctx, l, port, s, back) {
		if err != nil {
			return nil, err
		}
		found, err := r.keys(ctx, l, hour, port, s, most-len(list), back)
		if err != nil {
			return nil, err
		}
		if list = append(list, found...); len(list) >= most {
			break
		}
	}
	return list, nil
}
