// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestClockOnBusyMachine: who is interrupted between two clocks does not take that for a step of one.
func TestClockOnBusyMachine(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8 * runtime.NumCPU())) // threads, which the kernel interrupts anywhere
	var done atomic.Bool
	var wg sync.WaitGroup
	defer func() { done.Store(true); wg.Wait() }()
	for range 8 * runtime.NumCPU() {
		wg.Go(func() {
			for n := 0; !done.Load(); n++ { // busy
			}
		})
	}
	var c clock
	began := c.bootTime()
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		if now := c.bootTime(); !now.Equal(began) {
			t.Fatalf("the wall clock went %v", now.Sub(began))
		}
	}
}
