// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"sync"
	"time"

	"github.com/looptrace/looptrace/output"
)

// maxQueueBytes bounds what waits beside the number of records: they are 1 kB mostly and 16 KiB at most.
const maxQueueBytes = 64 << 20

// queue keeps lines until they are delivered, in order. What does not fit is counted.
type queue struct {
	mu         sync.Mutex
	maxRecords int

	chunks  [][]byte // whole lines each
	bytes   int
	records int // with those that are under way
	closed  bool
	filled  chan struct{} // one token: something changed

	losses    output.Losses
	confessed uint64 // of the losses, by gap
	gapSince  time.Time
}

func newQueue(maxRecords int) *queue {
	return &queue{maxRecords: maxRecords, filled: make(chan struct{}, 1)}
}

// put copies as many lines as there is room for, and counts the others.
func (q *queue) put(lines []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	end, n := 0, 0
	for end < len(lines) && q.records+n < q.maxRecords && !q.closed {
		size := bytes.IndexByte(lines[end:], '\n') + 1
		if q.bytes+end+size > maxQueueBytes {
			break
		}
		end += size
		n++
	}
	if n > 0 {
		q.add(lines[:end], n)
	}
	if left := bytes.Count(lines[end:], []byte{'\n'}); left > 0 {
		q.lose(uint64(left))
	}
}

// putOver adds one line also where there is no room.
func (q *queue) putOver(line []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(line, 1)
}

// add copies n lines; the caller holds mu.
func (q *queue) add(lines []byte, n int) {
	q.chunks = append(q.chunks, bytes.Clone(lines))
	q.bytes += len(lines)
	q.records += n
	q.signal()
}

// gap gives the losses that it has not given yet, once the queue is no more than half full: not for each record that
// does not fit while the receiver is away.
func (q *queue) gap() (uint64, time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.losses.Total() - q.confessed
	if n == 0 || q.records > q.maxRecords/2 {
		return 0, time.Time{}
	}
	q.confessed += n
	return n, q.gapSince
}

// lose counts; the caller holds mu.
func (q *queue) lose(n uint64) {
	if q.losses.Total() == q.confessed {
		q.gapSince = time.Now()
	}
	q.losses.Add(n)
}

func (q *queue) signal() {
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// state gives how many records wait, and whether more may come.
func (q *queue) state() (records int, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.records, q.closed
}

// take removes at most n lines; they stay counted until done is called for them.
func (q *queue) take(n int) (lines [][]byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.chunks) > 0 && len(lines) < n {
		size := bytes.IndexByte(q.chunks[0], '\n') + 1
		lines = append(lines, q.chunks[0][:size-1])
		if q.chunks[0] = q.chunks[0][size:]; len(q.chunks[0]) == 0 {
			q.chunks[0] = nil
			q.chunks = q.chunks[1:]
		}
	}
	return lines
}

// done forgets lines that were taken, of which so many did not arrive.
func (q *queue) done(lines [][]byte, lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.records -= len(lines)
	for _, line := range lines {
		q.bytes -= len(line) + 1
	}
	if lost > 0 {
		q.lose(uint64(lost))
	}
}

// abandon gives up on all that waits.
func (q *queue) abandon() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.records > 0 {
		q.lose(uint64(q.records))
	}
	q.chunks, q.records, q.bytes = nil, 0, 0
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}
