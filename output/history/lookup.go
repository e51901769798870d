// SPDX-License-Identifier: Apache-2.0

package history

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"
)

// Line is a stored record: looptrace -o json's line, and the number that it was written under.
type Line struct {
	Row  int64
	Time time.Time
	Text string
}

// lookup is a way to find records: an index, and what it is asked beside the hour ?1 and the time. Each covers what is
// asked, so that no record is read but those that are taken.
type lookup struct{ index, where string }

var (
	everything  = lookup{"by_port", ""}
	everySocket = lookup{"by_socket", " AND event IN ('bind', 'listen', 'release')"}
	asServer    = lookup{"by_port", " AND port = ?2"}
	asClient    = lookup{"by_client_port", " AND client_port = ?2"}
	asSocket    = lookup{"by_socket", " AND port = ?2 AND event IN ('bind', 'listen', 'release')"}
)

func (l lookup) in(hour string) string {
	return " FROM records INDEXED BY " + l.index + " WHERE hour = " + hour + l.where
}

// key is where a record is, and when.
type key struct{ time, id int64 }

func (k key) compare(o key) int { return cmp.Or(cmp.Compare(k.time, o.time), cmp.Compare(k.id, o.id)) }

// span is a part of the store, both ends included.
type span struct{ from, to int64 }

// spanOf reads two points in time, of which the zero one is no bound.
func spanOf(from, to time.Time) span {
	s := span{math.MinInt64, math.MaxInt64}
	if !from.IsZero() {
		s.from = from.UnixNano()
	}
	if !to.IsZero() {
		s.to = to.UnixNano()
	}
	return s
}

// hours walks the buckets that there are, in either direction: one step each, however many records lie in them.
func (r *Reader) hours(ctx context.Context, l lookup, port uint16, s span, back bool) iter.Seq2[int64, error] {
	next := "SELECT min(hour) FROM records WHERE hour %s"
	first, step, begin, end := ">= ?1", "> h AND hour <= ?3", hourOf(s.from), hourOf(s.to)
	if back {
		next = "SELECT max(hour) FROM records WHERE hour %s"
		first, step, begin, end = "<= ?1", "< h AND hour >= ?3", end, begin
	}
	text := "WITH RECURSIVE hours(h) AS (" + fmt.Sprintf(next, first) +
		" UNION ALL SELECT (" + fmt.Sprintf(next, step) + ") FROM hours WHERE h IS NOT NULL)" +
		" SELECT h FROM hours WHERE h BETWEEN min(?1, ?3) AND max(?1, ?3) AND EXISTS (SELECT 1" + l.in("h") + ")"
	return func(yield func(int64, error) bool) {
		rows, err := r.db.QueryContext(ctx, text, begin, port, end)
		if err != nil {
			yield(0, fmt.Errorf("read store: %w", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var h int64
			if err := rows.Scan(&h); err != nil {
				yield(0, fmt.Errorf("read store: %w", err))
				return
			}
			if !yield(h, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(0, fmt.Errorf("read store: %w", err))
		}
	}
}

// keys finds at most so many records of one hour: the first, or going back the last. limit -1: all.
func (r *Reader) keys(ctx context.Context, l lookup, hour int64, port uint16, s span, limit int, back bool) (list []key, err error) {
	order := " ORDER BY time, id"
	if back {
		order = " ORDER BY time DESC, id DESC"
	}
	rows, err := r.db.QueryContext(ctx, "SELECT time, id"+l.in("?1")+" AND time BETWEEN ?3 AND ?4"+order+" LIMIT ?5", hour, port, s.from, s.to, limit)
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var k key
		if err := rows.Scan(&k.time, &k.id); err != nil {
			return nil, fmt.Errorf("read store: %w", err)
		}
		list = append(list, k)
	}
	return list, rows.Err()
}

// fetchAtOnce is how many records a query reads. More at once and a reader that stands still, as a pager does, keeps
// the writer's log from being cleared for longer; fewer cost more queries.
const fetchAtOnce = 500

// fetch reads records in the order of their keys. What was forgotten in between is left out.
func (r *Reader) fetch(ctx context.Context, keys []key) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for some := range slices.Chunk(keys, fetchAtOnce) {
			args := make([]any, len(some))
			for i, k := range some {
				args[i] = k.id
			}
			lines, err := scan(r.db.QueryContext(ctx, "SELECT id, time, line FROM records WHERE id IN (?"+strings.Repeat(", ?", len(some)-1)+")", args...))
			if err != nil {
				yield(Line{}, err)
				return
			}
			place := make(map[int64]int, len(some))
			for i, k := range some {
				place[k.id] = i
			}
			slices.SortFunc(lines, func(a, b Line) int { return cmp.Compare(place[a.Row], place[b.Row]) })
			for _, l := range lines {
				if !yield(l, nil) {
					return
				}
			}
		}
	}
}

// scan reads what a query of id, time and line found.
func scan(rows *sql.Rows, err error) (list []Line, _ error) {
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var l Line
		var at int64
		if err := rows.Scan(&l.Row, &at, &l.Text); err != nil {
			return nil, fmt.Errorf("read store: %w", err)
		}
		l.Time = time.Unix(0, at)
		list = append(list, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	return list, nil
}
