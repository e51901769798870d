// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestClockOnBusyMachine: who is interrupted between two clocks does not take that for a step of one.
func TestClockOnBusyMachine(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8 * runtime.NumCPU())) // threads, which the kernel interrupts anywhere
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer func() { close(done); wg.Wait() }()
	for range 8 * runtime.NumCPU() {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
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
