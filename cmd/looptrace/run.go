// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/tracer"
)

// runCommand is `looptrace run [flags] -- CMD …`.
func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "start a command, trace it and its descendants only, exit as it does",
		UsageText: "looptrace run [flags] -- CMD [ARG …]",
		Description: `CMD keeps stdin, stdout and stderr; the records go to --log-file, else to stderr. Under sudo,
CMD runs as the user who called it, or as --as USER. The other ends of its connections are
named too. The trace ends when CMD ends; the exit code is CMD's (128+N for signal N, 127 where
it was not found, 126 where it could not be executed).

Examples:

    sudo looptrace run -- npm test
    sudo looptrace run --failed -- ./server --port 8080
    sudo looptrace run --log-file trace.json -- make check`,
		Action: run,
	}
}

func run(c *cli.Context) error {
	g, argv := given{c}, c.Args().Slice()
	o, err := parseOptions(g, nil)
	if err != nil {
		return err
	}
	// Variables alone are the command's: it may well send telemetry itself.
	if url := g.text("otlp"); url != "" {
		if o.otlp, err = readOTLP(url); err != nil {
			return err
		}
	}
	if len(argv) == 0 {
		return usagef("looptrace run [flags] -- CMD [ARG …]", "run needs a command")
	}
	who, err := invoker(g.text("as"))
	if err != nil {
		return err
	}
	o.cfg.Filter.Tree = true
	o.cfg.Filters["run"] = argv[0] // without its arguments: they may hold secrets
	var sinks []tracer.Sink
	if o.logFile == "" {
		sinks = append(sinks, newSink(os.Stderr, o.format))
	}
	// Before the tracer: the command inherits nothing that it changes in this process.
	child, err := startStopped("", argv, who, os.Stdin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	go child.forwardSignals(ctx) // ends with ctx
	s, err := newSession(o, sinks...)
	if err != nil {
		return errors.Join(err, child.abandon())
	}
	defer s.Close()
	if err := s.tracer.Plant(child.pid()); err != nil {
		return errors.Join(err, child.abandon())
	}
	return s.follow(ctx, child)
}

// follow traces until the command ends.
func (s *session) follow(ctx context.Context, child *actor) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	traced := make(chan struct{})
	go func() { // ends with ctx, or by itself: --count, --duration, a closed pipe
		err = s.trace(ctx)
		close(traced)
	}()
	select {
	case <-s.tracer.Ready():
	case <-traced:
		if !s.ready() {
			return errors.Join(err, child.abandon())
		}
	}
	child.release() // also where its records cannot be written
	status := child.wait()
	cancel()
	<-traced
	if s.log == nil { // else stderr is the command's alone
		s.summarize()
	}
	return runResult(err, status)
}

// runResult makes the command's exit code ours. Only --strict comes before it.
func runResult(err error, status int) error {
	var lost lostError
	if errors.As(err, &lost) {
		return err
	}
	if err != nil {
		complain(os.Stderr, err)
	}
	if status == exitOK {
		return nil
	}
	return statusError(status)
}

// forwardSignals passes on what was meant for the command. Looptrace itself stays until it ends.
func (a *actor) forwardSignals(ctx context.Context) {
	signals := make(chan os.Signal, 8) // more at once than there are kinds of them
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			if fromKeyboard(sig) {
				continue // the terminal sent it to the whole group
			}
			_ = a.cmd.Process.Signal(sig) // it may have ended by now
		}
	}
}

// fromKeyboard says whether a signal is Ctrl-C or Ctrl-\, as far as can be known: looptrace, and so the
// command, is what the terminal talks to.
func fromKeyboard(sig os.Signal) bool {
	if sig != syscall.SIGINT && sig != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
