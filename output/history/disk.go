// SPDX-License-Identifier: Apache-2.0

package history

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer/flow"
)

// disk is the database of a Writer. It is for one goroutine.
type disk struct {
	path  string
	db    *sql.DB // nil: it could not be opened again
	inode uint64
	// logPages is create's.
	logPages int
	// beside are SQLite's files beside it: a writer whose log was deleted writes what no reader finds.
	beside map[string]uint64
	say    func(string)     // nil: to nobody
	known  map[string]int64 // programs that the store has, by path, and the last day that it has of them
	kinds  map[string]int64 // that the store has, by text
	// stored is how many of each count under way are in the store.
	stored map[int64]uint64
}

// write commits rows, all or none. A store that was deleted or could not be opened is made anew first.
func (d *disk) write(rows []row) error {
	if d.db == nil || !d.intact() {
		if err := d.reopen(); err != nil {
			return err
		}
	}
	if len(rows) == 0 {
		return nil
	}
	tx, err := d.db.Begin()
	if err != nil {
		return err
	}
	insert, err := tx.Prepare("INSERT INTO records (time, hour, port, client_port, event, line, kind) VALUES (?, ?, ?, ?, ?, ?, ?)")
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	for i := range rows {
		r := &rows[i]
		if r.count != 0 && !r.final {
			if err := d.put(tx, r); err != nil {
				d.forgetKnown()
				return errors.Join(err, insert.Close(), tx.Rollback())
			}
			continue
		}
		kind, err := d.kind(tx, r)
		if err == nil && r.count != 0 {
			_, err = tx.Exec("DELETE FROM running WHERE id = ?", r.count)
		}
		if err == nil {
			_, err = insert.Exec(r.time, hourOf(r.time), r.port, r.clientPort, r.event, r.line, kind)
		}
		for _, path := range r.programs {
			if err == nil {
				err = d.meet(tx, path, r.time)
			}
		}
		if err != nil {
			d.forgetKnown() // of those, some are not in the store now
			return errors.Join(err, insert.Close(), tx.Rollback())
		}
	}
	if err := errors.Join(insert.Close(), tx.Commit()); err != nil {
		d.forgetKnown()
		return err
	}
	d.took(rows)
	return nil
}

func (d *disk) forgetKnown() {
	clear(d.known)
	clear(d.kinds)
}

const (
	day = int64(24 * time.Hour)
	// maxPrograms bounds the programs that are kept: builds give each of their programs a path of its own. With
	// fewer, one that comes once a week is taken for new.
	maxPrograms = 65536
)

// meet keeps when a program was seen, once a day.
func (d *disk) meet(tx *sql.Tx, path string, at int64) error {
	if path == "" || d.known[path] >= at/day {
		return nil
	}
	if d.known == nil || len(d.known) >= maxPrograms {
		d.known = make(map[string]int64)
	}
	d.known[path] = at / day
	_, err := tx.Exec("INSERT INTO programs VALUES (?1, ?2, ?2) ON CONFLICT DO UPDATE SET first = min(first, ?2), last = max(last, ?2)", path, at)
	return err
}

// intact says whether every file is still the one that was opened.
func (d *disk) intact() bool {
	if !sameFile(d.path, d.inode) {
		return false
	}
	for suffix, inode := range d.beside {
		if !sameFile(d.path+suffix, inode) {
			return false
		}
	}
	return true
}

// reopen opens the store anew. One that was deleted begins with what it told of the sockets that hold a port, as a
// run does: for who asks, tracing began then.
func (d *disk) reopen() error {
	var holding []row
	var lacks error
	deleted := d.db != nil && !sameFile(d.path, d.inode)
	if deleted {
		holding, lacks = d.holding(time.Now())
	}
	d.close()
	d.forgetKnown()
	clear(d.stored)
	db, err := create(d.path, d.logPages)
	if err != nil {
		return err
	}
	d.db, d.inode = db, inodeAt(d.path)
	d.beside = besides(d.path)
	if !deleted {
		return nil
	}
	if lacks = errors.Join(lacks, d.write(holding)); d.say == nil {
		return nil
	}
	if lacks != nil {
		d.say("the store was deleted: it is made anew, and does not know who holds ports since before: " + lacks.Error())
	} else {
		d.say("the store was deleted: it is made anew, with the sockets that hold ports now")
	}
	return nil
}

// besides are the files that SQLite has beside the database while it is open.
func besides(path string) map[string]uint64 {
	found := map[string]uint64{}
	for _, suffix := range []string{"-wal", "-shm"} {
		if inode := inodeAt(path + suffix); inode != 0 {
			found[suffix] = inode
		}
	}
	return found
}

// holding gives a run's first records, of a database that was deleted and is still open: its start, and the sockets
// that hold a port.
func (d *disk) holding(now time.Time) ([]row, error) {
	starts, err := scan(d.db.Query("SELECT id, time, line FROM records WHERE " + notes + " AND event = 'start' ORDER BY id DESC LIMIT 1"))
	if err != nil || len(starts) == 0 {
		return nil, err
	}
	start, err := output.Parse([]byte(starts[0].Text))
	if err != nil {
		return nil, err
	}
	told, err := d.db.Query("SELECT line FROM records INDEXED BY by_socket WHERE event IN ('bind', 'listen', 'release') AND id > ? ORDER BY id", starts[0].Row)
	if err != nil {
		return nil, err
	}
	defer told.Close()
	held := map[uint64]*flow.Record{}
	var order []uint64
	for told.Next() {
		var text []byte
		if err := told.Scan(&text); err != nil {
			return nil, err
		}
		r, err := output.Parse(text)
		switch {
		case err != nil:
			return nil, err
		case r.Failed():
		case r.Event == "release":
			delete(held, r.ID)
		default: // a listen says more than its bind
			held[r.ID] = r
			order = append(order, r.ID)
		}
	}
	if err := told.Err(); err != nil {
		return nil, err
	}
	records := []*flow.Record{start}
	for _, id := range order {
		if r := held[id]; r != nil {
			r.Preexisting, r.Sock.HasRequested = true, false
			records = append(records, r)
			delete(held, id)
		}
	}
	encoder := newEncoder()
	rows := make([]row, len(records))
	for i, r := range records {
		r.Time = now
		if rows[i], err = encoder.row(r); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func (d *disk) close() {
	if d.db != nil {
		d.db.Close()
		d.db = nil
	}
}

const (
	// tidyRows bounds what is deleted at once: a batch waits for it.
	tidyRows = 5000
	// roomier is how much smaller a store gets that is too large, one part in so many: less, and each batch has it tidied.
	roomier = 20
)

// tidy forgets some of what is too old, or some of the oldest where the store is too large; its pages are used again.
// More says that there is more to forget.
func (d *disk) tidy(oldest time.Time, maxSize int64) (more bool, err error) {
	if d.db == nil {
		return false, nil
	}
	at := oldest.UnixNano()
	old, err := d.forget("SELECT id FROM records WHERE hour < ?1 LIMIT ?2", tidyRows, hourOf(at))
	var first sql.NullInt64
	if err == nil {
		err = d.db.QueryRow("SELECT time FROM records ORDER BY id LIMIT 1").Scan(&first)
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	if err == nil && old < tidyRows && first.Valid && first.Int64 < at {
		// Within the hour, among those that were written first: to look at all of it would take as long as it is large.
		var young int64
		young, err = d.forget("SELECT id FROM (SELECT id, time FROM records ORDER BY id LIMIT ?2) WHERE time < ?1", tidyRows, at)
		old = max(old, young)
	}
	if err != nil || old == tidyRows {
		return err == nil, err
	}
	if err := d.forgetPrograms(at); err != nil {
		return false, err
	}
	used, err := usedBytes(d.db)
	if err != nil || used <= maxSize {
		return false, errors.Join(err, d.shrink(maxSize))
	}
	var rows int64
	if err := d.db.QueryRow("SELECT max(id) - min(id) + 1 FROM records").Scan(&rows); err != nil {
		return false, nil // it is empty, and its pages are others'
	}
	// Records are of much the same size: as many go as the store is too large by, and not a batch where it holds no more.
	part := float64(used-maxSize+maxSize/roomier) / float64(used)
	most := min(tidyRows, int64(part*float64(rows))+1)
	// In the order of ids, which is that of writing: a clock that was stepped back does not hide the oldest.
	gone, err := d.forget("SELECT id FROM records WHERE id > ?1 ORDER BY id LIMIT ?2", most, 0)
	return gone == tidyRows, err
}

// shrink gives free pages back, where the file is larger than the store may be. A file of an earlier version keeps them.
func (d *disk) shrink(maxSize int64) error {
	var free int64
	err := d.db.QueryRow("SELECT min(freelist_count, (page_count * page_size - ?1) / page_size) FROM pragma_page_count, pragma_freelist_count, pragma_page_size", maxSize).Scan(&free)
	if err != nil || free <= 0 {
		return err
	}
	_, err = d.db.Exec(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", free))
	return err
}

// forget deletes the records that a query of ?1 finds, ?2 at most.
func (d *disk) forget(which string, most, arg int64) (int64, error) {
	done, err := d.db.Exec("DELETE FROM records WHERE id IN ("+which+")", arg, most)
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// forgetPrograms forgets those that were not seen since, and those not seen for longest where there are too many.
func (d *disk) forgetPrograms(oldest int64) error {
	done, err := d.db.Exec(`DELETE FROM programs WHERE last < ?1 OR path IN (
		SELECT path FROM programs ORDER BY last LIMIT max(0, (SELECT count(*) FROM programs) - ?2))`, oldest, maxPrograms)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n > 0 {
		clear(d.known)
		return err
	}
	return nil
}

// usedBytes is the size of the pages that hold something.
func usedBytes(db *sql.DB) (size int64, err error) {
	err = db.QueryRow("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size").Scan(&size)
	return size, err
}
