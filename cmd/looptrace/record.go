// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"github.com/looptrace/looptrace/output/history"
	"github.com/looptrace/looptrace/tracer/flow"
)

// recordCommand is `looptrace record`.
func recordCommand() *cli.Command {
	return &cli.Command{
		Name:      "record",
		Usage:     "trace into a store, for explain and log to ask later",
		UsageText: "looptrace record [flags] [TARGET …]",
		Description: `The daemon. It keeps binds, listens and releases as they are; connections and failures too, up to 1,000 of
one program to one port in ten seconds: what is more becomes one record with its count. What it wrote is
safe from a crash a second later. Members of the group looptrace, where there is one, can ask without root.

Examples:

    sudo looptrace record
    sudo looptrace record --max-age 72h --max-size 2000
    looptrace record --status`,
		Action: record,
	}
}

func record(c *cli.Context) error {
	g := given{c}
	o, err := parseOptions(g, c.Args().Slice())
	if err != nil {
		return err
	}
	if o.otlp, err = readOTLP(g.text("otlp")); err != nil {
		return err
	}
	p := parser{given: g}
	o.store = &history.Config{
		Path: p.storePath(), MaxAge: p.time("max-age"), MaxMB: int(min(p.positive("max-size"), 1<<30)),
		Say: func(text string) { fmt.Fprintf(os.Stderr, "looptrace: %s\n", visible(text)) },
	}
	if p.err != nil {
		return p.err
	}
	ctx, stop := interruptible(c.Context, o.logFile == "")
	defer stop()
	if g.has("status") {
		return printStatus(ctx, o.store.Path)
	}
	s, err := newSession(o)
	if err != nil {
		return err
	}
	defer s.Close()
	go s.notify(ctx) // ends with ctx
	return s.trace(ctx)
}

// notify tells systemd that the hooks are live, and then that it is alive (sd_notify(3)). Without systemd it
// tells nobody.
func (s *session) notify(ctx context.Context) {
	select {
	case <-s.tracer.Ready():
	case <-ctx.Done():
		return
	}
	fmt.Fprintf(os.Stderr, "looptrace: recording into %s, by %s hooks\n", visible(s.options.store.Path), s.tracer.Form())
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // who started it may not listen
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
			return
		case <-tick.C:
			if s.gate.alive(every) {
				_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
			}
		}
	}
}

// storeKeeper is the store as a sink: what is kept is redacted as a log file is.
type storeKeeper struct {
	*history.Writer
	redact *redactor // nil: command lines as they are
}

func openStore(cfg history.Config, redact bool) (*storeKeeper, error) {
	w, err := history.Open(cfg)
	if errors.Is(err, fs.ErrPermission) {
		return nil, &deniedError{err, "run looptrace with sudo, or give a --store PATH that you may write to"}
	}
	if err != nil {
		return nil, err
	}
	k := &storeKeeper{Writer: w}
	if redact {
		k.redact = newRedactor(flow.RedactArgs)
	}
	return k, nil
}

// Write keeps a record.
func (k *storeKeeper) Write(r *flow.Record) error {
	if k.redact != nil {
		r = k.redact.record(r)
	}
	return k.Writer.Write(r)
}

func printStatus(ctx context.Context, path string) error {
	store, err := readStore(path)
	if err != nil {
		return err
	}
	defer store.Close()
	s, err := store.Status(ctx)
	if err != nil {
		return err
	}
	span := "empty"
	if !s.First.IsZero() {
		span = s.First.Local().Format(time.DateTime) + " to " + s.Last.Local().Format(time.DateTime)
	}
	_, err = fmt.Printf("store   %s\nspan    %s\nrows    %d\nsize    %.1f MB, %.1f MB on disk\nfolded  %d\nlost    %d\n",
		visible(path), span, s.Rows, float64(s.Bytes)/1e6, float64(s.Disk)/1e6, s.Folded, s.Lost)
	return err
}

// noStoreError: nothing was recorded there.
type noStoreError struct{ path string }

func (e noStoreError) Error() string { return "no store at " + visible(e.path) }

// Hint says what to try next.
func (noStoreError) Hint() string {
	return "sudo looptrace record makes one; --store PATH names another"
}

func readStore(path string) (*history.Reader, error) {
	store, err := history.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noStoreError{path}
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, &deniedError{err, "run it with sudo, or become a member of the group looptrace"}
	}
	return store, err
}
