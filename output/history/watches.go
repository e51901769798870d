// SPDX-License-Identifier: Apache-2.0

package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/tracer/flow"
)

// Watches says when a looptrace record wrote to the store, the first first. One ends with the last that was written
// before the next began: a record that was killed wrote no stop.
func (r *Reader) Watches(ctx context.Context) (list []flow.Watch, err error) {
	const lastBefore = "(SELECT time FROM records p WHERE p.id < s.id ORDER BY p.id DESC LIMIT 1)"
	rows, err := r.db.QueryContext(ctx, "SELECT time, "+lastBefore+" FROM records s WHERE "+notes+" AND event = 'start' ORDER BY id")
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var began int64
		var last sql.NullInt64
		if err := rows.Scan(&began, &last); err != nil {
			return nil, fmt.Errorf("read store: %w", err)
		}
		if last.Valid {
			if len(list) == 0 { // its start is forgotten
				list = append(list, flow.Watch{})
			}
			list[len(list)-1].Until = time.Unix(0, last.Int64)
		}
		list = append(list, flow.Watch{From: time.Unix(0, began)})
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	var last sql.NullInt64
	switch err := r.db.QueryRowContext(ctx, "SELECT time FROM records ORDER BY id DESC LIMIT 1").Scan(&last); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil // it is empty: nobody is known to have watched
	case err != nil:
		return nil, fmt.Errorf("read store: %w", err)
	}
	if len(list) == 0 {
		list = append(list, flow.Watch{})
	}
	end := &list[len(list)-1]
	end.Until, end.Goes = time.Unix(0, last.Int64), locked(r.path)
	return list, nil
}

// locked says whether a record has the store, by the kernel's list of locks (proc(5)): to try the lock would keep out
// a record that starts in that moment. It is false where that list does not tell.
func locked(path string) bool {
	info, err := os.Stat(path + ".lock")
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	list, err := os.ReadFile("/proc/locks")
	if err != nil {
		return false
	}
	// "1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234 0 EOF". Some file systems have another device here than stat(2) gives.
	const kind, pid, file, fields = 1, 4, 5, 6
	device := fmt.Sprintf("%02x:%02x", unix.Major(st.Dev), unix.Minor(st.Dev))
	holder, _ := os.ReadFile(path + ".lock")
	for line := range strings.Lines(string(list)) {
		field := strings.Fields(line)
		if len(field) < fields || field[kind] != "FLOCK" {
			continue
		}
		on, isIt := strings.CutSuffix(field[file], fmt.Sprintf(":%d", st.Ino))
		if isIt && (on == device || field[pid] == strings.TrimSpace(string(holder))) {
			return true
		}
	}
	return false
}
