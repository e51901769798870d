// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"iter"
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

// present gives the records of the snapshot that a filter lets through and keep wants.
func present(ctx context.Context, filter flow.Filter, keep func(*flow.Record) bool) ([]*flow.Record, error) {
	t, err := tracer.New(tracer.Config{Snapshot: true, Version: version, Filter: filter})
	if err != nil {
		return nil, err
	}
	defer t.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the snapshot, or with ctx
		select {
		case <-t.Ready():
			cancel()
		case <-ctx.Done():
		}
	}()
	k := keeper{keep: keep}
	if err := t.Run(ctx, &k); err != nil {
		return nil, err
	}
	return k.records, nil
}

// keeper keeps what there was before tracing began.
type keeper struct {
	keep    func(*flow.Record) bool
	records []*flow.Record
}

// Write keeps a copy.
func (k *keeper) Write(r *flow.Record) error {
	if r.Preexisting && r.Event != "release" && r.Event != "close" && k.keep(r) {
		k.records = append(k.records, r.Clone())
	}
	return nil
}

// Flush has nothing to do.
func (*keeper) Flush() error { return nil }

// lookLive reads what there is now of the ports.
func lookLive(ctx context.Context, q *flow.Inquiry) (err error) {
	q.Live, err = present(ctx, flow.Filter{}, func(r *flow.Record) bool {
		return slices.ContainsFunc(q.Targets, func(t flow.Target) bool {
			return r.Port == t.Port || r.Conn != nil && r.Conn.Client.Port == t.Port
		})
	})
	if err == nil {
		q.Looked, q.Now = true, time.Now()
	}
	return err
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
