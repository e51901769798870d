// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
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

// lookLive reads what is there now.
func lookLive(ctx context.Context, q *flow.Inquiry) error {
	t, err := tracer.New(tracer.Config{Snapshot: true, Version: version})
	if err != nil {
		return err
	}
	defer t.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := &keeper{ports: q.Targets}
	go func() { // ends with the snapshot, or with ctx
		select {
		case <-t.Ready():
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := t.Run(ctx, k); err != nil {
		return err
	}
	q.Looked, q.Live, q.Now = true, k.records, time.Now()
	return nil
}

// keeper keeps what there was of some ports before tracing began.
type keeper struct {
	ports   []flow.Target
	records []*flow.Record
}

// Write keeps a copy.
func (k *keeper) Write(r *flow.Record) error {
	if r.Preexisting && k.concerns(r) && r.Event != "release" && r.Event != "close" {
		k.records = append(k.records, r.Clone())
	}
	return nil
}

// Flush has nothing to do.
func (*keeper) Flush() error { return nil }

func (k *keeper) concerns(r *flow.Record) bool {
	return slices.ContainsFunc(k.ports, func(t flow.Target) bool {
		return r.Port == t.Port || r.Conn != nil && r.Conn.Client.Port == t.Port
	})
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
	var lines []string
	for l, err := range store.Lines(ctx, history.Query{Ports: ports}) {
		if err != nil {
			return err
		}
		lines = append(lines, l.Text)
	}
	if over := len(lines) - maxRecalled; over > 0 {
		lines, q.LeftOut = lines[over:], uint64(over)
	}
	for l, err := range store.Lines(ctx, history.Query{Events: []string{"start", "stop"}}) {
		if err != nil {
			return err
		}
		lines = append(lines, l.Text)
	}
	for _, text := range lines {
		r, err := output.Parse([]byte(text))
		if err != nil {
			return err
		}
		q.Past = append(q.Past, r)
	}
	return nil
}
