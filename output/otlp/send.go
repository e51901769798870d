// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdk "go.opentelemetry.io/otel/sdk/log"
)

const (
	// firstPause and maxPause bound the time between two attempts: a receiver that restarts is found soon, one that is
	// away for hours costs a dial each half minute.
	firstPause = 250 * time.Millisecond
	maxPause   = 30 * time.Second
)

// sender takes records out of the queue and delivers them, one batch at a time.
type sender struct {
	cfg      Config
	queue    *queue
	exporter *otlploghttp.Exporter
	wire     *wire
	logger   log.Logger
	made     []sdk.Record // what the logger made of a batch

	sent    atomic.Uint64
	closing context.Context // done: only so long any more
	close   context.CancelFunc
	ended   chan struct{}
	failed  error  // the last attempt's; run's own until it ended
	given   uint64 // records that waited at the end; likewise
	state   int    // of the receiver; run's own
}

func newSender(ctx context.Context, cfg Config, q *queue) (*sender, error) {
	res, err := newResource(ctx, cfg.Version)
	if err != nil {
		return nil, err
	}
	s := &sender{cfg: cfg, queue: q, wire: newWire(cfg.tls), ended: make(chan struct{})}
	s.closing, s.close = context.WithCancel(ctx)
	compression := otlploghttp.NoCompression
	if cfg.gzip {
		compression = otlploghttp.GzipCompression
	}
	s.exporter, err = otlploghttp.New(ctx,
		otlploghttp.WithEndpointURL(cfg.URL),
		otlploghttp.WithCompression(compression),
		otlploghttp.WithHTTPClient(&http.Client{Transport: s.wire, Timeout: cfg.timeout}),
		otlploghttp.WithRetry(otlploghttp.RetryConfig{}), // ours ends when the run does, and not before
	)
	if err != nil {
		return nil, fmt.Errorf("otlp: %w", err)
	}
	provider := sdk.NewLoggerProvider(sdk.WithResource(res), sdk.WithProcessor((*collect)(s)),
		sdk.WithAttributeCountLimit(-1), sdk.WithAttributeValueLengthLimit(-1), sdk.WithAllowKeyDuplication())
	s.logger = provider.Logger("looptrace", log.WithInstrumentationVersion(cfg.Version))
	return s, nil
}

// collect is the SDK's processor: it keeps what the logger made, for one request.
type collect sender

func (*collect) Enabled(context.Context, sdk.EnabledParameters) bool { return true }

func (c *collect) OnEmit(_ context.Context, r *sdk.Record) error {
	c.made = append(c.made, *r)
	return nil
}

func (*collect) Shutdown(context.Context) error   { return nil }
func (*collect) ForceFlush(context.Context) error { return nil }

// run delivers until the queue is closed and empty, or ctx is done.
func (s *sender) run(ctx context.Context) {
	defer close(s.ended)
	for s.gather(ctx) {
		lines := s.queue.take(s.cfg.batch)
		s.made = s.made[:0]
		for _, line := range lines {
			r, err := parse(line)
			if err != nil {
				s.failed = err
				continue
			}
			s.logger.Emit(ctx, r)
		}
		unread := len(lines) - len(s.made)
		lost := s.deliver(ctx)
		clear(s.made)
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

// deliver sends a batch until the receiver has taken or refused it, and gives how many records are lost.
func (s *sender) deliver(ctx context.Context) (lost int) {
	if len(s.made) == 0 {
		return 0
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = firstPause, maxPause
	for {
		s.wire.answer = answer{}
		err := s.exporter.Export(ctx, s.made)
		got := s.wire.answer
		switch {
		case got.ok():
			if got.rejected > 0 {
				s.trouble(refusing, fmt.Errorf("the receiver refused records, which are lost: %s", got.problem))
				return min(got.rejected, len(s.made))
			}
			s.fine()
			return 0
		case ctx.Err() != nil:
			return len(s.made)
		case got.final():
			s.trouble(refusing, fmt.Errorf("the receiver refused records, which are lost: %w", err))
			return len(s.made)
		}
		s.trouble(away, why(err))
		s.wait(ctx, max(pause.NextBackOff(), got.retryAfter))
	}
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
	s.wire.CloseIdleConnections()
	if s.given > 0 {
		return &UndeliveredError{Count: s.given, Reason: s.failed}
	}
	return nil
}
