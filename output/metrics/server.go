// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

const (
	// maxScrapes is how many are answered at a time; others get 503. Each may walk the kernel's list of sockets.
	maxScrapes = 4
	// maxClients is how many connections there may be at a time: others wait. Without it a client that forgets to
	// close takes all the descriptors that tracing needs.
	maxClients = 32
	// patience is what a client has for one request, and idleTime how long it may keep a connection without one:
	// more than the minute that scrapes are apart at most.
	patience = 10 * time.Second
	idleTime = 2 * time.Minute
	// lastScrape is how long Close waits for an answer that is under way.
	lastScrape = time.Second
)

// Handler answers a scrape, at any path.
func (s *Sink) Handler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, Timeout: patience})
}

// Server serves the metrics of a Sink at /metrics.
type Server struct {
	http  *http.Server
	grace time.Duration // lastScrape, but in tests
	ended chan struct{}
	close func() error // once
}

// Serve takes the listener and answers until Close.
func Serve(l net.Listener, s *Sink) *Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.Handler())
	v := &Server{
		http: &http.Server{
			Handler: mux, ReadTimeout: patience, WriteTimeout: 2 * patience, IdleTimeout: idleTime, MaxHeaderBytes: 16 << 10,
			ErrorLog: log.New(io.Discard, "", 0), // what a client does wrong is the client's
		},
		grace: lastScrape,
		ended: make(chan struct{}),
	}
	go func() { // until Close
		defer close(v.ended)
		_ = v.http.Serve(netutil.LimitListener(l, maxClients)) // always ErrServerClosed, or the listener is broken
	}()
	v.close = sync.OnceValue(v.shutdown)
	return v
}

// Close lets the answers that are under way end, for a second at most, and closes the port. Later calls return what the
// first did.
func (v *Server) Close() error { return v.close() }

func (v *Server) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), v.grace)
	defer cancel()
	err := v.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = v.http.Close()
	}
	<-v.ended
	return err
}
