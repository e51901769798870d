// SPDX-License-Identifier: Apache-2.0

package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// The table running has the counts of the interval under way. When that is over, each becomes a record.

// settle makes records of what a writer that was killed left behind. Nobody counts on.
func settle(db *sql.DB) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO records (time, hour, port, event, line, kind) SELECT time, time / ?1, port, 'summary', line, ?2 FROM running ORDER BY time;
		DELETE FROM running`, hour, isCount)
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// put writes a count as it is so far.
func (d *disk) put(tx *sql.Tx, r *row) error {
	_, err := tx.Exec("INSERT INTO running VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET time = ?2, line = ?4", r.count, r.time, r.port, r.line)
	return err
}

// took keeps in mind how many of each count are in the store.
func (d *disk) took(rows []row) {
	for i := range rows {
		switch r := &rows[i]; {
		case r.count == 0:
		case r.final:
			delete(d.stored, r.count)
		default:
			if d.stored == nil {
				d.stored = map[int64]uint64{}
			}
			d.stored[r.count] = r.counts
		}
	}
}

// weight is what is lost with a row.
func (d *disk) weight(r *row) uint64 { return r.weight(d.stored[r.count]) }

// running gives the counts of a query that are under way; those of a writer that was killed are, too.
func running(ctx context.Context, tx *sql.Tx, port uint16) ([]Line, error) {
	return scan(tx.QueryContext(ctx, "SELECT -id, time, line FROM running WHERE ?1 = 0 OR port = ?1 ORDER BY time", port))
}

// Mark says how far the records go: the number of the last, 0 where there is none, and the counts under way at
// that time, which become records later. Port 0: of all.
func (r *Reader) Mark(ctx context.Context, port uint16) (last int64, underWay []Line, err error) {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("read store: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	var max sql.NullInt64
	if err := tx.QueryRowContext(ctx, "SELECT max(id) FROM records").Scan(&max); err != nil {
		return 0, nil, fmt.Errorf("read store: %w", err)
	}
	underWay, err = running(ctx, tx, port)
	return max.Int64, underWay, err
}
