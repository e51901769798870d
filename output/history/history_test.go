// SPDX-License-Identifier: Apache-2.0

package history

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer/flow"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// TestMain is also the process that TestKill kills.
func TestMain(m *testing.M) {
	if path := os.Getenv("HISTORY_TEST_STORE"); path != "" {
		writeForEver(path)
	}
	if path := os.Getenv("HISTORY_TEST_READ"); path != "" {
		r, err := Read(path)
		if err == nil {
			_, err = r.Status(context.Background())
		}
		fmt.Println(err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// burst is how many records TestKill's writer writes at once, up to a thousand times a second: a few, and there is no load.
const burst = 20

// writeForEver writes records and says a second later which of them is acknowledged.
func writeForEver(path string) {
	w, err := Open(Config{Path: path})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for n := uint64(1); ; n++ {
		if err := w.Write(bind(n, 80, time.Now())); err != nil {
			os.Exit(1)
		}
		if n%burst != 0 {
			continue
		}
		if err := w.Flush(); err != nil {
			os.Exit(1)
		}
		time.AfterFunc(time.Second, func() { fmt.Println(n) })
		time.Sleep(time.Millisecond)
	}
}

func bind(id uint64, port uint16, at time.Time) *flow.Record {
	return &flow.Record{
		Event: "bind", Time: at, ID: id, Proto: flow.TCP, Port: port, HasPort: true,
		Sock: &flow.SockRecord{Address: netip.IPv6Loopback(), Held: -1},
	}
}

func connect(id uint64, client, server uint16, at time.Time) *flow.Record {
	end := func(port uint16) flow.End { return flow.End{Address: netip.IPv6Loopback(), Port: port, HasPort: true} }
	r := &flow.Record{
		Event: "connect", Time: at, ID: id, Proto: flow.TCP, Port: server, HasPort: true,
		Conn: &flow.ConnRecord{Client: end(client), Server: end(server), Duration: 0},
	}
	r.Conn.Client.Process.P = &flow.Process{ProcessID: flow.ProcessID{PID: 7}, Comm: "curl"}
	return r
}

func closed(r *flow.Record, bytes uint64) *flow.Record {
	c := *r
	conn := *r.Conn
	c.Event, c.Conn = "close", &conn
	conn.HasBytes, conn.C2S, conn.Accepted = true, bytes, true
	return &c
}

func writer(t *testing.T, cfg Config) *Writer {
	t.Helper()
	w, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func write(t *testing.T, w *Writer, records ...*flow.Record) {
	t.Helper()
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

// found gives "event id" of what a query finds.
func found(t *testing.T, path string, q Query) []string {
	t.Helper()
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var lines []Line
	for l, err := range r.Lines(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return named(t)(lines, nil)
}

// named gives "event id" of lines.
func named(t *testing.T) func([]Line, error) []string {
	return func(lines []Line, err error) (list []string) {
		t.Helper()
		for _, l := range lines {
			rec, parseErr := output.Parse([]byte(l.Text))
			if err = errors.Join(err, parseErr); err != nil {
				break
			}
			if !rec.Time.Equal(l.Time) {
				t.Errorf("row %d: its time is %v, its record's %v", l.Row, l.Time, rec.Time)
			}
			list = append(list, fmt.Sprint(rec.Event, " ", rec.ID))
		}
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
}

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestQueries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "history.db")
	w := writer(t, Config{Path: path})
	write(t, w,
		bind(1, 80, noon), connect(2, 40000, 80, noon.Add(time.Minute)), bind(3, 40000, noon.Add(5*time.Hour)),
		connect(4, 40000, 443, noon.Add(6*time.Hour)), connect(5, 80, 80, noon.Add(7*time.Hour)),
		bind(6, 81, noon.Add(-time.Hour))) // the clock was stepped back
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, "all", found(t, path, Query{}), "bind 6", "bind 1", "connect 2", "bind 3", "connect 4", "connect 5")
	expect(t, "either end", found(t, path, Query{Port: 40000}), "connect 2", "bind 3", "connect 4")
	expect(t, "both ends are one record", found(t, path, Query{Port: 80}), "bind 1", "connect 2", "connect 5")
	expect(t, "a span", found(t, path, Query{Port: 40000, From: noon.Add(time.Minute), To: noon.Add(5 * time.Hour)}), "connect 2", "bind 3")
	expect(t, "a span of all", found(t, path, Query{From: noon.Add(time.Second), To: noon.Add(5 * time.Hour)}), "connect 2", "bind 3")
	expect(t, "sockets", found(t, path, Query{Sockets: true}), "bind 6", "bind 1", "bind 3")
	expect(t, "sockets of a port", found(t, path, Query{Port: 40000, Sockets: true}), "bind 3")
	expect(t, "nothing", found(t, path, Query{Port: 9}))
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if last, _, err := r.Mark(t.Context(), 0); last != 6 || err != nil {
		t.Errorf("the last is %d, %v", last, err)
	}
	expect(t, "news", named(t)(r.News(t.Context(), 4)), "connect 5", "bind 6")
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fileMode {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if dir, err := os.Stat(filepath.Dir(path)); err != nil || dir.Mode().Perm() != dirMode {
		t.Errorf("directory's mode %v, error %v", dir.Mode(), err)
	}
}

func TestOneWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	w := writer(t, Config{Path: path})
	_, err := Open(Config{Path: path})
	var busy *BusyError
	if !errors.As(err, &busy) || busy.PID != os.Getpid() {
		t.Fatalf("a second writer: %v, want a BusyError of %d", err, os.Getpid())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	writer(t, Config{Path: path})
}

// TestFold: beyond the rate connections are counted, and the counts are exact.
func TestFold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	w := writer(t, Config{Path: path})
	const all = foldOver + 500
	for id := uint64(1); id <= all; id++ {
		c := connect(id, uint16(id), 80, noon)
		write(t, w, c, closed(c, 3))
	}
	refused := connect(all+1, 9, 80, noon)
	refused.Errno = int32(unix.ECONNREFUSED)
	write(t, w, refused)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	counts := map[string]int{}
	var folded, bytes uint64
	for l, err := range r.Lines(t.Context(), Query{Port: 80}) {
		if err != nil {
			t.Fatal(err)
		}
		rec, err := output.Parse([]byte(l.Text))
		if err != nil {
			t.Fatal(err)
		}
		counts[rec.Event]++
		if rec.Summary != nil {
			folded, bytes = folded+rec.Summary.Count, bytes+rec.Summary.C2S
		}
	}
	if counts["connect"] != foldOver+1 || counts["close"] != foldOver || counts["summary"] != 1 || folded != 500 || bytes != 1500 {
		t.Errorf("%v, %d folded with %d bytes", counts, folded, bytes)
	}
	s, err := r.Status(t.Context())
	if err != nil || s.Folded != 500 || s.Rows != 2*foldOver+2 || s.Lost != 0 {
		t.Errorf("status %+v, %v", s, err)
	}
}

// TestFoldAlike: what a filter may ask for is the same for all that is counted together, or is not said.
func TestFoldAlike(t *testing.T) {
	var f fold
	f.init()
	f.over = 0
	dial := func(id uint64, pid, uid uint32, netns uint32, addr string) {
		c := connect(id, uint16(id), 80, noon.Add(time.Duration(id)*time.Second))
		c.Netns, c.Conn.Server.Address, c.Conn.HasEphemeral, c.Conn.Ephemeral = netns, netip.MustParseAddr(addr), true, true
		c.Conn.Client.Process.P.ProcessID = flow.ProcessID{PID: pid, UID: uid}
		if !f.takes(c) || !f.takes(closed(c, 1)) {
			t.Error("kept")
		}
	}
	for id := range uint64(3) {
		dial(10+id, 7, 0, 1, "127.0.0.1")
		dial(20+id, 7+uint32(id), 0, 1, "::1")
		dial(30+id, 7, 5, 1, "127.0.0.1")
		dial(40+id, 7, 0, 2, "127.0.0.1")
	}
	tell := func() (list []string) {
		for _, n := range f.all() {
			r := n.told()
			s, pid := r.Summary, uint32(0)
			if s.Client.P != nil {
				pid = s.Client.P.PID
			}
			if !r.Time.Equal(s.Last) || s.HasEphemeral != s.Address.IsValid() {
				t.Errorf("time %v, last %v, ephemeral %v", r.Time, s.Last, s.HasEphemeral)
			}
			list = append(list, fmt.Sprintf("%s netns %d user %v %d pid %d: %d, %d bytes, %s to %s", s.Address, r.Netns, s.Client.HasUser, s.Client.UID, pid,
				s.Count, s.C2S, s.First.Format("05"), s.Last.Format("05")))
		}
		slices.Sort(list)
		return list
	}
	expect(t, "alike", tell(), "127.0.0.1 netns 1 user true 0 pid 7: 3, 3 bytes, 10 to 12", "127.0.0.1 netns 1 user true 5 pid 7: 3, 3 bytes, 30 to 32",
		"127.0.0.1 netns 2 user true 0 pid 7: 3, 3 bytes, 40 to 42", "::1 netns 1 user true 0 pid 0: 3, 3 bytes, 20 to 22")
	for id := range uint32(maxAlike + 500) {
		dial(uint64(id), 7, 0, id+1, "127.0.0.1")
	}
	list := tell()
	if len(list) != maxAlike+1 || !strings.HasPrefix(list[len(list)-1], "invalid IP netns 0 user false 0 pid 7: 500, 500 bytes") {
		t.Errorf("%d counts, the last %s", len(list), list[len(list)-1])
	}
}

// TestFoldSpan: a count is of a span where a part of its interval is, however much later it was written.
func TestFoldSpan(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	w := writer(t, Config{Path: path})
	w.fold.over = 0
	for i := range 5 {
		if err := w.Write(connect(uint64(i+1), 9, 80, noon.Add(time.Duration(i)*time.Second))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		from, to int // seconds; -1: no bound
		want     int
	}{
		"all of it":      {0, 4, 1},
		"its beginning":  {-1, 1, 1},
		"its middle":     {2, 3, 1},
		"its end":        {4, -1, 1},
		"before":         {-1, -2, 0},
		"after":          {5, -1, 0},
		"all of the day": {-1, -1, 1},
	} {
		at := func(s int) time.Time {
			if s == -1 {
				return time.Time{}
			}
			return noon.Add(time.Duration(s) * time.Second)
		}
		for _, port := range []uint16{0, 80} {
			if got := found(t, path, Query{Port: port, From: at(tc.from), To: at(tc.to)}); len(got) != tc.want {
				t.Errorf("%s, port %d: %q, want %d", name, port, got, tc.want)
			}
		}
	}
	if got := found(t, path, Query{Port: 81, To: noon}); len(got) != 0 {
		t.Errorf("another port: %q", got)
	}
}

// TestFoldUnderWay: what was counted is in the store before its interval is over, once, and a writer that was killed leaves it.
func TestFoldUnderWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	w := writer(t, Config{Path: path})
	w.fold.seen[rateKey{client: "curl", port: 80, proto: flow.TCP}] = foldOver
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stands := func() string {
		s, err := r.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		counted := uint64(0)
		_, underWay, err := r.Mark(t.Context(), 80)
		for _, l := range underWay {
			rec, parseErr := output.Parse([]byte(l.Text))
			if err := errors.Join(err, parseErr); err != nil {
				t.Fatal(err)
			}
			counted += rec.Summary.Count
		}
		return fmt.Sprintf("%d rows, %d folded, %d of them under way, %d lost", s.Rows, s.Folded, counted, s.Lost)
	}
	write(t, w, connect(1, 9, 80, noon), connect(2, 9, 80, noon.Add(time.Second)))
	await(t, "the count", func() bool { return stands() == "0 rows, 2 folded, 2 of them under way, 0 lost" })
	time.Sleep(tellEvery)
	write(t, w, connect(3, 9, 80, noon.Add(2*time.Second)))
	await(t, "the third", func() bool { return stands() == "0 rows, 3 folded, 3 of them under way, 0 lost" })

	killed := filepath.Join(t.TempDir(), "killed.db") // as kill -9 leaves it
	for _, suffix := range []string{"", "-wal"} {
		text, err := os.ReadFile(path + suffix)
		if err := errors.Join(err, os.WriteFile(killed+suffix, text, fileMode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := stands(); got != "1 rows, 3 folded, 0 of them under way, 0 lost" {
		t.Errorf("after the interval: %s", got)
	}
	if err := writer(t, Config{Path: killed, MaxAge: time.Since(noon) + time.Hour}).Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, "after the kill", found(t, killed, Query{Port: 80}), "summary 0")
	again, err := Read(killed)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if s, err := again.Status(t.Context()); err != nil || s.Folded != 3 {
		t.Errorf("after the kill: %+v, %v", s, err)
	}
}

// TestFoldLost: a count that cannot be written is lost with all that it counts, but for what was written before.
func TestFoldLost(t *testing.T) {
	d := &disk{}
	d.took([]row{{count: 1, counts: 40}, {count: 2, counts: 7}, {count: 2, counts: 9, final: true}})
	for name, tc := range map[string]struct {
		row  row
		want uint64
	}{
		"a record":                 {row{}, 1},
		"a count under way":        {row{count: 1, counts: 50}, 0},
		"a count that was told":    {row{count: 1, counts: 50, final: true}, 10},
		"a count that was not":     {row{count: 3, counts: 50, final: true}, 50},
		"a count that was written": {row{count: 2, counts: 9, final: true}, 9},
		"bytes alone":              {row{count: 4, final: true}, 1},
	} {
		if got := d.weight(&tc.row); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// TestPressed: while the disk does not keep up, more is counted together, and nothing is lost.
func TestPressed(t *testing.T) {
	w := &Writer{encoder: newEncoder()} // which nobody empties
	w.fold.init()
	const all = 300_000 // thrice what the queue has room for
	for id := uint64(1); id <= all; id++ {
		c := connect(id, uint16(id), uint16(id%500), noon)
		write(t, w, c, closed(c, 1))
	}
	folded := uint64(0)
	for _, n := range w.fold.all() {
		folded += n.record.Summary.Count
	}
	kept := uint64(0)
	for _, b := range w.queued {
		switch {
		case b.count == 0:
			kept++
		case b.final: // its interval was over meanwhile
			folded += b.counts
		}
	}
	if w.Lost() != 0 || folded == 0 || 2*folded+kept != 2*all {
		t.Errorf("%d kept, %d folded and %d lost of %d", kept, folded, w.Lost(), all)
	}
}

// TestTidy: what is too old goes, and the oldest where it is too large; the newest stays.
func TestTidy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	w := writer(t, Config{Path: path})
	write(t, w, bind(1, 80, noon.Add(-48*time.Hour)))
	for id := uint64(2); id < 30000; id++ {
		write(t, w, bind(id, 80, noon))
	}
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
	if got := found(t, path, Query{}); len(got) != 29998 || got[0] != "bind 2" {
		t.Errorf("by age: %d left, the first is %s", len(got), got[0])
	}
	before, err := usedBytes(db)
	if err != nil {
		t.Fatal(err)
	}
	tidyAll(t, d, noon.Add(-24*time.Hour), before/2)
	got := found(t, path, Query{})
	if after, _ := usedBytes(db); after > before/2 || len(got) == 0 || got[len(got)-1] != "bind 29999" {
		t.Errorf("by size: %d of %d bytes left, %d records", after, before, len(got))
	}
}

// tidyAll tidies until there is no more to forget.
func tidyAll(t *testing.T, d *disk, oldest time.Time, maxSize int64) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = d.tidy(oldest, maxSize); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFull: a full disk costs records, which are counted, and nothing more.
func TestFull(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, 0) })
	var mu sync.Mutex
	var said []string
	path := filepath.Join(dir, "history.db")
	w, err := Open(Config{Path: path, Say: func(text string) { mu.Lock(); said = append(said, text); mu.Unlock() }})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk takes a MiB more")
	}
	write(t, w, bind(1, 80, noon))
	await(t, "the loss", func() bool { return w.Lost() == 1 })
	if n, since := w.TakeLost(); n != 1 || time.Since(since) > time.Minute {
		t.Errorf("lost %d since %v", n, since)
	}
	// Nothing more is lost by saying so, however long the disk is full.
	for range 3 {
		write(t, w, &flow.Record{Event: "lost", Time: noon, Lost: &flow.LostRecord{Count: 1, Where: Place, Since: noon}})
		time.Sleep(commitEvery)
	}
	if w.Lost() != 1 {
		t.Errorf("%d lost, want 1", w.Lost())
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	write(t, w, bind(2, 80, noon))
	await(t, "the record", func() bool { return len(found(t, path, Query{})) == 2 })
	expect(t, "afterwards", found(t, path, Query{}), "bind 2", "lost 0")
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if s, err := r.Status(t.Context()); err != nil || s.Lost != 1 {
		t.Errorf("status %+v, %v; want one lost", s, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(said) != 2 || !strings.Contains(said[0], "full") || !strings.Contains(said[1], "again") {
		t.Errorf("it said %q", said)
	}
}

// TestDeleted: a store that is deleted under its writer is made anew.
func TestDeleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	w := writer(t, Config{Path: path})
	write(t, w, bind(1, 80, noon))
	await(t, "the first record", func() bool { return len(found(t, path, Query{})) == 1 })
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("read: %v", err)
	}
	write(t, w, bind(2, 80, noon))
	await(t, "the new store", func() bool { _, err := Read(path); return err == nil })
	await(t, "the second record", func() bool { return len(found(t, path, Query{})) == 1 })
	expect(t, "the new store", found(t, path, Query{}), "bind 2")
}

// TestDeletedTells: a store that is made anew begins as a run does, with who holds ports, and says so.
func TestDeletedTells(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	said := make(chan string, 10)
	w := writer(t, Config{Path: path, Say: func(text string) { said <- text }})
	start := &flow.Record{Event: "start", Time: noon, Start: &flow.StartRecord{Hooks: "fentry", Kernel: "6.12", Version: "1", Host: "box", BootID: "3f2c1b0a-9d8e-4c7b-a6f5-0123456789ab", PID: 1}}
	listen, refused := bind(1, 80, noon), bind(4, 80, noon)
	listen.Event, refused.Errno = "listen", int32(unix.EADDRINUSE)
	release := bind(2, 81, noon)
	release.Event, release.Sock.Held = "release", time.Second
	write(t, w, start, bind(1, 80, noon), listen, bind(2, 81, noon), release, bind(3, 82, noon), refused)
	await(t, "the records", func() bool { return len(found(t, path, Query{})) == 7 })
	began := time.Now()
	removeAll(t, path)
	await(t, "the new store", func() bool { _, err := Read(path); return err == nil && len(found(t, path, Query{})) == 3 })
	expect(t, "the new store", found(t, path, Query{}), "start 0", "listen 1", "bind 3")
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for l, err := range r.Lines(t.Context(), Query{}) {
		if err != nil || l.Time.Before(began) || strings.Contains(l.Text, `"preexisting":true`) == strings.Contains(l.Text, `"event":"start"`) {
			t.Errorf("%s, %v", l.Text, err)
		}
	}
	if text := <-said; !strings.Contains(text, "deleted") {
		t.Errorf("it said %q", text)
	}
}

// TestDeletedLock: a second writer is refused also after the files were deleted, and one that came first stays the only one.
func TestDeletedLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	w := writer(t, Config{Path: path})
	removeAll(t, path)
	await(t, "the lock", func() bool { _, err := os.Stat(path + lockSuffix); return err == nil && inodeAt(path) != 0 })
	var busy *BusyError
	if _, err := Open(Config{Path: path}); !errors.As(err, &busy) || busy.PID != os.Getpid() {
		t.Errorf("a second writer: %v, want a BusyError of %d", err, os.Getpid())
	}
	var other *os.File
	await(t, "the other's lock", func() (done bool) { // before the writer looks again
		_ = os.Remove(path + lockSuffix)
		var err error
		other, err = lock(path)
		return err == nil
	})
	defer other.Close()
	await(t, "the end", func() bool { return errors.As(w.Flush(), &busy) })
}

// TestDeletedLog: a log that is deleted without its database costs no record, and readers find those after it.
func TestDeletedLog(t *testing.T) {
	for _, suffix := range []string{"-wal", "-shm"} {
		path := filepath.Join(t.TempDir(), "history.db")
		w := writer(t, Config{Path: path})
		write(t, w, bind(1, 80, noon))
		await(t, "the first record", func() bool { return len(found(t, path, Query{})) == 1 })
		if err := os.Remove(path + suffix); err != nil {
			t.Fatal(err)
		}
		await(t, "the log", func() bool { return inodeAt(path+suffix) != 0 })
		write(t, w, bind(2, 80, noon))
		await(t, "the second record", func() bool { return len(found(t, path, Query{})) == 2 })
		expect(t, "without "+suffix, found(t, path, Query{}), "bind 1", "bind 2")
	}
}

func removeAll(t *testing.T, path string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm", lockSuffix} {
		if err := os.Remove(path + suffix); err != nil {
			t.Fatal(err)
		}
	}
}

// killRounds is how often TestKill kills: make test-kill does it 50 times.
var killRounds = flag.Int("kills", 5, "how often TestKill kills a writer")

// TestKill: what was acknowledged survives kill -9, and the database is sound.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	total := uint64(0)
	for round := range *killRounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "HISTORY_TEST_STORE="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acknowledged := uint64(0)
		var once sync.Once
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, err := fmt.Sscan(lines.Text(), &acknowledged); err != nil {
				t.Fatalf("the writer: %s", lines.Text())
			}
			// At any point of the writer's beat, in the end: while it waits, writes, commits, or clears its log.
			once.Do(func() {
				time.AfterFunc(200*time.Millisecond+time.Duration(round%27)*37*time.Millisecond, func() { _ = cmd.Process.Kill() })
			})
		}
		_ = cmd.Wait() // killed
		if acknowledged == 0 {
			t.Fatal("nothing was acknowledged")
		}
		db, err := open(path, "rw")
		if err != nil {
			t.Fatal(err)
		}
		var sound string
		var kept uint64
		if err := errors.Join(db.QueryRow("PRAGMA integrity_check").Scan(&sound), db.QueryRow("SELECT count(*) FROM records").Scan(&kept)); err != nil {
			t.Fatal(err)
		}
		if sound != "ok" || kept < acknowledged {
			t.Errorf("round %d: integrity %s, %d kept of %d acknowledged", round, sound, kept, acknowledged)
		}
		if _, err := db.Exec("DELETE FROM records"); err != nil {
			t.Fatal(err)
		}
		db.Close()
		total += acknowledged
	}
	t.Logf("%d rounds, %d records acknowledged and kept", *killRounds, total)
}

// TestReadsWithoutRoot: who may read the file, and write nothing, reads it: also when nobody writes any more.
func TestReadsWithoutRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", "history")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const nobody = 65534
	program := filepath.Join(dir, "reader")
	text, err := os.ReadFile(os.Args[0])
	if err := errors.Join(err, os.WriteFile(program, text, 0o755), os.Chown(dir, -1, nobody), os.Chmod(dir, dirMode)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "history.db")
	w := writer(t, Config{Path: path})
	write(t, w, bind(1, 80, noon))
	await(t, "the record", func() bool { return len(found(t, path, Query{})) == 1 })
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files { // as makeFile gives them to the group, where there is one
		if err := os.Chown(f, -1, nobody); err != nil {
			t.Fatal(err)
		}
	}
	reads := func(when string) {
		cmd := exec.Command(program)
		cmd.Env = []string{"HISTORY_TEST_READ=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "<nil>\n" {
			t.Errorf("%s: %s, %v", when, out, err)
		}
	}
	reads("while it is written")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	reads("afterwards")
}

// TestMigrates: what earlier versions wrote is read after a writer of this one has had it, by every way to find it.
func TestMigrates(t *testing.T) {
	for version, want := range map[int]struct {
		lines, runs, known []string
	}{
		1: {lines: []string{"start 0", "bind 1", "connect 2", "stop 0", "bind 3"}, runs: []string{"start 0", "stop 0"}},
		2: {
			lines: []string{"start 0", "bind 1", "connect 2", "close 2", "lost 0", "bind 3"}, runs: []string{"start 0", "lost 0"},
			known: []string{"/usr/bin/curl 13:00", "/usr/sbin/nginx 12:00"},
		},
		3: {
			lines: []string{"start 0", "bind 1", "connect 2", "close 2", "summary 0", "bind 3"}, runs: []string{"start 0"},
			known: []string{"/usr/bin/curl 13:00", "/usr/sbin/nginx 12:00"},
		},
	} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			old, err := os.ReadFile(fmt.Sprintf("testdata/v%d.db", version))
			path := filepath.Join(t.TempDir(), "history.db")
			if err := errors.Join(err, os.WriteFile(path, old, fileMode)); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(path); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("version %d", version)) {
				t.Errorf("read before: %v", err)
			}
			w := writer(t, Config{Path: path, MaxAge: time.Since(noon) + 24*time.Hour})
			write(t, w, bind(3, 80, noon.Add(3*time.Hour)))
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			expect(t, "all", found(t, path, Query{}), want.lines...)
			r, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			about, err := r.Past(t.Context(), 40000, time.Time{}, time.Time{})
			if err != nil || len(about.Lines) == 0 || !strings.Contains(about.Lines[0].Text, `"event":"connect"`) {
				t.Errorf("the client's port: %v, %v", about, err)
			}
			expect(t, "runs", named(t)(r.Runs(t.Context())), want.runs...)
			expect(t, "programs", programs(t, r, "/usr/bin/curl", "/usr/sbin/nginx"), want.known...)
		})
	}
}

// programs gives "path hh:mm" of those that the store has seen.
func programs(t *testing.T, r *Reader, paths ...string) (list []string) {
	t.Helper()
	seen, err := r.FirstSeen(t.Context(), paths)
	if err != nil {
		t.Fatal(err)
	}
	for path, first := range seen {
		list = append(list, path+" "+first.UTC().Format("15:04"))
	}
	slices.Sort(list)
	return list
}

func TestReadsNoOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	w := writer(t, Config{Path: path})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := open(path, "rw")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Path: path}); err == nil || !strings.Contains(err.Error(), "later looptrace") {
		t.Errorf("open: %v", err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("read: %v", err)
	}
	notes := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(notes, []byte(strings.Repeat("no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Path: notes}); err == nil {
		t.Error("a text file was taken for a store")
	}
	if text, err := os.ReadFile(notes); err != nil || !strings.HasPrefix(string(text), "no database\n") {
		t.Errorf("it was written to: %.20q, %v", text, err)
	}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}
