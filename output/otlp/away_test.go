// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/looptrace/looptrace/output/otlp/otlptest"
)

// TestReceiverIsAwayForTenMinutes: ten minutes of a clock that does not wait, with a pipe for a network. What fits is
// delivered once the receiver is back, the rest is counted, and each side is told of it once.
func TestReceiverIsAwayForTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			absence = 10 * time.Minute
			fits    = 400
			written = int(absence / time.Second)
		)
		rc := &otlptest.Receiver{}
		network := &pipes{listener: make(chan net.Conn)}
		server := &http.Server{Handler: rc}
		go func() { _ = server.Serve(network) }() // ends with Close
		s, told := open(t, settings(t, "http://receiver", map[string]string{"OTEL_BLRP_MAX_QUEUE_SIZE": "400"}))
		s.send.client.Transport = &http.Transport{DialContext: network.dial}
		for i := range written {
			write(t, s, i, i+1)
			time.Sleep(time.Second)
		}
		attempts := network.attempts.Load()
		if attempts < int64(absence/maxPause) || attempts > 60 { // the pause varies by half of it
			t.Errorf("tried %d times", attempts)
		}
		if n, since := s.TakeLost(); n != uint64(written-fits) || time.Since(since) < absence-(fits+1)*time.Second {
			t.Errorf("lost %d since %v", n, since)
		}
		network.up.Store(true)
		time.Sleep(2 * maxPause)
		write(t, s, written, written+1)
		if err := errors.Join(s.Close(), server.Close()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		got := ids(rc.Records())
		if len(got) != fits+1 || s.Sent() != fits+2 || s.Lost() != uint64(written-fits) {
			t.Errorf("%d arrived, sent %d, lost %d; want %d, %d with the record of the gap, %d", len(got), s.Sent(), s.Lost(), fits+1, fits+2, written-fits)
		}
		if want := "otlp: refused; up to 400 records wait, what is more is lost\notlp: the receiver takes records again, 200 were lost so far"; told.all() != want {
			t.Errorf("told %q, want %q", told.all(), want)
		}
	})
}

// pipes is a network in memory, which a clock that does not wait needs.
type pipes struct {
	listener chan net.Conn
	up       atomic.Bool
	attempts atomic.Int64
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.attempts.Add(1)
	if !p.up.Load() {
		return nil, errors.New("refused")
	}
	client, server := net.Pipe()
	select {
	case p.listener <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.listener
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p *pipes) Close() error   { close(p.listener); return nil }
func (p *pipes) Addr() net.Addr { return &net.IPAddr{} }
