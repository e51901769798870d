// SPDX-License-Identifier: Apache-2.0

// Package history is the memory: a store of records that one process writes and many read. It is an SQLite
// database in WAL mode. Its indexes lead with the hour, so that what is written lands together, and a port is
// found by one look-up an hour. It also keeps since when each program was seen, for longer than its records.
package history

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // registers the driver

	"golang.org/x/sys/unix"
)

const (
	// dirMode and fileMode let the group ask, and keep command lines from everyone else.
	dirMode  = 0o750
	fileMode = 0o640
	group    = "looptrace"
	// lockSuffix makes the name of the file that the writer holds.
	lockSuffix = ".lock"
	// schemaVersion counts changes of the tables; migrations has the way from each to the next.
	schemaVersion = 4
)

const hour = int64(time.Hour)

// hourOf is the bucket of a point in time, in nanoseconds since 1970.
func hourOf(ns int64) int64 { return ns / hour }

// migrations bring a store from version i to i+1.
var migrations = []string{`
CREATE TABLE records (
	id INTEGER PRIMARY KEY,
	time INTEGER NOT NULL, -- nanoseconds since 1970
	hour INTEGER NOT NULL,
	port INTEGER,          -- of the server or socket
	client_port INTEGER,
	event TEXT NOT NULL,
	line TEXT NOT NULL     -- the record, as looptrace -o json has it
);
CREATE INDEX by_port ON records (hour, port);
CREATE INDEX by_client_port ON records (hour, client_port) WHERE client_port IS NOT NULL;
CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
`, `
CREATE INDEX by_run ON records (time) WHERE event IN ('start', 'stop');
DROP TABLE totals; -- the lost records say it
`, `
DROP INDEX by_port;
DROP INDEX by_client_port;
DROP INDEX by_run;
-- With the time, who looks for the newest of a busy port reads those alone.
CREATE INDEX by_port ON records (hour, port, time);
CREATE INDEX by_client_port ON records (hour, client_port, time) WHERE client_port IS NOT NULL;
-- Who listened is not to be looked for among a million connections; nor are counts among records.
CREATE INDEX by_socket ON records (hour, port, time, event) WHERE event IN ('bind', 'listen', 'release');
CREATE INDEX by_note ON records (event, time) WHERE event IN ('start', 'stop', 'lost', 'summary');
CREATE TABLE programs (
	path TEXT PRIMARY KEY,  -- of the executable
	first INTEGER NOT NULL, -- when it was seen first, nanoseconds since 1970
	last INTEGER NOT NULL   -- when it was seen last, to a day
) WITHOUT ROWID;
INSERT INTO programs SELECT path, min(time), max(time) FROM (
	SELECT json_extract(line, '$.process.executable.path') path, time FROM records WHERE event IN ('bind', 'listen')
	UNION ALL SELECT json_extract(line, '$.client.process.executable.path'), time FROM records WHERE event = 'connect'
	UNION ALL SELECT json_extract(line, '$.server.process.executable.path'), time FROM records WHERE event = 'connect'
) WHERE path IS NOT NULL GROUP BY path;
`, `
-- What sort of visit to the port it is: more of a busy port can be counted than read. 0: none; NULL: an earlier version wrote it.
ALTER TABLE records ADD COLUMN kind INTEGER;
CREATE TABLE kinds (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
INSERT INTO kinds VALUES (2, '{}'); -- the last that has another meaning
DROP INDEX by_port;
CREATE INDEX by_port ON records (hour, port, time, kind);
-- Counts of the interval under way, for kill -9 not to take them along.
CREATE TABLE running (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, port INTEGER NOT NULL, line TEXT NOT NULL);
`}

// BusyError says that another process writes to the store.
type BusyError struct {
	Path string
	PID  int // 0: not known
}

func (e *BusyError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("store %s: another process writes to it already", e.Path)
	}
	return fmt.Sprintf("store %s: process %d writes to it already", e.Path, e.PID)
}

// Hint says what to try next.
func (e *BusyError) Hint() string {
	return "one looptrace record a store: stop that one, or give this one --store PATH"
}

// lock takes the store for this process, until it ends or unlocks. The lock is the kernel's (flock(2)): it dies
// with its holder.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+lockSuffix, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		text := make([]byte, 32)
		n, _ := f.Read(text)
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:n])))
		return nil, &BusyError{Path: path, PID: pid}
	}
	if err := errors.Join(f.Truncate(0), writeAt0(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func writeAt0(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

const (
	pageSize = 4096 // SQLite's own
	// mostLogPages is when the log is cleared, 16 MB: sooner, and pages that are written again and again go to the disk as often.
	mostLogPages  = 4000
	leastLogPages = 250
)

// logPagesFor gives a small store a small log: it is on the disk as well.
func logPagesFor(maxMB int) int { return max(leastLogPages, min(mostLogPages, maxMB<<20/pageSize/8)) }

// create opens the database for writing, made where it is not there, and brings it to this version. The log beside it
// is cleared when it has so many pages, and cut to that after a reader held it up.
func create(path string, logPages int) (_ *sql.DB, err error) {
	if err := makeFile(path); err != nil {
		return nil, err
	}
	db, err := open(path, "rw", "auto_vacuum(INCREMENTAL)", "journal_mode(WAL)", "synchronous(NORMAL)",
		fmt.Sprintf("wal_autocheckpoint(%d)", logPages), fmt.Sprintf("journal_size_limit(%d)", logPages*pageSize), "cache_size(-16000)")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			db.Close()
		}
	}()
	db.SetMaxOpenConns(1)
	return db, migrate(db)
}

// makeFile makes the directory and the file, for the group where there is one. What is there keeps its modes.
func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if g, err := user.LookupGroup(group); err == nil {
		if gid, err := strconv.Atoi(g.Gid); err == nil {
			_ = f.Chown(-1, gid) // who may not, need not: the store is the user's own
			_ = os.Chown(filepath.Dir(path), -1, gid)
		}
	}
	return f.Close()
}

func migrate(db *sql.DB) error {
	var version int
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > schemaVersion {
		return fmt.Errorf("it is of a later looptrace: version %d, this one knows %d", version, schemaVersion)
	}
	for ; version < schemaVersion; version++ {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		if _, err := tx.Exec(migrations[version] + fmt.Sprintf("PRAGMA user_version = %d;", version+1)); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// open opens the database in a mode of SQLite's URIs: ro, rw, or one with more parameters.
func open(path, mode string, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"_pragma": append(pragmas, "busy_timeout(5000)")}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return sql.Open("sqlite", (&url.URL{Scheme: "file", Path: abs, RawQuery: "mode=" + mode + "&" + query.Encode()}).String())
}

// sameFile says whether a path still leads to the file that was opened.
func sameFile(path string, inode uint64) bool {
	info, err := os.Stat(path)
	return err == nil && inodeOf(info) == inode
}

func inodeOf(info os.FileInfo) uint64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return st.Ino
}
