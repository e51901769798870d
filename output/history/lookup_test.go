// SPDX-License-Identifier: Apache-2.0

package history

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer/flow"
)

// TestPast: an answer looks at the newest of a busy port, and at its sockets however long ago; about a moment in the
// past, at what was before, and some of what came after.
func TestPast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	w := writer(t, Config{Path: path})
	list := []*flow.Record{bind(1, 80, noon.Add(-300*time.Hour)), bind(2, 81, noon.Add(-3*time.Hour)), connect(3, 80, 443, noon.Add(-2*time.Hour))}
	const talks = maxTalks + 10
	for i := range uint64(talks) {
		c := connect(100+i, 40000, 80, noon.Add(time.Duration(i)*time.Second))
		c.Conn.Client.Process.P.Comm = fmt.Sprint("curl", i/foldOver) // each comes seldom enough to be kept
		list = append(list, c)
	}
	write(t, w, list...)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	counts := func(p *Past) (list []string) {
		t.Helper()
		var read []*flow.Record
		for _, l := range p.Lines {
			rec, err := output.Parse([]byte(l.Text))
			if err != nil {
				t.Fatal(err)
			}
			read = append(read, rec)
		}
		for _, c := range p.Told(read) {
			s := c.Summary
			if s == nil {
				continue
			}
			list = append(list, fmt.Sprintf("%s to %s:%d %d times from %s to %s", s.Client.Comm, s.Address, c.Port, s.Count, s.First.UTC().Format("04:05"), s.Last.UTC().Format("04:05")))
		}
		slices.Sort(list)
		return list
	}
	var about Past
	var from time.Time
	ask := func(port uint16, at time.Time) ([]string, time.Time) {
		t.Helper()
		var err error
		about, err = r.Past(t.Context(), port, at, from)
		return named(t)(about.Lines, err), about.Since
	}
	got, since := ask(80, time.Time{})
	if len(got) != maxTalks+2 || !since.IsZero() || about.Partial {
		t.Errorf("%d records since %v, partial %v; want %d and the others counted", len(got), since, about.Partial, maxTalks+2)
	}
	expect(t, "the others", counts(&about), "curl0 to ::1:80 10 times from 00:00 to 00:09")
	expect(t, "the oldest", got[:3], "bind 1", "connect 3", "connect 110")
	got, since = ask(80, noon.Add(4*time.Second))
	if len(got) != 2+5+maxAfter || !since.IsZero() {
		t.Errorf("about a moment: %d records since %v, want %d", len(got), since, 2+5+maxAfter)
	}
	expect(t, "the last after it", got[len(got)-1:], fmt.Sprint("connect ", 100+4+maxAfter))
	expect(t, "the others after it", counts(&about), "curl0 to ::1:80 695 times from 05:05 to 16:39", "curl1 to ::1:80 510 times from 16:40 to 25:09")
	got, _ = ask(80, noon.Add(-299*time.Hour))
	expect(t, "before all but the first", got[:3], "bind 1", "connect 3", "connect 100")
	got, since = ask(81, time.Time{})
	expect(t, "a port with one record", got, "bind 2")
	if !since.IsZero() {
		t.Errorf("all of it was looked at, and not since %v", since)
	}
	got, _ = ask(9, time.Time{})
	expect(t, "a port without any", got)
	from = noon.Add(7 * time.Second)
	ask(80, time.Time{})
	expect(t, "the others since then", counts(&about), "curl0 to ::1:80 3 times from 00:07 to 00:09")
	from = noon.Add(20 * time.Second)
	ask(80, time.Time{})
	if expect(t, "all since then are read", counts(&about)); about.Partial {
		t.Error("not all since then was counted")
	}
	from = time.Time{}
	// What an earlier version wrote is not counted.
	db, err := open(path, "rw")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("UPDATE records SET kind = NULL WHERE time < ?", noon.Add(2*time.Second).UnixNano()); err != nil {
		t.Fatal(err)
	}
	ask(80, time.Time{})
	if !about.Partial {
		t.Error("all was counted")
	}
	expect(t, "of those that can be counted", counts(&about), "curl0 to ::1:80 8 times from 00:02 to 00:09")
}

// TestPastCountsOnce: a connection that is read without its connect, and a count beyond what is read, are told once.
func TestPastCountsOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	w := writer(t, Config{Path: path})
	w.fold.over = 2 * maxTalks
	long := connect(1, 40000, 80, noon)
	var list []*flow.Record
	list = append(list, long, connect(2, 40001, 80, noon), &flow.Record{
		Event: "summary", Time: noon, Proto: flow.TCP, Port: 80, HasPort: true,
		Summary: &flow.SummaryRecord{Client: flow.Program{Comm: "curl"}, Count: 50, First: noon, Last: noon},
	})
	for i := range uint64(maxTalks) {
		list = append(list, connect(100+i, 40000, 80, noon.Add(time.Second+time.Duration(i))))
	}
	late := closed(long, 3)
	late.Time = noon.Add(time.Minute)
	for _, r := range append(list, late) {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := r.Past(t.Context(), 80, time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var read []*flow.Record
	for _, l := range p.Lines {
		rec, err := output.Parse([]byte(l.Text))
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, rec)
	}
	counted, ids := uint64(0), map[uint64]bool{}
	for _, r := range p.Told(read) {
		if r.Summary != nil {
			counted += r.Summary.Count
		} else {
			ids[r.ID] = true
		}
	}
	if got, want := uint64(len(ids))+counted, uint64(2+50+maxTalks); got != want || ids[long.ID] || p.Partial {
		t.Errorf("%d connections (%d read, the long one %v), want %d; partial %v", got, len(ids), ids[long.ID], want, p.Partial)
	}
}

// TestCovered: what finds records reads none: a table of ten million is not looked through.
func TestCovered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	if err := writer(t, Config{Path: path}).Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for name, text := range map[string]string{
		"keys of an hour":       "SELECT time, id" + everything.in("?1") + " AND time BETWEEN ?3 AND ?4",
		"sockets of an hour":    "SELECT time, id" + everySocket.in("?1") + " AND time BETWEEN ?3 AND ?4",
		"as a server":           "SELECT time, id" + asServer.in("?1") + " AND time BETWEEN ?3 AND ?4 ORDER BY time DESC, id DESC LIMIT ?5",
		"as a client":           "SELECT time, id" + asClient.in("?1") + " AND time BETWEEN ?3 AND ?4 ORDER BY time DESC, id DESC LIMIT ?5",
		"as a socket":           "SELECT time, id" + asSocket.in("?1") + " AND time BETWEEN ?3 AND ?4 ORDER BY time DESC, id DESC LIMIT ?5",
		"what was counted":      "SELECT id FROM records WHERE " + notes + " AND event = ?",
		"the first of the hour": "SELECT min(time) FROM records WHERE hour = (SELECT min(hour) FROM records)",
	} {
		rows, err := r.db.Query("EXPLAIN QUERY PLAN "+text, 1, 2, 3, 4, 5)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			few := strings.HasSuffix(detail, "LAST TERM OF ORDER BY") || strings.HasPrefix(detail, "SCALAR SUBQUERY")
			if !few && !strings.Contains(detail, "COVERING INDEX") {
				t.Errorf("%s: %s", name, detail)
			}
		}
		rows.Close()
	}
}

// TestPrograms: the store keeps when it first saw a program, for as long as it is seen now and then.
func TestPrograms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	old := noon.Add(-100 * 24 * time.Hour)
	w := writer(t, Config{Path: path, MaxAge: time.Since(noon) + 1000*24*time.Hour}) // it is tidied below
	for i, at := range []time.Time{old, old.Add(time.Hour), noon} {
		r := bind(uint64(i), 80, at)
		r.Sock.Process.P = &flow.Process{ProcessID: flow.ProcessID{PID: 5}, ExePath: "/usr/sbin/nginx"}
		write(t, w, r)
	}
	gone := bind(4, 81, old)
	gone.Sock.Process.P = &flow.Process{ProcessID: flow.ProcessID{PID: 6}, ExePath: "/usr/bin/gone"}
	dial := connect(5, 40000, 80, noon.Add(time.Minute))
	dial.Conn.Client.Process.P.ExePath = "/usr/bin/curl"
	dial.Conn.Server.Process.P = &flow.Process{ProcessID: flow.ProcessID{PID: 5}, ExePath: "/usr/sbin/nginx"}
	write(t, w, gone, dial)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := open(path, "rw")
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{path: path, db: db, inode: inodeAt(path)}
	defer d.close()
	tidyAll(t, d, noon.Add(-24*time.Hour), 1<<30)
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	expect(t, "programs", programs(t, r, "/usr/sbin/nginx", "/usr/bin/curl", "/usr/bin/gone", "/usr/bin/never"), "/usr/bin/curl 12:01", "/usr/sbin/nginx 12:00")
	if seen, err := r.FirstSeen(t.Context(), []string{"/usr/sbin/nginx"}); err != nil || !seen["/usr/sbin/nginx"].Equal(old) {
		t.Errorf("nginx was first seen at %v, want %v", seen["/usr/sbin/nginx"], old)
	}
	for l, err := range r.Lines(t.Context(), Query{}) {
		if rec, parseErr := output.Parse([]byte(l.Text)); err != nil || parseErr != nil || rec.Time.Before(noon) {
			t.Errorf("left: %s, %v", l.Text, err)
		}
	}
}
