// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"sync"

	"github.com/looptrace/looptrace/output"
)

// queueSize bounds what waits for the disk: some 20,000 records. With less, a disk that takes a
// second to wake up costs records; with more, a full disk costs memory.
const queueSize = 16 << 20

// queue writes behind its caller's back, in order, whole batches only.
type queue struct {
	to     io.Writer
	mu     sync.Mutex
	filled sync.Cond // pending, closed
	ended  chan struct{}

	pending []byte
	closed  bool
	err     error // the first; nothing is written after it

	losses output.Losses
}

func newQueue(to io.Writer) *queue {
	q := &queue{to: to, ended: make(chan struct{})}
	q.filled.L = &q.mu
	go q.drain() // until close
	return q
}

// put copies a batch, or counts its lines where there is no room.
func (q *queue) put(batch []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.err != nil:
		return q.err
	case len(q.pending)+len(batch) > queueSize:
		q.losses.Add(uint64(bytes.Count(batch, []byte{'\n'})))
	default:
		q.pending = append(q.pending, batch...)
		q.filled.Signal()
	}
	return nil
}

func (q *queue) drain() {
	defer close(q.ended)
	var spare []byte
	for {
		q.mu.Lock()
		for len(q.pending) == 0 && !q.closed {
			q.filled.Wait()
		}
		batch := q.pending
		q.pending = spare[:0]
		q.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		if _, err := q.to.Write(batch); err != nil {
			q.mu.Lock()
			q.err = err
			q.mu.Unlock()
			return
		}
		spare = batch
	}
}

// close writes the rest and returns the first error.
func (q *queue) close() error {
	q.mu.Lock()
	q.closed = true
	q.filled.Signal()
	q.mu.Unlock()
	<-q.ended
	return q.err
}
