// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// firstPause and maxPause bound the time between two attempts: a receiver that restarts is found soon, one that is
	// away for hours costs a dial each half minute.
	firstPause = 250 * time.Millisecond
	maxPause   = 30 * time.Second
)

// sender takes records out of the queue and delivers them, one batch at a time.
type sender struct {
	cfg     Config
	queue   *queue
	encoder encoder
	request *request
	client  *http.Client

	sent    atomic.Uint64
	closing context.Context // done: only so long any more
	close   context.CancelFunc
	ended   chan struct{}
	failed  error  // the last attempt's; run's own until it ended
	given   uint64 // records that waited at the end; likewise
	state   int    // of the receiver; run's own
}

func newSender(ctx context.Context, cfg Config, q *queue) (*sender, error) {
	request, err := newRequest(ctx, cfg)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = cfg.tls
	cfg.headers.Set("User-Agent", strings.TrimSuffix("looptrace/"+cfg.Version, "/"))
	cfg.headers.Set("Content-Type", "application/x-protobuf")
	if cfg.gzip {
		cfg.headers.Set("Content-Encoding", "gzip")
	}
	s := &sender{cfg: cfg, queue: q, request: request, ended: make(chan struct{})}
	s.client = &http.Client{Transport: transport, Timeout: cfg.timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	s.closing, s.close = context.WithCancel(ctx)
	return s, nil
}

// run delivers until the queue is closed and empty, or ctx is done.
func (s *sender) run(ctx context.Context) {
	defer close(s.ended)
	for s.gather(ctx) {
		lines := s.queue.take(s.cfg.batch)
		s.encoder.out = s.encoder.out[:0]
		unread := 0
		for _, line := range lines {
			if err := s.encoder.add(line); err != nil {
				s.failed = err
				unread++
			}
		}
		lost := s.deliver(ctx, len(lines)-unread)
		if ctx.Err() != nil && lost > 0 {
			break // they are in the queue still, and abandoned with it
		}
		s.sent.Add(uint64(len(lines) - unread - lost))
		s.queue.done(lines, unread+lost)
	}
	before := s.queue.losses.Total()
	s.queue.abandon()
	s.given = s.queue.losses.Total() - before
}

// gather waits until there is a batch: that many, or some that waited long enough. It is false at the end.
func (s *sender) gather(ctx context.Context) bool {
	var due <-chan time.Time
	for {
		records, closed := s.queue.state()
		if records >= s.cfg.batch || closed && records > 0 {
			return ctx.Err() == nil
		}
		if closed {
			return false
		}
		if records > 0 && due == nil {
			timer := time.NewTimer(s.cfg.batchTime)
			defer timer.Stop()
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return false
		case <-due:
			return true
		case <-s.queue.filled:
		}
	}
}

// deliver sends the n records of the encoder until the receiver has taken or refused them, and gives how many are lost.
func (s *sender) deliver(ctx context.Context, n int) (lost int) {
	if n == 0 {
		return 0
	}
	body := s.request.body(s.encoder.out)
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = firstPause, maxPause
	for {
		got, err := s.post(ctx, body)
		switch {
		case got.ok() && got.rejected == 0:
			s.fine()
			return 0
		case got.ok():
			s.trouble(refusing, fmt.Errorf("the receiver refused records, which are lost: %w", got.err()))
			return min(got.rejected, n)
		case ctx.Err() != nil:
			return n
		case got.final():
			s.trouble(refusing, fmt.Errorf("the receiver refused records, which are lost: %w", got.err()))
			return n
		case err == nil:
			err = got.err()
		}
		s.trouble(away, err)
		s.wait(ctx, max(pause.NextBackOff(), got.retryAfter))
	}
}

// post makes one attempt. The error says why there is no answer.
func (s *sender) post(ctx context.Context, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header = s.cfg.headers
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, why(err)
	}
	return readAnswer(resp)
}

// wait is short once the end is near: what the receiver takes then is not lost.
func (s *sender) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	closing := s.closing.Done()
	if s.closing.Err() != nil {
		closing = nil
		timer.Reset(min(d, firstPause))
	}
	select {
	case <-ctx.Done():
	case <-closing:
	case <-timer.C:
	}
}

// why takes the request off an error: its URL is long, and always the same.
func why(err error) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		return urlErr.Err
	}
	return err
}

// The states of the receiver. A person is told when it changes, not of each record.
const (
	taking = iota
	away
	refusing
)

func (s *sender) trouble(state int, err error) {
	s.failed = err
	if s.state == state {
		return
	}
	s.state = state
	if state == away {
		s.say("%v; up to %d records wait, what is more is lost", err, s.cfg.queue)
		return
	}
	s.say("%v", err)
}

func (s *sender) fine() {
	s.failed = nil
	if s.state == taking {
		return
	}
	s.state = taking
	lost := "nothing was lost"
	if n := s.queue.losses.Total(); n > 0 {
		lost = fmt.Sprintf("%d were lost so far", n)
	}
	s.say("the receiver takes records again, %s", lost)
}

func (s *sender) say(format string, args ...any) {
	if s.cfg.Say != nil {
		s.cfg.Say("otlp: " + fmt.Sprintf(format, args...))
	}
}

// stop ends run, after flushTime at the latest.
func (s *sender) stop(cancel context.CancelFunc) error {
	s.queue.close()
	s.close()
	timer := time.AfterFunc(flushTime, cancel)
	defer timer.Stop()
	<-s.ended
	s.client.CloseIdleConnections()
	if s.given > 0 {
		return &UndeliveredError{Count: s.given, Reason: s.failed}
	}
	return nil
}
