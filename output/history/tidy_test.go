// SPDX-License-Identifier: Apache-2.0

package history

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestTidySmall: a store that may be small keeps the newest that fit, and its files are not much larger than that.
func TestTidySmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	const maxSize = 1 << 20
	db, err := create(path, mostLogPages)
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{path: path, db: db, inode: inodeAt(path)}
	defer d.close()
	encoder := newEncoder()
	for id := uint64(1); id <= 20000; {
		var rows []row
		for range 2000 {
			b, err := encoder.row(bind(id, 80, noon.Add(time.Duration(id)*time.Millisecond)))
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, b)
			id++
		}
		if err := d.write(rows); err != nil {
			t.Fatal(err)
		}
		tidyAll(t, d, noon.Add(-time.Hour), maxSize)
	}
	tidyAll(t, d, noon.Add(-time.Hour), maxSize)
	used, err := usedBytes(db)
	got := found(t, path, Query{})
	if err != nil || used > maxSize || used < maxSize/2 || got[len(got)-1] != "bind 20000" {
		t.Errorf("%d bytes used of %d, %d records, %v", used, maxSize, len(got), err)
	}
	if _, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > maxSize+maxSize/4 {
		t.Errorf("the file has %d bytes, and may have %d; %v", info.Size(), maxSize, err)
	}
}

// TestTidyYoung: an age of less than an hour is kept, too.
func TestTidyYoung(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	w := writer(t, Config{Path: path, MaxAge: 2 * time.Second})
	write(t, w, bind(1, 80, time.Now()))
	await(t, "the record", func() bool { return len(found(t, path, Query{})) == 1 })
	await(t, "its end", func() bool { return len(found(t, path, Query{})) == 0 })
	write(t, w, bind(2, 80, time.Now()))
	await(t, "the next", func() bool { return len(found(t, path, Query{})) == 1 })
}
