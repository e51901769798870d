// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

// prompter is the demo's sink: it hands records on, and tells the director when those that the scene
// waits for are out.
type prompter struct {
	sink tracer.Sink

	mu       sync.Mutex
	expected []*expectation
}

// expectation is a record to come. It may be met in any order.
type expectation struct {
	what  string
	match func(*flow.Record) bool
	met   bool
	told  bool
	out   chan struct{} // closed when it is on the screen
}

// expect calls match on each record, in the tracer's goroutine, until it says true. What match stores may be
// read after wait.
func (p *prompter) expect(what string, match func(*flow.Record) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = append(p.expected, &expectation{what: what, match: match, out: make(chan struct{})})
}

// patience is how long a record may take. It is out in 200 ms on a machine that has time; one that emulates
// another processor may need seconds.
const patience = 15 * time.Second

// wait returns when all that is expected is out, or with the first that is not. It does not complain where the
// scene was broken off: others say why.
func (p *prompter) wait(ctx context.Context) error {
	late := time.After(patience)
	p.mu.Lock()
	expected := p.expected
	p.mu.Unlock()
	for _, e := range expected {
		select {
		case <-e.out:
		case <-ctx.Done():
			return nil
		case <-late:
			return fmt.Errorf("no record of %s came within %v", e.what, patience)
		}
	}
	p.mu.Lock()
	p.expected = nil
	p.mu.Unlock()
	return nil
}

// Write hands a record on and looks whether it was waited for.
func (p *prompter) Write(r *flow.Record) error {
	p.mu.Lock()
	for _, e := range p.expected {
		if !e.met {
			e.met = e.match(r)
		}
	}
	p.mu.Unlock()
	return p.sink.Write(r)
}

// Flush puts records on the screen: only then may a caption follow them.
func (p *prompter) Flush() error {
	if err := p.sink.Flush(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.expected {
		if e.met && !e.told {
			e.told = true
			close(e.out)
		}
	}
	return nil
}
