// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/output/history"
	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

// defaultStore is where looptrace record writes.
const defaultStore = "/var/lib/looptrace/history.db"

func (p *parser) storePath() string {
	if p.isSet("store") {
		return p.text("store")
	}
	return defaultStore
}

// lookLive reads what there is now of the ports.
func lookLive(q *flow.Inquiry) error {
	l, err := tracer.NewLister(tracer.ListConfig{})
	if err != nil {
		return err
	}
	defer l.Close()
	listing, err := l.List(func(r *flow.Record) error {
		if slices.ContainsFunc(q.Targets, func(t flow.Target) bool {
			return r.Port == t.Port || r.Conn != nil && r.Conn.Client.Port == t.Port
		}) {
			q.Live = append(q.Live, r.Clone())
		}
		return nil
	})
	if err != nil {
		return err
	}
	tellIncomplete(os.Stderr, listing)
	q.Looked, q.Now = true, time.Now()
	return nil
}

// maxRecalled bounds what an answer looks at: a page says no more, and the newest say it best.
const maxRecalled = 20000

// recall reads what the store has of the ports. Without a store it is fs.ErrNotExist.
func recall(ctx context.Context, q *flow.Inquiry, path string) error {
	store, err := history.Read(path)
	if err != nil {
		return err
	}
	defer store.Close()
	if q.Remembers, err = store.Remembers(ctx); err != nil {
		return err
	}
	var ports []uint16
	for _, t := range q.Targets {
		if !slices.Contains(ports, t.Port) {
			ports = append(ports, t.Port)
		}
	}
	about := history.Query{Ports: ports, Newest: maxRecalled}
	n, err := store.Count(ctx, about)
	if err != nil {
		return err
	}
	q.LeftOut = n - min(n, maxRecalled)
	for _, found := range []iter.Seq2[history.Line, error]{store.Lines(ctx, about), store.Runs(ctx)} {
		for l, err := range found {
			if err != nil {
				return err
			}
			r, err := output.Parse([]byte(l.Text))
			if err != nil {
				return err
			}
			q.Past = append(q.Past, r)
		}
	}
	return nil
}
