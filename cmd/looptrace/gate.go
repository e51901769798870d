// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

// side is a sink that has a queue of its own, so that the reader does not wait for a disk or a network. What
// did not fit is lost there, and told under its place.
type side struct {
	place string
	queued
}

// queued is what the gate wants of such a sink. Lost, TakeLost and Close may be called from any goroutine.
type queued interface {
	tracer.Sink
	Lost() uint64
	TakeLost() (n uint64, since time.Time) // since its last call
	Close() error                          // more than once
}

// gate is the one sink that the tracer knows: it hands records on to the others, closes when --count
// is reached, and adds what the sides lost to what the tracer says.
type gate struct {
	sinks []tracer.Sink
	sides []side // among sinks, too
	limit uint64 // --count; 0: none
	full  func() // called once, with the last record that passed

	passed  uint64            // records that --count counts
	dropped map[string]uint64 // by event: written by the tracer, after the gate had closed
	tally   *tally            // nil: nobody looks at it
	flushed atomic.Int64      // when a batch ended last, in nanoseconds since 1970
}

// Write hands a record on. The record stays the tracer's.
func (g *gate) Write(r *flow.Record) error {
	if counted(r) && g.limit > 0 && g.passed == g.limit {
		if g.dropped == nil {
			g.dropped = map[string]uint64{}
		}
		g.dropped[r.Event]++
		return nil
	}
	if r.Stop != nil {
		r = g.correct(r)
	}
	if err := g.hand(r); err != nil {
		return err
	}
	if counted(r) {
		if g.passed++; g.passed == g.limit {
			g.full()
		}
	}
	return nil
}

func (g *gate) hand(r *flow.Record) error {
	if g.tally != nil {
		g.tally.add(r)
	}
	for _, sink := range g.sinks {
		if err := sink.Write(r); err != nil {
			return err
		}
	}
	return nil
}

// alive says whether a batch ended in the last d: also an idle reader ends one every half a second. Safe for
// concurrent use.
func (g *gate) alive(d time.Duration) bool { return time.Since(time.Unix(0, g.flushed.Load())) < d }

// Flush ends a batch.
func (g *gate) Flush() error {
	g.flushed.Store(time.Now().UnixNano())
	for _, s := range g.sides {
		lost, since := s.TakeLost()
		if lost == 0 {
			continue
		}
		err := g.hand(&flow.Record{Event: "lost", Time: time.Now(), Level: flow.Warn, Lost: &flow.LostRecord{Count: lost, Where: s.place, Since: since}})
		if err != nil {
			return err
		}
	}
	for _, sink := range g.sinks {
		if err := sink.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// lost is how many records the sides lack.
func (g *gate) lost() (n uint64) {
	for _, s := range g.sides {
		n += s.Lost()
	}
	return n
}

// counted says which records --count is about.
func counted(r *flow.Record) bool { return (r.Sock != nil || r.Conn != nil) && !r.Preexisting }

// correct makes the stop record tell what came out.
func (g *gate) correct(r *flow.Record) *flow.Record {
	stop := *r.Stop
	stop.Counts = maps.Clone(stop.Counts)
	for event, n := range g.dropped {
		if stop.Counts[event] -= n; stop.Counts[event] == 0 {
			delete(stop.Counts, event)
		}
	}
	stop.Lost += g.lost()
	corrected := *r
	corrected.Stop = &stop
	return &corrected
}
