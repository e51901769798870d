// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/tracer/flow"
)

const (
	// batch is how long the reader lets events gather. Shorter costs wake-ups, longer delays lines.
	batch = 10 * time.Millisecond
	// armed is how long the reader waits, once it has asked the kernel to wake it, before it
	// believes that the ring is empty: an event may have been under way while it asked.
	armed = 20 * time.Millisecond
	// idle is how often an idle reader looks for losses, steps of the clock, and who holds what.
	idle = 500 * time.Millisecond
	// maxBatch bounds the records between two flushes, so that a flood does not delay lines.
	maxBatch = 16384
)

// Run writes the start record, the snapshot and then what happens, until ctx is done; then it
// takes the hooks off, writes what is left and the stop record, and returns nil. A sink's error
// ends it at once and is returned. It can be called once.
func (t *Tracer) Run(ctx context.Context, sinks ...Sink) error {
	t.sinks = sinks
	t.began = boottime()
	t.summarizeAt = t.began + uint64(t.cfg.Summary)
	stop := context.AfterFunc(ctx, func() { t.ring.Flush() })
	defer stop()
	if err := t.open(); err != nil {
		return err
	}
	close(t.ready)
	for ctx.Err() == nil && t.sinkErr == nil {
		n, err := t.drain(time.Unix(1, 0))
		if err != nil {
			return err
		}
		if n == 0 {
			err = t.sleep()
		} else {
			t.settle()
			wait(ctx, batch)
		}
		if err != nil {
			return err
		}
	}
	return t.finish()
}

// open writes what comes before live records. A sink's error is no error of it: the tracer is up.
func (t *Tracer) open() error {
	if err := t.readProcesses(); err != nil {
		return err
	}
	t.table.Housekeep(t.startRecord())
	if err := t.snapshot(); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	t.settle()
	return nil
}

// drain reads what the ring holds; it waits for the first record until the deadline.
func (t *Tracer) drain(deadline time.Time) (n int, err error) {
	t.ring.SetDeadline(deadline)
	defer func() { t.drained = n < maxBatch }()
	for n < maxBatch && t.sinkErr == nil {
		err := t.ring.ReadInto(&t.record)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ringbuf.ErrFlushed) {
			break
		}
		if err != nil {
			return n, fmt.Errorf("read ring: %w", err)
		}
		if n == 0 {
			t.noteFill()
			t.ring.SetDeadline(time.Unix(1, 0)) // the rest is there, or comes with the next batch
		}
		n++
		if err := t.observe(t.record.RawSample); err != nil {
			t.undecoded++
		}
	}
	return n, nil
}

// sleep waits without a batch's polling: the next event wakes the reader.
func (t *Tracer) sleep() error {
	for _, patience := range []time.Duration{armed, t.patience()} {
		if err := t.idleFlag.Set(uint32(1)); err != nil {
			return fmt.Errorf("ask to be woken: %w", err)
		}
		n, err := t.drain(time.Now().Add(patience))
		if err != nil {
			return err
		}
		t.settle()
		if n > 0 {
			break
		}
	}
	if err := t.idleFlag.Set(uint32(0)); err != nil {
		return fmt.Errorf("ask not to be woken: %w", err)
	}
	return nil
}

// patience is how long a reader without events may sleep.
func (t *Tracer) patience() time.Duration {
	if t.looking || t.asking || t.table.Waiting() {
		return armed
	}
	if t.cfg.Summary > 0 {
		return min(idle, t.cfg.Summary)
	}
	return idle
}

// settle ends a batch: what waited long enough goes out, losses are told, sinks flush.
func (t *Tracer) settle() {
	now := boottime()
	t.table.Tick(now)
	if now-t.checked >= uint64(idle) {
		t.checked = now
		t.reportLost()
		t.table.SetBootTime(t.clock.bootTime())
	}
	t.look(now)
	t.answer(now)
	if err := t.summarize(now); err != nil && t.sinkErr == nil {
		t.sinkErr = err
	}
	t.flush()
}

// look is what the table of open files said, and how long that took.
type look struct {
	rows  []flow.SockEvent
	took  time.Duration
	whole bool
}

// look asks who holds what, off the reader's way: it takes milliseconds a thousand sockets. One
// look at a time.
func (t *Tracer) look(now uint64) {
	select {
	case l := <-t.looked:
		t.table.Look(l.rows, l.took, l.whole)
		t.looking = false
	default:
	}
	if t.looking || !t.table.WantsLook(now) {
		return
	}
	t.looking = true
	go func() { // ends with the walk; finish waits for it
		var l look
		began := time.Now()
		err := t.hooks.rows("it_ports", sockSize, func(row []byte) { // an error leaves what was known
			if ev, err := sockEvent(row); err == nil {
				l.rows = append(l.rows, *ev)
			}
		})
		l.took, l.whole = time.Since(began), err == nil
		t.looked <- l
	}()
}

func (t *Tracer) flush() {
	for _, s := range t.sinks {
		if err := s.Flush(); err != nil && t.sinkErr == nil {
			t.sinkErr = err
		}
	}
}

// emit is where the table's records leave for the sinks.
func (t *Tracer) emit(r *flow.Record) {
	for _, s := range t.sinks {
		if err := s.Write(r); err != nil && t.sinkErr == nil {
			t.sinkErr = err
		}
	}
}

// finish detaches, then reads to the end: what was traced is not lost by stopping.
func (t *Tracer) finish() error {
	if t.looking {
		<-t.looked
	}
	t.reportLost() // a kprobe's misses are gone with its link
	detachErr := t.hooks.Detach()
	for t.sinkErr == nil {
		n, err := t.drain(time.Unix(1, 0))
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	t.lastAnswer()
	t.table.Drain()
	t.summarizeAt = 0 // the last interval ends now
	if err := t.summarize(boottime()); err != nil && t.sinkErr == nil {
		t.sinkErr = err
	}
	t.reportLost()
	t.table.Housekeep(&flow.Record{Event: "stop", Time: time.Now(), Stop: &flow.StopRecord{
		Lost: t.Lost(), Duration: time.Duration(boottime() - t.began),
	}})
	t.flush()
	if t.sinkErr != nil {
		return fmt.Errorf("write records: %w", t.sinkErr)
	}
	return detachErr
}

// wait sleeps, or until ctx is done.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// boottime is CLOCK_BOOTTIME, the clock of every event.
func boottime() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail for this clock (clock_gettime(2))
	return uint64(ts.Nano())
}

// clock turns CLOCK_BOOTTIME into wall time.
type clock struct{ zero time.Time }

// maxDrift is how far the wall clock may be from ours before it counts as stepped. Below it, one
// event keeps one time in every record that names it.
const maxDrift = 5 * time.Millisecond

// maxApart is how long reading both clocks may take: what is between them is their difference's error. A
// busy machine takes the CPU away there for tens of milliseconds.
const maxApart = maxDrift / 10

func (c *clock) bootTime() time.Time {
	for range 8 {
		before := boottime()
		now := time.Now().Round(0)
		apart := time.Duration(boottime() - before)
		if apart > maxApart && !c.zero.IsZero() {
			continue
		}
		zero := now.Add(-time.Duration(before) - apart/2)
		if d := zero.Sub(c.zero); d > maxDrift || d < -maxDrift {
			c.zero = zero
		}
		if apart <= maxApart {
			break
		}
	}
	return c.zero
}
