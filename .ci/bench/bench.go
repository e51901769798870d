// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bench is what the flags ask for.
type bench struct {
	binary  string
	machine machine
	tools   []tool
	rounds  int
	length  time.Duration
	crowd   string // the program of crowd.c
}

// loadRates are those of make bench. Keep-alive is paced: it is what a quiet host does all day.
var loadRates = map[string]float64{churn: 0, keepalive: 10000, udp: 0, far: 0, idle: 0}

// idleTimes is how much longer a turn without load is: with five seconds, a minute.
const idleTimes = 12

// loads measures what tracing costs under each load.
func (b *bench) loads(names []string, into *results) error {
	for _, name := range names {
		if _, ok := loadRates[name]; !ok {
			return fmt.Errorf("no load %q: there are %s", name, strings.Join(everyLoad, ", "))
		}
	}
	for _, name := range names {
		p, rounds := plan{load: name, length: b.length, rate: loadRates[name]}, b.rounds
		if name == idle {
			p.length, rounds = idleTimes*b.length, 1
		}
		s, err := b.series(p, rounds)
		if err != nil {
			return err
		}
		into.Loads[name] = s
	}
	return nil
}

// series takes turns: what the machine does meanwhile happens to all.
func (b *bench) series(p plan, rounds int) (*series, error) {
	s := &series{Machine: b.machine, Rate: p.rate}
	for _, t := range b.tools {
		s.Tools = append(s.Tools, measured{Tool: t.name, Names: t.names, Ours: t.ours})
	}
	for round := range rounds {
		for i := range b.tools {
			i = (i + round) % len(b.tools) // nobody always comes first
			t, m := &b.tools[i], &s.Tools[i]
			if m.Unable != "" || p.load == idle && t.argv == nil {
				continue
			}
			got, err := t.take(p)
			var unable *unableError
			if errors.As(err, &unable) && !t.ours {
				m.Unable = unable.last
				fmt.Fprintf(os.Stderr, "%s cannot run here: %s\n", t.name, m.Unable)
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			m.Turns = append(m.Turns, got)
			progress(p, round, t, got)
		}
	}
	return s, nil
}

func progress(p plan, round int, t *tool, got turn) {
	fmt.Fprintf(os.Stderr, "%s, round %d: %-10s %8.0f/s", p.load, round+1, t.name, got.rate())
	if got.Cost != nil {
		fmt.Fprintf(os.Stderr, ", CPU %v", got.Cost.CPU.Round(time.Millisecond))
		if got.Cost.Seen >= 0 {
			fmt.Fprintf(os.Stderr, ", saw %d of %d", got.Cost.Seen, got.Cost.Made.Conns)
		}
	}
	fmt.Fprintln(os.Stderr)
}

// offered is what becomes of a load that comes at one rate and another.
type offered struct {
	Rates  []float64
	Series []*series // one a rate
}

func (b *bench) offered(rates string, into *results) error {
	o := &offered{}
	for text := range strings.SplitSeq(rates, ",") {
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil || rate <= 0 {
			return fmt.Errorf("no rate %q", text)
		}
		o.Rates = append(o.Rates, rate)
	}
	slices.Sort(o.Rates)
	for _, rate := range o.Rates {
		s, err := b.series(plan{load: churn, length: b.length, rate: rate}, b.rounds)
		if err != nil {
			return err
		}
		o.Series = append(o.Series, s)
	}
	into.Offered = o
	return nil
}

func median[T any](all []T, f func(T) float64) float64 {
	values := each(all, f)
	slices.Sort(values)
	return values[len(values)/2]
}

func each[T any](all []T, f func(T) float64) []float64 {
	var values []float64
	for _, one := range all {
		values = append(values, f(one))
	}
	return values
}
