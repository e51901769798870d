// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// turn is one run of a load, alone or under a tool. The page is made of these: they are kept as they are.
type turn struct {
	Run  run
	Cost *cost `json:",omitempty"` // nil: untraced
}

// cost is what the tool took. The load runs twice under it: BPF programs are timed in the second, shorter run, since
// that costs 50 ns each time, which would weigh on the tools that have many.
type cost struct {
	Made   run // both runs together
	Seen   int // of the connections made; -1: it sees none of this kind
	CPU    time.Duration
	Memory int64 // the peak, bytes
	Maps   int64 // bytes that the kernel has for the tool's maps

	Counted run // the run with the programs timed
	BPF     bpfCost
}

// rate is in operations a second.
func (t turn) rate() float64 { return float64(t.Run.Ops) / t.Run.Length.Seconds() }

func (r run) plus(o run) run {
	return run{r.Ops + o.Ops, r.Conns + o.Conns, r.Length + o.Length, r.CPU + o.CPU}
}

// lost is how many of the connections the tool did not write; -1: not known.
func (c *cost) lost() int {
	if c.Seen < 0 {
		return -1
	}
	return max(c.Made.Conns-c.Seen, 0)
}

// plan is how a turn is taken.
type plan struct {
	load   string
	args   []string // of the load
	length time.Duration
	rate   float64
	held   int // connections that are open meanwhile, and begin once the tool is ready
}

// take runs a load under the tool.
func (t *tool) take(p plan) (got turn, err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return turn{}, err
	}
	defer os.RemoveAll(dir)
	load, err := startLoad(p.load, p.args...)
	if err != nil {
		return turn{}, err
	}
	defer func() { err = errors.Join(err, load.stop()) }()
	if t.argv == nil {
		got.Run, err = load.run(p.length, p.rate)
		return got, err
	}
	s, err := t.start(load, dir)
	if err != nil {
		return turn{}, err
	}
	got.Cost = &cost{Seen: -1}
	if p.held > 0 {
		if err := load.hold(p.held); err != nil {
			s.stop()
			return turn{}, err
		}
		time.Sleep(2 * time.Second) // what that made the tool do is not the load's
		s.spent = cpuOf(s.cmd.Process.Pid)
	}
	got.Run, err = load.run(p.length, p.rate)
	if err == nil && p.load != idle {
		err = got.Cost.count(s, load, p)
	}
	got.Cost.Maps = mapMemory(s.cmd.Process.Pid)
	got.Cost.Made = got.Run.plus(got.Cost.Counted)
	got.Cost.CPU = cpuOf(s.cmd.Process.Pid) - s.spent // what stopping takes is no load's
	got.Cost.Memory = s.stop()
	if err != nil {
		return turn{}, err
	}
	return got, got.Cost.look(s, load, p.load)
}

// count runs the load again, for half as long, while the kernel times each run of a BPF program.
func (c *cost) count(s *started, load *runner, p plan) error {
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return fmt.Errorf("enable statistics of BPF programs: %w", err)
	}
	defer stats.Close()
	before := s.bpf()
	if c.Counted, err = load.run(p.length/2, p.rate); err != nil {
		return err
	}
	c.BPF = s.bpf().minus(before)
	time.Sleep(time.Second) // what is under way is still its turn
	return nil
}

// look counts what the tool wrote of the load.
func (c *cost) look(s *started, load *runner, name string) error {
	count := s.tool.sees(name)
	if count == nil {
		return nil
	}
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if c.Seen, err = count(f, load); err != nil {
		return fmt.Errorf("read what %s wrote: %w", s.tool.name, err)
	}
	if name == far && s.tool.ours && c.Seen > 0 {
		return fmt.Errorf("%d records of connections that are not on loopback", c.Seen)
	}
	return nil
}
