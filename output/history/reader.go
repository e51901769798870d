// SPDX-License-Identifier: Apache-2.0

package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"time"
)

// Reader reads a store that may be written meanwhile. It is safe for concurrent use.
type Reader struct{ db *sql.DB }

// Read opens a store to be read. The error is fs.ErrNotExist where there is none.
func Read(path string) (*Reader, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	db, version, err := openToRead(path, "ro")
	if err != nil && !written(path) {
		// WAL wants to write beside the file, which who only reads may not. Nobody writes now.
		db, version, err = openToRead(path, "ro&immutable=1")
	}
	if err != nil {
		return nil, fmt.Errorf("read store %s: %w", path, err)
	}
	if version != schemaVersion {
		db.Close()
		return nil, fmt.Errorf("store %s has version %d, and this looptrace reads %d: run looptrace record of the same version", path, version, schemaVersion)
	}
	return &Reader{db}, nil
}

func openToRead(path, mode string) (db *sql.DB, version int, err error) {
	if db, err = open(path, mode); err != nil {
		return nil, 0, err
	}
	if err = db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		db.Close()
		return nil, 0, err
	}
	return db, version, nil
}

// written says whether a writer has the store open, or left something behind as it was killed.
func written(path string) bool {
	_, err := os.Stat(path + "-wal")
	return err == nil
}

// Close closes the store.
func (r *Reader) Close() error { return r.db.Close() }

// Query chooses records. Its zero value is all of them.
type Query struct {
	Ports    []uint16 // at either end
	Events   []string
	From, To time.Time // both included; zero: no bound
	After    int64     // only rows with a larger number, as Lines gives them
	Newest   int       // only so many, the last; 0: all
}

// Line is a stored record: looptrace -o json's line, and the number that it was written under.
type Line struct {
	Row  int64
	Text string
}

// Lines gives the records in the order of their time.
func (r *Reader) Lines(ctx context.Context, q Query) iter.Seq2[Line, error] {
	text, args := q.sql()
	return r.lines(ctx, text, args...)
}

// Runs gives the start and stop records: when somebody watched.
func (r *Reader) Runs(ctx context.Context) iter.Seq2[Line, error] {
	return r.lines(ctx, "SELECT id, line FROM records WHERE event IN ('start', 'stop') ORDER BY time, id")
}

// Count is how many records a query finds, whatever Newest says.
func (r *Reader) Count(ctx context.Context, q Query) (n uint64, err error) {
	q.Newest = 0
	text, args := q.sql()
	if err := r.db.QueryRowContext(ctx, "SELECT count(*) FROM ("+text+")", args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("read store: %w", err)
	}
	return n, nil
}

func (r *Reader) lines(ctx context.Context, text string, args ...any) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		rows, err := r.db.QueryContext(ctx, text, args...)
		if err != nil {
			yield(Line{}, fmt.Errorf("read store: %w", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var l Line
			if err := rows.Scan(&l.Row, &l.Text); err != nil {
				yield(Line{}, fmt.Errorf("read store: %w", err))
				return
			}
			if !yield(l, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(Line{}, fmt.Errorf("read store: %w", err))
		}
	}
}

// hours walks the buckets that there are: one look-up each, however many records lie in them.
const hours = `WITH RECURSIVE hours(h) AS (
	SELECT min(hour) FROM records WHERE hour >= ?
	UNION ALL SELECT (SELECT min(hour) FROM records WHERE hour > h) FROM hours WHERE h IS NOT NULL
) `

func (q *Query) sql() (string, []any) {
	from, to := int64(0), int64(1<<62)
	if !q.From.IsZero() {
		from = q.From.UnixNano()
	}
	if !q.To.IsZero() {
		to = q.To.UnixNano()
	}
	var args []any
	one := func(where string, more ...any) string {
		text := "SELECT r.id, r.line, r.time FROM records r WHERE r.time BETWEEN ? AND ? AND r.hour BETWEEN ? AND ? AND r.id > ?"
		if where != "" {
			text = "SELECT r.id, r.line, r.time FROM hours CROSS JOIN records r WHERE r.hour = h AND h <= ? AND r.time BETWEEN ? AND ? AND r.id > ? AND " + where
			args = append(args, hourOf(to), from, to, q.After)
		} else {
			args = append(args, from, to, hourOf(from), hourOf(to), q.After)
		}
		args = append(args, more...)
		if len(q.Events) > 0 {
			text += " AND r.event IN (?" + strings.Repeat(", ?", len(q.Events)-1) + ")"
			for _, e := range q.Events {
				args = append(args, e)
			}
		}
		return text
	}
	var parts []string
	prefix := ""
	if len(q.Ports) == 0 {
		parts = append(parts, one(""))
	} else {
		prefix = hours
		args = append(args, hourOf(from))
	}
	for _, p := range q.Ports {
		parts = append(parts, one("r.port = ?", p), one("r.client_port = ? AND r.port IS NOT r.client_port", p))
	}
	found := prefix + "SELECT DISTINCT id, line, time FROM (" + strings.Join(parts, " UNION ALL ") + ")"
	if q.Newest > 0 {
		return "SELECT id, line FROM (" + found + " ORDER BY time DESC, id DESC LIMIT ?) ORDER BY time, id", append(args, q.Newest)
	}
	return "SELECT id, line FROM (" + found + ") ORDER BY time, id", args
}

// Status is what a store holds.
type Status struct {
	First, Last time.Time // zero: it is empty
	Rows        int64
	Bytes       int64  // of pages in use
	Folded      uint64 // connections and failures that were counted in place of being kept
	Lost        uint64 // events and records, as its lost records say
}

// Status looks at the whole store, which takes a moment for a large one.
func (r *Reader) Status(ctx context.Context) (s Status, err error) {
	var first, last, folded, lost sql.NullInt64
	err = errors.Join(
		r.db.QueryRowContext(ctx, "SELECT min(time), max(time), count(*) FROM records").Scan(&first, &last, &s.Rows),
		r.db.QueryRowContext(ctx, "SELECT sum(json_extract(line, '$.count')) FROM records WHERE event = 'summary'").Scan(&folded),
		r.db.QueryRowContext(ctx, "SELECT sum(json_extract(line, '$.count')) FROM records WHERE event = 'lost'").Scan(&lost),
	)
	if err != nil {
		return s, fmt.Errorf("read store: %w", err)
	}
	if first.Valid {
		s.First, s.Last = time.Unix(0, first.Int64), time.Unix(0, last.Int64)
	}
	s.Folded, s.Lost = uint64(folded.Int64), uint64(lost.Int64)
	s.Bytes, err = usedBytes(r.db)
	return s, err
}

// Remembers is since when the store has records.
func (r *Reader) Remembers(ctx context.Context) (time.Time, error) {
	var first sql.NullInt64
	err := r.db.QueryRowContext(ctx, "SELECT min(time) FROM records WHERE hour = (SELECT min(hour) FROM records)").Scan(&first)
	if err != nil || !first.Valid {
		return time.Time{}, err
	}
	return time.Unix(0, first.Int64), nil
}
