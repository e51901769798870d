// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"slices"
	"time"

	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

// defaultStore is where looptrace record writes.
const defaultStore = "/var/lib/looptrace/history.db"

func (p *parser) storePath() string {
	if !p.isSet("store") {
		return defaultStore
	}
	path := p.text("store")
	if path == "" {
		p.fail("--store PATH", "--store needs a path")
	}
	return path
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
