// SPDX-License-Identifier: Apache-2.0

package history

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer/flow"
)

const (
	// commitEvery is how long a record may wait to be written: with the reader's delay it is safe from kill -9
	// within a second. Shorter costs a commit more often.
	commitEvery = 200 * time.Millisecond
	// commitRows is how many records are committed at once, before the time if there are as many. With more, the
	// first of a flood waits for the last; with fewer, the same index pages are written over and over.
	commitRows = 4000
	// behind is how many records may wait before connections are counted together sooner: a busy machine writes
	// some 10,000 a second, and what waits behind more is not safe within its second.
	behind = 2 * commitRows
	// maxQueued bounds what waits for the disk, some 50,000 records: more than a second of saturated loopback.
	maxQueued = 64 << 20
	// tidyEvery is how often age and size are looked at.
	tidyEvery = time.Second
)

// Place is where the losses of a store are, as `lost` records have it.
const Place = "store"

// Config says where a Writer keeps records, and how many.
type Config struct {
	Path   string
	MaxAge time.Duration // older records go; 0: 14 days
	MaxMB  int           // the oldest go when it is larger; 0: 512
	Say    func(string)  // called when the store fails, and when it works again; nil: nobody
}

// Writer is the one writer of a store, a sink of the tracer. Write and Flush are for one goroutine and never
// wait for the disk: what does not fit the queue, or cannot be written, is counted. Other methods are safe
// for concurrent use.
type Writer struct {
	cfg     Config
	lock    *os.File
	fold    fold
	encoder *encoder
	batch   []row
	full    chan struct{} // there is a batch before its time
	stop    chan struct{}
	ended   chan struct{}
	closed  sync.Once
	err     error // of Close

	mu      sync.Mutex
	queued  []row
	bytes   int
	writing int // taken from the queue, and not committed
	done    bool
	ousted  error // another writer has the store

	losses output.Losses
}

// row is one record on its way to the store.
type row struct {
	time       int64
	port       sql.NullInt32
	clientPort sql.NullInt32
	event      string
	line       string
	programs   [2]string // paths of the executables that it names; "": none
	visit      string    // text of its kind; "": kind says which
	kind       int64

	count  int64  // number of the count whose record it is; 0: of none
	final  bool   // the count's interval is over
	counts uint64 // how many the count is of
}

// weight is what is lost with a row, where so many of its count are in the store already.
func (r *row) weight(stored uint64) uint64 {
	switch {
	case r.count == 0, r.counts == 0:
		return 1
	case !r.final:
		return 0 // what comes later says it, too
	default:
		return r.counts - min(stored, r.counts)
	}
}

// Open takes the store for this process and brings it to this version. A *BusyError says who else has it.
func Open(cfg Config) (*Writer, error) {
	if cfg.MaxAge == 0 {
		cfg.MaxAge = 14 * 24 * time.Hour
	}
	if cfg.MaxMB == 0 {
		cfg.MaxMB = 512
	}
	if err := makeFile(cfg.Path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	held, err := lock(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	logPages := logPagesFor(cfg.MaxMB)
	db, err := create(cfg.Path, logPages)
	if err == nil {
		err = settle(db)
	}
	if err != nil {
		held.Close()
		return nil, fmt.Errorf("open store %s: %w", cfg.Path, err)
	}
	w := &Writer{cfg: cfg, lock: held, full: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	w.fold.init()
	w.encoder = newEncoder()
	go w.run(&disk{path: cfg.Path, db: db, inode: inodeAt(cfg.Path), logPages: logPages, beside: besides(cfg.Path), say: cfg.Say}) // until Close
	return w, nil
}

func inodeAt(path string) uint64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return inodeOf(info)
}

// Write takes a record, or folds it. It keeps nothing of it. What the store lost it says there itself, once it
// can be written: a record that says so before would be lost too, and that again.
func (w *Writer) Write(r *flow.Record) error {
	if r.Lost != nil && r.Lost.Where == Place {
		return nil
	}
	if w.fold.takes(r) {
		return nil
	}
	return w.keep(r)
}

func (w *Writer) keep(r *flow.Record) error {
	b, err := w.encoder.row(r)
	if err == nil {
		w.batch = append(w.batch, b)
	}
	return err
}

// tell writes counts, for good or as they are so far.
func (w *Writer) tell(counts []*count, final bool) error {
	for _, n := range counts {
		b, err := w.encoder.row(n.told())
		if err != nil {
			return err
		}
		b.count, b.final, b.counts = n.number, final, n.record.Summary.Count
		w.batch = append(w.batch, b)
	}
	return nil
}

// encoder makes rows of records. It is for one goroutine.
type encoder struct {
	json *output.JSON
	line bytes.Buffer
}

func newEncoder() *encoder {
	e := &encoder{}
	e.json = output.NewJSON(&e.line)
	return e
}

func (e *encoder) row(r *flow.Record) (row, error) {
	if err := errors.Join(e.json.Write(r), e.json.Flush()); err != nil {
		return row{}, err
	}
	b := row{time: r.Time.UnixNano(), event: r.Event, line: string(bytes.TrimSuffix(e.line.Bytes(), []byte{'\n'}))}
	e.line.Reset()
	b.visit, b.kind = visitOf(r)
	if r.HasPort {
		b.port = sql.NullInt32{Int32: int32(r.Port), Valid: true}
	}
	if r.Conn != nil && r.Conn.Client.HasPort {
		b.clientPort = sql.NullInt32{Int32: int32(r.Conn.Client.Port), Valid: true}
	}
	switch {
	case r.Sock != nil:
		b.programs[0] = pathOf(r.Sock.Process)
	case r.Conn != nil:
		b.programs = [2]string{pathOf(r.Conn.Client.Process), pathOf(r.Conn.Server.Process)}
	}
	return b, nil
}

func pathOf(a flow.Actor) string {
	if a.P == nil {
		return ""
	}
	return a.P.ExePath
}

// Flush queues what was written since. The error is a *BusyError where the store was deleted and another process made
// it anew: nothing is written any more.
func (w *Writer) Flush() error {
	now := time.Now()
	if err := errors.Join(w.tell(w.fold.due(now), true), w.tell(w.fold.underWay(now), false)); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ousted != nil {
		for i := range w.batch {
			w.losses.Add(w.batch[i].weight(0))
		}
		w.batch = w.batch[:0]
		return w.ousted
	}
	for _, b := range w.batch {
		if w.bytes+len(b.line) > maxQueued && !b.final || w.done { // counts that are over are few
			w.losses.Add(b.weight(0))
			continue
		}
		w.bytes += len(b.line)
		w.queued = append(w.queued, b)
	}
	w.batch = w.batch[:0]
	switch {
	case w.bytes > maxQueued/2:
		w.fold.over = foldOverFull
	case len(w.queued)+w.writing > behind:
		w.fold.over = foldOverBehind
	default:
		w.fold.over = foldOver
	}
	if len(w.queued) >= commitRows {
		select {
		case w.full <- struct{}{}:
		default: // it is told already
		}
	}
	return nil
}

// Lost is how many records the store lacks.
func (w *Writer) Lost() uint64 { return w.losses.Total() }

// TakeLost gives what was lost since its last call, and since when.
func (w *Writer) TakeLost() (uint64, time.Time) { return w.losses.Take() }

// Close writes what is queued and gives the store back. Later calls return what the first did.
func (w *Writer) Close() error {
	w.closed.Do(func() {
		w.err = errors.Join(w.tell(w.fold.all(), true), w.Flush())
		w.mu.Lock()
		w.done = true
		w.mu.Unlock()
		close(w.stop)
		<-w.ended
		w.err = errors.Join(w.err, w.lock.Close())
	})
	return w.err
}

// run writes batches until Close.
func (w *Writer) run(d *disk) {
	defer close(w.ended)
	defer d.close()
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	tidied := time.Time{}
	failing := false
	confessions := confessions{encoder: newEncoder()}
	for {
		if err := w.keepLock(); err != nil {
			w.mu.Lock()
			w.ousted = err
			w.mu.Unlock()
			d.close() // the files are another's
			return
		}
		rows, done := w.take()
		told, n := confessions.of(&w.losses)
		err := w.commit(d, rows)
		if err == nil {
			err = d.write(told)
		}
		if err == nil {
			confessions.done += n
		}
		wrote := len(rows)+len(told) > 0
		if err == nil && !done && time.Since(tidied) > tidyEvery {
			more := false
			if more, err = d.tidy(time.Now().Add(-w.cfg.MaxAge), int64(w.cfg.MaxMB)<<20); !more {
				tidied = time.Now() // else it goes on after the next batch
			}
			wrote = true
		}
		switch {
		case err != nil && !failing:
			w.say("the store cannot be written, what it lacks is counted: " + err.Error())
			failing = true
		case err == nil && failing && wrote:
			w.say("the store is written again")
			failing = false
		}
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-w.full:
		case <-w.stop:
		}
	}
}

// keepLock takes the lock anew where its file was deleted, for a second writer to find it. The error is a *BusyError
// where that came first.
func (w *Writer) keepLock() error {
	if held, err := w.lock.Stat(); err == nil && sameFile(w.cfg.Path+lockSuffix, inodeOf(held)) {
		return nil
	}
	anew, err := lock(w.cfg.Path)
	var busy *BusyError
	switch {
	case errors.As(err, &busy):
		return err
	case err != nil: // such as a directory that is gone: it is tried again
		return nil
	}
	w.lock.Close()
	w.lock = anew
	return nil
}

// commit writes rows, and counts those that it cannot: after one error it does not try the rest, which would each wait
// for what the first waited for.
func (w *Writer) commit(d *disk, rows []row) error {
	for len(rows) > 0 {
		some := rows[:min(len(rows), commitRows)]
		if err := d.write(some); err != nil {
			for i := range rows {
				w.losses.Add(d.weight(&rows[i]))
			}
			w.committed(len(rows))
			return err
		}
		rows = rows[len(some):]
		w.committed(len(some))
	}
	return nil
}

func (w *Writer) committed(n int) {
	w.mu.Lock()
	w.writing -= n
	w.mu.Unlock()
}

// confessions are the records in the store of what it lacks.
type confessions struct {
	encoder *encoder
	done    uint64 // losses that it tells of already
	since   time.Time
}

// of gives the row that tells of the losses since, if there were any, and how many they are.
func (c *confessions) of(l *output.Losses) (rows []row, n uint64) {
	if n = l.Total() - c.done; n == 0 {
		c.since = time.Now()
		return nil, 0
	}
	r := &flow.Record{Event: "lost", Time: time.Now(), Level: flow.Warn, Lost: &flow.LostRecord{Count: n, Where: Place, Since: c.since}}
	told, err := c.encoder.row(r)
	if err != nil {
		return nil, 0 // nothing fails to be written to memory
	}
	return []row{told}, n
}

func (w *Writer) say(text string) {
	if w.cfg.Say != nil {
		w.cfg.Say(text)
	}
}

// take empties the queue; done: nothing comes after it.
func (w *Writer) take() (rows []row, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rows, w.queued, w.bytes, w.writing = w.queued, nil, 0, len(w.queued)
	return rows, w.done
}
