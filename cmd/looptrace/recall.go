// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/output/history"
	"github.com/looptrace/looptrace/tracer/flow"
)

// recall reads what the store has of the port.
func recall(ctx context.Context, q *flow.Inquiry, store *history.Reader) (err error) {
	if q.Remembers, err = store.Remembers(ctx); err != nil {
		return err
	}
	if q.Remembers.IsZero() { // it is empty: what comes now, it would remember
		q.Remembers = q.Now
	}
	about, err := store.Past(ctx, q.Targets[0].Port, q.AtEnd, q.Since) // askedPorts leaves one port
	if err != nil {
		return err
	}
	q.LookedFrom, q.Partial = about.Since, about.Partial
	if q.Watches, err = store.Watches(ctx); err != nil {
		return err
	}
	runs, err := store.Runs(ctx)
	if err != nil {
		return err
	}
	read, err := parseLines(about.Lines)
	if err != nil {
		return err
	}
	watched, err := parseLines(runs)
	q.Past = slices.Concat(about.Told(read), watched)
	return err
}

// parseLines makes records of lines, on every processor: half of an answer's time is spent here.
func parseLines(lines []history.Line) ([]*flow.Record, error) {
	records := make([]*flow.Record, len(lines))
	share := len(lines)/runtime.GOMAXPROCS(0) + 1
	var failed error
	var once sync.Once
	var wg sync.WaitGroup
	for from := 0; from < len(lines); from += share {
		wg.Go(func() {
			for i := from; i < min(from+share, len(lines)); i++ {
				r, err := output.Parse([]byte(lines[i].Text))
				if err != nil {
					once.Do(func() { failed = err })
					return
				}
				records[i] = r
			}
		})
	}
	wg.Wait()
	return records, failed
}

// powerless says whether this process has no capability at all: then the look at the live state fails, and to find
// that out takes longer than to read the store.
func powerless() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[0].Effective == 0 && data[1].Effective == 0
}

// acquaint asks the store since when it has seen the programs that hold the port.
func acquaint(ctx context.Context, q *flow.Inquiry, store *history.Reader) (err error) {
	var paths []string
	for _, r := range slices.Concat(q.Live, q.Past) {
		if r.Sock == nil || r.Sock.Process.P == nil {
			continue
		}
		if path := r.Sock.Process.P.ExePath; path != "" && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	q.FirstSeen, err = store.FirstSeen(ctx, paths)
	return err
}

// nameAll gives the processes that some records have cut the names that others have.
func nameAll(q *flow.Inquiry) {
	var names flow.Names
	for _, r := range slices.Concat(q.Live, q.Past) {
		names.Learn(r)
	}
	for _, r := range q.Past {
		names.Complete(r)
	}
}
