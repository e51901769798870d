// SPDX-License-Identifier: Apache-2.0

package history

import (
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

const (
	// foldEvery is the interval of what is folded.
	foldEvery = 10 * time.Second
	// foldOver is how many connections, or failures, of one client program to one port with one outcome are kept
	// one by one in an interval. Fewer hides who came when; more costs disk in a flood.
	foldOver = 1000
	// The same while the disk is behind, and while the queue for it is half full: to count is better than to lose. What
	// comes seldom, as health checks do, is still kept.
	foldOverBehind = 100
	foldOverFull   = 10
	// maxFolded bounds the folded connections that are open. Those past it are kept.
	maxFolded = 65536
)

// foldKey is what is counted together.
type foldKey struct {
	client string
	port   uint16
	proto  uint16
	errno  int32
}

// fold counts the connections that are too many to be kept one by one. It is for one goroutine.
type fold struct {
	over   int       // how many are kept
	began  time.Time // of this interval
	seen   map[foldKey]int
	folded map[foldKey]*flow.Record
	open   map[uint64]foldKey // connections whose connect was folded
}

func (f *fold) init() {
	f.over = foldOver
	f.seen = map[foldKey]int{}
	f.folded = map[foldKey]*flow.Record{}
	f.open = map[uint64]foldKey{}
}

// takes says whether a record is counted in place of being kept.
func (f *fold) takes(r *flow.Record) bool {
	if r.Conn == nil || r.Preexisting {
		return false
	}
	if r.Event != "connect" {
		key, folded := f.open[r.ID]
		if folded && r.Event == "close" {
			delete(f.open, r.ID)
			f.add(key, r, 0)
		}
		return folded
	}
	key := foldKey{port: r.Port, proto: r.Proto, errno: r.Errno}
	if p := r.Conn.Client.Process.P; p != nil {
		key.client = p.Comm
	}
	if f.seen[key]++; f.seen[key] <= f.over || len(f.open) >= maxFolded {
		return false
	}
	if !r.Failed() {
		f.open[r.ID] = key
	}
	f.add(key, r, 1)
	return true
}

// add counts a connect, or the bytes of a close, in the interval at hand.
func (f *fold) add(key foldKey, r *flow.Record, count uint64) {
	sum := f.folded[key]
	if sum == nil {
		sum = &flow.Record{
			Event: "summary", Level: r.Level, Errno: key.errno, Proto: key.proto, Port: key.port, HasPort: true,
			Summary: &flow.SummaryRecord{First: r.Time, Client: program(r.Conn.Client.Process.P), Server: program(r.Conn.Server.Process.P)},
		}
		f.folded[key] = sum
	}
	s := sum.Summary
	s.Count += count
	s.Client = same(s.Client, r.Conn.Client.Process.P)
	s.Server = same(s.Server, r.Conn.Server.Process.P)
	if r.Conn.HasBytes {
		s.HasBytes, s.C2S, s.S2C = true, s.C2S+r.Conn.C2S, s.S2C+r.Conn.S2C
	}
	s.Last = r.Time
}

// program names one end, with the process as long as it is the only one.
func program(p *flow.Process) flow.Program {
	if p == nil {
		return flow.Program{}
	}
	one := flow.Process{ProcessID: p.ProcessID, Created: p.Created}
	return flow.Program{Comm: p.Comm, ExeName: p.ExeName, P: &one}
}

// same leaves out the process, or the program, where there are several.
func same(known flow.Program, p *flow.Process) flow.Program {
	if p == nil {
		return known
	}
	switch {
	case known.Comm == "":
		return program(p)
	case known.Comm != p.Comm || known.ExeName != p.ExeName:
		return flow.Program{}
	case known.P != nil && known.P.ProcessID != p.ProcessID:
		known.P = nil
	}
	return known
}

// due gives the interval's counts when it is over.
func (f *fold) due(now time.Time) []*flow.Record {
	if f.began.IsZero() {
		f.began = now
	}
	if d := now.Sub(f.began); d >= 0 && d < foldEvery { // a clock that was stepped back ends it, too
		return nil
	}
	f.began = now
	return f.all(now)
}

// all ends the interval. Its end is the time of its records.
func (f *fold) all(end time.Time) []*flow.Record {
	clear(f.seen)
	var list []*flow.Record
	for _, r := range f.folded {
		r.Time = end
		list = append(list, r)
	}
	clear(f.folded)
	return list
}
