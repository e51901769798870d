// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"slices"
	"sync"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

// fillSpan is how long a peak of the ring is kept, at least. Shorter, and who asks once a minute misses some.
const fillSpan = uint64(time.Minute)

// fill is how full the ring was. Its methods want mu.
type fill struct {
	mu     sync.Mutex
	closed bool // the ring's memory is gone
	since  uint64
	peak   int // since then
	before int // in the span before it
}

// note takes what the ring holds at a time, CLOCK_BOOTTIME.
func (f *fill) note(used int, now uint64) {
	f.turn(now)
	f.peak = max(f.peak, used)
}

// turn begins a new span where the last one is over.
func (f *fill) turn(now uint64) {
	switch passed := now - f.since; {
	case passed < fillSpan:
		return
	case passed < 2*fillSpan:
		f.before = f.peak
	default:
		f.before = 0
	}
	f.since, f.peak = now, 0
}

// ringHeader is what the ring has before each record (BPF_RINGBUF_HDR_SZ).
const ringHeader = 8

// noteFill is for the reader, when it has the first record of a batch in hand: a reader that slept has seen nothing
// of the ring before.
func (t *Tracer) noteFill() {
	t.fill.mu.Lock()
	defer t.fill.mu.Unlock()
	if !t.fill.closed {
		t.fill.note(ringHeader+len(t.record.RawSample)+t.ring.AvailableBytes(), boottime())
	}
}

// Ring gives the ring's size, what is in it now, and the most that the reader found in it in the last one to two
// minutes, in bytes. Safe for concurrent use, also after Close.
func (t *Tracer) Ring() (size, used, peak int) {
	t.fill.mu.Lock()
	defer t.fill.mu.Unlock()
	t.fill.turn(boottime())
	if !t.fill.closed {
		used = t.ring.AvailableBytes()
	}
	return t.ring.BufferSize(), used, max(t.fill.peak, t.fill.before, used)
}

// closeRing frees the ring's memory.
func (t *Tracer) closeRing() {
	t.fill.mu.Lock()
	defer t.fill.mu.Unlock()
	t.fill.closed = true
	t.ring.Close()
}

// Places names where events can be lost in every form, as lost records have it. Probes and programs come on top.
func Places() []string {
	return slices.Concat(places[:], flow.Places(), []string{unread})
}
