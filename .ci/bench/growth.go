// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"
)

// growth is how looptrace's costs grow with what there is.
type growth struct {
	Machine   machine
	Conns     []step // by connections that are open meanwhile
	Processes []step // by processes that connect
	Snapshot  []opening
}

// step is a load beside so many.
type step struct {
	Of    int
	Turns []turn
}

// opening is one start beside many sockets.
type opening struct {
	Sockets int
	Took    time.Duration // from exec until the start record and all of the snapshot are written
}

var (
	growConns     = []int{1, 100, 10000, 100000}
	growProcesses = []int{1, 100, 10000}
)

const (
	// growRate is what 10,000 processes still manage on two processors.
	growRate = 2000
	// snapshotConns have 100,000 sockets.
	snapshotConns = 50000
)

func (b *bench) growth(into *results) error {
	g := &growth{Machine: b.machine}
	ours := b.tools[slices.IndexFunc(b.tools, func(t tool) bool { return t.name == stream })]
	for _, n := range growConns {
		p := plan{load: churn, length: b.length, rate: growRate, held: n}
		s, err := b.step(&ours, n, p)
		if err != nil {
			return fmt.Errorf("%d connections: %w", n, err)
		}
		g.Conns = append(g.Conns, s)
	}
	for _, n := range growProcesses {
		s, err := b.step(&ours, n, plan{load: crowd, args: []string{b.crowd, strconv.Itoa(n)}, length: b.length, rate: growRate})
		if err != nil {
			return fmt.Errorf("%d processes: %w", n, err)
		}
		g.Processes = append(g.Processes, s)
	}
	for range b.rounds {
		for _, conns := range []int{0, snapshotConns} {
			o, err := b.opening(conns)
			if err != nil {
				return fmt.Errorf("snapshot: %w", err)
			}
			fmt.Fprintf(os.Stderr, "snapshot of %d sockets: after %v\n", o.Sockets, o.Took)
			g.Snapshot = append(g.Snapshot, o)
		}
	}
	into.Growth = g
	return nil
}

func (b *bench) step(t *tool, n int, p plan) (step, error) {
	s := step{Of: n}
	for round := range b.rounds {
		got, err := t.take(p)
		if err != nil {
			return step{}, err
		}
		fmt.Fprintf(os.Stderr, "%d: ", n)
		progress(p, round, t, got)
		s.Turns = append(s.Turns, got)
	}
	return s, nil
}

// opening starts looptrace beside connections and waits for the last of them in its output.
func (b *bench) opening(conns int) (opening, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return opening{}, err
	}
	defer os.RemoveAll(dir)
	load, err := startLoad(churn)
	if err != nil {
		return opening{}, err
	}
	defer load.stop()
	if err := load.hold(conns); err != nil {
		return opening{}, err
	}
	t := tool{name: stream, argv: []string{b.binary, "-o", "json"}, ready: `"event":"start"`, ours: true}
	s, err := t.start(load, dir)
	if err != nil {
		return opening{}, err
	}
	defer s.stop()
	f, err := os.Open(s.path)
	if err != nil {
		return opening{}, err
	}
	defer f.Close()
	for c := (counter{mark: ofLoad(load), event: []byte(`"event":"connect"`)}); ; time.Sleep(5 * time.Millisecond) {
		if _, err := io.Copy(&c, f); err != nil {
			return opening{}, err
		}
		if took := time.Since(s.began); c.n >= conns {
			return opening{Sockets: 2 * conns, Took: took}, nil
		} else if took > readyLimit {
			return opening{}, fmt.Errorf("%d of %d connections after %v", c.n, conns, took)
		}
	}
}
