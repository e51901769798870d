// SPDX-License-Identifier: Apache-2.0

package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Reader reads a store that may be written meanwhile. It is safe for concurrent use.
type Reader struct {
	db   *sql.DB
	path string
}

// Read opens a store to be read. The error is fs.ErrNotExist where there is none, fs.ErrPermission where it may not be read.
func Read(path string) (*Reader, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	// Not by opening it: to close it again would drop SQLite's locks in this process (fcntl(2)).
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS); err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
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
	return &Reader{db, path}, nil
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

// Runs gives the start and stop records, and the lost ones: when somebody watched, and what was missed meanwhile.
func (r *Reader) Runs(ctx context.Context) (list []Line, err error) {
	rows, err := r.db.QueryContext(ctx, "SELECT id, time, line FROM records WHERE "+notes+" AND event IN ('start', 'stop', 'lost') ORDER BY time, id")
	return scan(rows, err)
}

// notes is by_note's condition, which a query has to repeat for SQLite to use it.
const notes = "event IN ('start', 'stop', 'lost', 'summary')"

// Status is what a store holds.
type Status struct {
	First, Last time.Time // zero: it is empty
	Rows        int64
	Bytes       int64  // of pages in use
	Disk        int64  // of its files
	Folded      uint64 // connections and failures that were counted in place of being kept
	Lost        uint64 // events and records, as its lost records say
}

// Status looks at the whole store, which takes a moment for a large one.
func (r *Reader) Status(ctx context.Context) (s Status, err error) {
	var last, folded, under, lost sql.NullInt64
	sum := "SELECT sum(json_extract(line, '$.count')) FROM records WHERE " + notes + " AND event = ?"
	s.First, err = r.Remembers(ctx)
	err = errors.Join(err,
		r.db.QueryRowContext(ctx, "SELECT max(time) FROM records WHERE hour = (SELECT max(hour) FROM records)").Scan(&last),
		r.db.QueryRowContext(ctx, "SELECT count(*) FROM records").Scan(&s.Rows),
		r.db.QueryRowContext(ctx, sum, "summary").Scan(&folded),
		r.db.QueryRowContext(ctx, "SELECT sum(json_extract(line, '$.count')) FROM running").Scan(&under),
		r.db.QueryRowContext(ctx, sum, "lost").Scan(&lost),
	)
	if err != nil {
		return s, fmt.Errorf("read store: %w", err)
	}
	if last.Valid {
		s.Last = time.Unix(0, last.Int64)
	}
	s.Folded, s.Lost = uint64(folded.Int64+under.Int64), uint64(lost.Int64)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if info, err := os.Stat(r.path + suffix); err == nil {
			s.Disk += info.Size()
		}
	}
	s.Bytes, err = usedBytes(r.db)
	return s, err
}

// Remembers is since when the store has records; zero: it has none.
func (r *Reader) Remembers(ctx context.Context) (time.Time, error) {
	var first sql.NullInt64
	err := r.db.QueryRowContext(ctx, "SELECT min(time) FROM records WHERE hour = (SELECT min(hour) FROM records)").Scan(&first)
	if err != nil || !first.Valid {
		return time.Time{}, err
	}
	return time.Unix(0, first.Int64), nil
}

// FirstSeen is when the store first saw each program, by the path of its executable. Those that it never saw are absent.
func (r *Reader) FirstSeen(ctx context.Context, paths []string) (map[string]time.Time, error) {
	seen := map[string]time.Time{}
	for _, path := range paths {
		var first int64
		switch err := r.db.QueryRowContext(ctx, "SELECT first FROM programs WHERE path = ?", path).Scan(&first); {
		case err == nil:
			seen[path] = time.Unix(0, first)
		case !errors.Is(err, sql.ErrNoRows):
			return nil, fmt.Errorf("read store: %w", err)
		}
	}
	return seen, nil
}
