// SPDX-License-Identifier: Apache-2.0

// Package otlp sends records as OpenTelemetry logs (OTLP over HTTP). Whoever writes records never waits for the network:
// they queue, and what does not fit is counted.
package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer/flow"
)

// Place is where the losses of a Sink are said to be.
const Place = "otlp"

const (
	// flushTime is how long Close waits for the receiver. With less, the last records of a short run are lost to a slow
	// one; with more, whoever stops looptrace while the receiver is away thinks that it hangs.
	flushTime = 3 * time.Second
	// tellEvery is how often TakeLost tells of losses: they go on for as long as the receiver is away.
	tellEvery = time.Second
)

// Sink sends records in batches and in order. Write and Flush are for one goroutine, the others for any.
type Sink struct {
	json  *output.JSON
	batch bytes.Buffer // where json writes
	queue *queue
	send  *sender

	mu     sync.Mutex
	toldAt time.Time // by TakeLost

	close func() error // once
}

// Open makes a Sink. Nothing is sent before there is a record. The error is a *SettingError where a variable is wrong.
func Open(cfg Config) (*Sink, error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Sink{queue: newQueue(cfg.queue)}
	s.json = output.NewJSON(&s.batch)
	var err error
	if s.send, err = newSender(ctx, cfg, s.queue); err != nil {
		cancel()
		return nil, err
	}
	go s.send.run(ctx) // until close
	s.close = sync.OnceValue(func() error {
		defer cancel()
		return s.send.stop(cancel)
	})
	return s, nil
}

// Write adds one record, and keeps nothing of it. It tells the receiver of every loss itself, once there is room again:
// a record that says so now would be lost, too.
func (s *Sink) Write(r *flow.Record) error {
	if r.Lost != nil && r.Lost.Where == Place {
		return nil
	}
	return s.json.Write(r)
}

// Flush queues what was written. It does not wait.
func (s *Sink) Flush() error {
	if err := s.json.Flush(); err != nil {
		return err
	}
	if s.batch.Len() > 0 {
		s.queue.put(s.batch.Bytes())
		s.batch.Reset()
	}
	return s.confess()
}

// confess tells the receiver of a gap, where that is.
func (s *Sink) confess() error {
	n, since := s.queue.gap()
	if n == 0 {
		return nil
	}
	r := &flow.Record{Event: "lost", Time: time.Now(), Level: flow.Warn, Lost: &flow.LostRecord{Count: n, Where: Place, Since: since}}
	if err := errors.Join(s.json.Write(r), s.json.Flush()); err != nil {
		return err
	}
	s.queue.putOver(s.batch.Bytes())
	s.batch.Reset()
	return nil
}

// Lost is how many records were not delivered, and will not be.
func (s *Sink) Lost() uint64 { return s.queue.losses.Total() }

// TakeLost gives what was lost since its last call, and since when; at most once a second.
func (s *Sink) TakeLost() (uint64, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.toldAt) < tellEvery {
		return 0, time.Time{}
	}
	n, since := s.queue.losses.Take()
	if n > 0 {
		s.toldAt = time.Now()
	}
	return n, since
}

// Sent is how many records the receiver has taken.
func (s *Sink) Sent() uint64 { return s.send.sent.Load() }

// Close sends what is queued, for three seconds at most; the rest is lost, and the error says how much. Later calls
// return what the first did.
func (s *Sink) Close() error { return s.close() }

// UndeliveredError says how many records a Sink had to give up at its end.
type UndeliveredError struct {
	Count  uint64
	Reason error // why the last attempt failed; nil: it only took too long
}

func (e *UndeliveredError) Error() string {
	if e.Reason == nil {
		return fmt.Sprintf("otlp: %d records were not delivered in time", e.Count)
	}
	return fmt.Sprintf("otlp: %d records were not delivered: %v", e.Count, e.Reason)
}

func (e *UndeliveredError) Unwrap() error { return e.Reason }
