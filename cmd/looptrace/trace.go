// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/output/history"
	"github.com/looptrace/looptrace/output/otlp"
	"github.com/looptrace/looptrace/tracer"
)

// streamCommand is `looptrace [flags] [TARGET …]`.
func streamCommand(c *cli.Context) error {
	targets := c.Args().Slice()
	if len(targets) > 0 && isCommandName(targets[0]) && targets[0] != "localhost" {
		return unknownCommand(c.App, targets[0])
	}
	o, err := parseOptions(given{c}, targets)
	if err != nil {
		return err
	}
	if o.otlp, err = readOTLP(c.String("otlp")); err != nil {
		return err
	}
	ctx, stop := interruptible(c.Context, o.logFile == "") // before attaching, which takes its time
	defer stop()
	s, err := newSession(o, newSink(os.Stdout, o.format))
	if err != nil {
		return err
	}
	defer s.Close()
	go watchPipe(ctx, os.Stdout, stop) // ends with ctx

	err = s.trace(ctx)
	s.summarize()
	return err
}

// summarize ends a run that people look at.
func (s *session) summarize() {
	if s.gate.tally != nil {
		s.gate.tally.print(os.Stderr)
	}
}

// interruptible gives a context that ends with SIGINT, SIGTERM or SIGQUIT, and with SIGHUP where that reopens
// no log file and nohup did not ask to go on. The second of them kills: it does not wait for the drain.
func interruptible(parent context.Context, hangup bool) (context.Context, context.CancelFunc) {
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT}
	if hangup && !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(parent, signals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// newSink writes records in a format. Colour needs a terminal, stdout on one too (else someone reads what
// `run` writes with a program), and nobody who minds.
func newSink(f *os.File, format string) tracer.Sink {
	switch format {
	case formatJSON:
		return output.NewJSON(f)
	case formatECS:
		return output.NewECS(f)
	}
	return output.NewText(f, textOptions(f))
}

// thrifty has a heap that grows by a quarter, and not to its double, before it is collected: loading leaves
// some 30 MB of garbage, and tracing makes next to none. GOGC and GOMEMLIMIT are the user's.
func thrifty() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(25)
	}
}

func textOptions(f *os.File) output.TextOptions {
	plain := os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb"
	return output.TextOptions{Color: !plain && isTerminal(os.Stdout) && isTerminal(f)}
}

// session is one run of the tracer, from its flags to its last record.
type session struct {
	options *options
	tracer  *tracer.Tracer
	gate    *gate
	sides   []side
	log     *logFile    // among the sides; nil without --log-file
	metrics *exposition // nil without --metrics

	undelivered sync.Once // it is told
}

// newSession checks where records go, attaches the tracer and wires the sinks. Close it.
func newSession(o *options, sinks ...tracer.Sink) (_ *session, err error) {
	s := &session{options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.metrics.close(), s.closeSides())
		}
	}()
	if o.logFile != "" {
		if s.log, err = openLogFile(o.logFile, o.redactLog); err != nil {
			return nil, err
		}
		s.sides = append(s.sides, side{"log-file", s.log})
	}
	if o.otlp != nil {
		exporter, err := openOTLP(*o.otlp, o.redactLog)
		if err != nil {
			return nil, err
		}
		s.sides = append(s.sides, side{otlp.Place, exporter})
	}
	if o.store != nil {
		keeper, err := openStore(*o.store, o.redactLog)
		if err != nil {
			return nil, err
		}
		s.sides = append(s.sides, side{history.Place, keeper})
	}
	for _, side := range s.sides {
		sinks = append(sinks, side)
	}
	if o.metrics.IsValid() {
		if s.metrics, err = openMetrics(o.metrics); err != nil {
			return nil, err
		}
		o.cfg.Own = s.metrics.addr()
	}
	thrifty()
	if s.tracer, err = tracer.New(o.cfg); err != nil {
		return nil, err
	}
	if s.metrics != nil {
		sinks = append(sinks, s.metrics.serve(s))
	}
	s.gate = &gate{sinks: sinks, sides: s.sides, limit: o.count}
	if o.format == formatText && isTerminal(os.Stderr) {
		s.gate.tally = &tally{}
	}
	return s, nil
}

// Close releases what newSession acquired. What was written is in the log file then.
func (s *session) Close() error {
	return errors.Join(s.metrics.close(), s.tracer.Close(), s.closeSides())
}

// closeSides flushes the queues. What a receiver did not take in time is told here and is no failure: it is
// counted as lost, as it is when the receiver is away in between.
func (s *session) closeSides() error {
	var errs []error
	for _, side := range s.sides {
		err := side.Close()
		var undelivered *otlp.UndeliveredError
		if errors.As(err, &undelivered) {
			s.undelivered.Do(func() { complain(os.Stderr, err) })
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// drainTime is how long a blocked output may hold up the end. The drain itself is far quicker, but for
// taking off the hooks, which may cost the kernel a second: with less, a busy machine's last records
// would be missing; with more, whoever stops looptrace thinks that it hangs.
const drainTime = 5 * time.Second

var errBlocked = errors.New("nobody reads the output: the last records are missing")

// trace runs until ctx, --count or --duration ends it, and says what the exit code has to.
func (s *session) trace(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.gate.full = cancel
	go s.stopAfterDuration(ctx, cancel) // ends with ctx
	go s.reopenOnHangup(ctx)            // ends with ctx

	ended := make(chan error, 1)
	go func() { ended <- s.tracer.Run(ctx, s.gate) }() // ends with ctx, or with the process
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		select {
		case err = <-ended:
		case <-time.After(drainTime):
			err = errBlocked
		}
	}
	if errors.Is(err, syscall.EPIPE) {
		err = nil
	}
	if closeErr := s.closeSides(); err == nil {
		err = closeErr // else it says the same again
	}
	if lost := s.tracer.Lost() + s.gate.lost(); s.options.strict && lost > 0 {
		err = errors.Join(err, lostError(lost))
	}
	return err
}

// ready says whether the tracer came up.
func (s *session) ready() bool {
	select {
	case <-s.tracer.Ready():
		return true
	default:
		return false
	}
}

// stopAfterDuration counts from the first record, not from the start of the process.
func (s *session) stopAfterDuration(ctx context.Context, cancel context.CancelFunc) {
	if s.options.duration == 0 {
		return
	}
	select {
	case <-ctx.Done():
		return
	case <-s.tracer.Ready():
	}
	select {
	case <-ctx.Done():
	case <-time.After(s.options.duration):
		cancel()
	}
}

// reopenOnHangup is for logrotate, which renames the file and sends SIGHUP.
func (s *session) reopenOnHangup(ctx context.Context) {
	if s.log == nil {
		return
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			if err := s.log.Reopen(); err != nil {
				complain(os.Stderr, fmt.Errorf("reopen log file: %w", err))
			}
		}
	}
}
