// SPDX-License-Identifier: Apache-2.0

package output

import (
	"sync"
	"time"
)

// Losses counts what a sink could not keep. Its zero value has none; it is safe for concurrent use.
type Losses struct {
	mu    sync.Mutex
	lost  uint64
	told  uint64 // of lost, by Take
	since time.Time
}

// Add counts n more.
func (l *Losses) Add(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > 0 && l.lost == l.told {
		l.since = time.Now()
	}
	l.lost += n
}

// Total gives all.
func (l *Losses) Total() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// Take gives those since its last call, and when they began.
func (l *Losses) Take() (uint64, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.lost - l.told
	l.told = l.lost
	return n, l.since
}
