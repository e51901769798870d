// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/looptrace/looptrace/output/metrics"
	"github.com/looptrace/looptrace/tracer"
)

// metricsAddr reads --metrics; the zero value is none. A port alone is on loopback: another address has to be said.
func (p *parser) metricsAddr() netip.AddrPort {
	if !p.isSet("metrics") {
		return netip.AddrPort{}
	}
	text := p.text("metrics")
	host, port, ok := strings.Cut(text, ":")
	if !ok {
		host, port = "", text
	}
	if number, err := strconv.ParseUint(port, 10, 16); err == nil && (host == "" || host == "localhost") {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(number))
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		p.fail("a port of loopback, such as 9464, or an address of this machine and a port: 192.0.2.1:9464, [::]:9464",
			"--metrics %q: not an address to listen on", text)
	}
	return addr
}

// exposition is the port of --metrics, from before tracing begins to its end.
type exposition struct {
	listener net.Listener
	ports    portCounter
	server   *metrics.Server // nil before serve
}

// openMetrics takes the port. Who scrapes waits until serve.
func openMetrics(addr netip.AddrPort) (*exposition, error) {
	network := "tcp"
	if addr.Addr().Is4() {
		network = "tcp4" // with "tcp", 0.0.0.0 would be [::] too
	}
	l, err := net.Listen(network, addr.String())
	switch {
	case errors.Is(err, syscall.EACCES):
		return nil, usagef("take a port from 1024 on", "--metrics %s: not permitted", addr)
	case err != nil:
		return nil, &metricsError{addr, err}
	}
	if addr.Port() == 0 {
		fmt.Fprintf(os.Stderr, "looptrace: metrics at http://%s/metrics\n", l.Addr())
	}
	return &exposition{listener: l}, nil
}

// metricsError: the port cannot be had now. It is no usage error: what has it may let go of it, and a service
// manager tries again.
type metricsError struct {
	addr netip.AddrPort
	err  error
}

func (e *metricsError) Error() string {
	return fmt.Sprintf("--metrics %s: %v", e.addr, errnoOf(e.err))
}

func (e *metricsError) Unwrap() error { return e.err }

// Hint says what to try next.
func (e *metricsError) Hint() string {
	switch {
	case errors.Is(e.err, syscall.EADDRINUSE):
		return fmt.Sprintf("looptrace explain :%d says who has it; or take another port", e.addr.Port())
	case errors.Is(e.err, syscall.EADDRNOTAVAIL):
		return "ip address lists this machine's addresses; a port without one is on 127.0.0.1"
	default:
		return "take another address or port"
	}
}

// errnoOf takes off what the message says already.
func errnoOf(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// addr is where it listens, with the port that the kernel picked for 0.
func (e *exposition) addr() netip.AddrPort {
	at, ok := e.listener.Addr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{} // it cannot be: it was asked for
	}
	return at.AddrPort()
}

// serve begins to answer, and gives the sink that counts.
func (e *exposition) serve(s *session) *metrics.Sink {
	cfg := metrics.Config{
		Version: version,
		Hooks:   string(s.tracer.Form()),
		Places:  tracer.Places(),
		Ready:   s.tracer.Ready(),
		Ring: func() (r metrics.Ring) {
			r.Size, r.Used, r.Peak = s.tracer.Ring()
			return r
		},
		Ports: e.ports.count,
	}
	for _, side := range s.sides {
		cfg.Places = append(cfg.Places, side.place)
	}
	if store := s.options.store; store != nil {
		cfg.Store = func() (int64, bool) { return storeSize(store.Path) }
	}
	sink := metrics.New(cfg)
	e.server = metrics.Serve(e.listener, sink)
	return sink
}

// close gives the port back. It may be called more than once, and on none.
func (e *exposition) close() error {
	switch {
	case e == nil:
		return nil
	case e.server == nil:
		return e.listener.Close()
	default:
		return e.server.Close()
	}
}

// storeSize is what a store and its log (WAL) take on disk; false where there is none.
func storeSize(path string) (sum int64, ok bool) {
	for _, name := range []string{path, path + "-wal"} {
		if info, err := os.Stat(name); err == nil {
			sum += info.Size()
			ok = true
		}
	}
	return sum, ok
}
