// SPDX-License-Identifier: Apache-2.0

package history

import (
	"maps"
	"net/netip"
	"slices"
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
	// tellEvery is how often counts of the interval under way are written, for kill -9 to find them safe within a second.
	// While the disk is behind, tellSeldom.
	tellEvery  = 300 * time.Millisecond
	tellSeldom = 2 * time.Second
	// maxAlike bounds an interval's counts that are told apart by address, namespace, user and the like, for a flood to
	// each address of 127.0.0.0/8 to cost bounded disk. Those past it are counted by the rate's key alone.
	maxAlike = 1000
)

// rateKey is what the rate goes by.
type rateKey struct {
	client string
	port   uint16
	proto  uint16
	errno  int32
}

// foldKey is what is counted together: connections that a filter or a question does not tell apart, but for processes.
type foldKey struct {
	rateKey
	netns           uint32
	address         netip.Addr
	clients         party
	servers         party
	knows, isPicked bool // whether the kernel picked the client's port
}

// party is what the processes of one end have in common.
type party struct {
	comm, exe string
	hasUser   bool
	uid       uint32
	owner     string
	container flow.Container
}

func partyOf(a flow.Actor) party {
	p := a.P
	if p == nil {
		return party{}
	}
	return party{p.Comm, p.ExeName, p.PID != 0 && !a.Short, p.UID, p.Owner, p.Container}
}

func (p party) program() flow.Program {
	return flow.Program{Comm: p.comm, ExeName: p.exe, HasUser: p.hasUser, UID: p.uid, Owner: p.owner, Container: p.container}
}

// fold counts the connections that are too many to be kept one by one. It is for one goroutine.
type fold struct {
	over   int       // how many are kept
	began  time.Time // of this interval
	seen   map[rateKey]int
	folded map[foldKey]*count
	open   map[uint64]*foldKey // connections whose connect was folded
	made   int64               // how many counts there were
	said   time.Time           // when those under way were written last
}

// count is the record of an interval, in the making.
type count struct {
	number  int64 // of this process, from 1 on
	news    bool  // since it was written last
	key     *foldKey
	record  *flow.Record
	clients one
	servers one
}

// one is the process that all were of.
type one struct {
	p    *flow.Process
	many bool // there is none
}

func (f *fold) init() {
	f.over = foldOver
	f.seen = map[rateKey]int{}
	f.folded = map[foldKey]*count{}
	f.open = map[uint64]*foldKey{}
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
			f.closed(key, r)
		}
		return folded
	}
	rate := rateKey{port: r.Port, proto: r.Proto, errno: r.Errno}
	if p := r.Conn.Client.Process.P; p != nil {
		rate.client = p.Comm
	}
	if f.seen[rate]++; f.seen[rate] <= f.over || len(f.open) >= maxFolded {
		return false
	}
	key := f.connected(rate, r)
	if !r.Failed() {
		f.open[r.ID] = key
	}
	return true
}

// connected counts a connect in the interval at hand, and says with what it is counted.
func (f *fold) connected(rate rateKey, r *flow.Record) *foldKey {
	c := r.Conn
	key := foldKey{
		rateKey: rate, netns: r.Netns, address: c.Server.Address, clients: partyOf(c.Client.Process), servers: partyOf(c.Server.Process),
		knows: c.HasEphemeral, isPicked: c.Ephemeral,
	}
	if f.folded[key] == nil && len(f.folded) >= maxAlike {
		key = foldKey{rateKey: rate, clients: party{comm: rate.client}}
	}
	n := f.of(&key, r)
	n.record.Summary.Count++
	n.clients.met(c.Client.Process.P)
	n.servers.met(c.Server.Process.P)
	return n.key
}

// closed adds a close's bytes to the interval at hand, which may be a later one than its connect's.
func (f *fold) closed(key *foldKey, r *flow.Record) {
	n := f.of(key, r)
	n.clients.met(r.Conn.Client.Process.P)
	n.servers.met(r.Conn.Server.Process.P)
	if c := r.Conn; c.HasBytes {
		s := n.record.Summary
		s.HasBytes, s.C2S, s.S2C = true, s.C2S+c.C2S, s.S2C+c.S2C
	}
}

func (f *fold) of(key *foldKey, r *flow.Record) *count {
	n := f.folded[*key]
	if n == nil {
		f.made++
		n = &count{number: f.made, key: key, record: &flow.Record{
			Event: "summary", Level: r.Level, Errno: key.errno, Proto: key.proto, Port: key.port, HasPort: true, Netns: key.netns,
			Summary: &flow.SummaryRecord{
				First: r.Time, Last: r.Time, Address: key.address, HasEphemeral: key.knows, Ephemeral: key.isPicked,
				Client: key.clients.program(), Server: key.servers.program(),
			},
		}}
		f.folded[*key] = n
	}
	n.news = true
	s := n.record.Summary
	if r.Time.Before(s.First) {
		s.First = r.Time
	}
	if r.Time.After(s.Last) {
		s.Last = r.Time
	}
	return n
}

// met leaves out the process where there are several, or one that is not known.
func (o *one) met(p *flow.Process) {
	switch {
	case o.many:
	case p == nil, o.p != nil && (o.p.PID != p.PID || o.p.Start != p.Start):
		o.p, o.many = nil, true
	case o.p == nil:
		o.p = &flow.Process{ProcessID: p.ProcessID, Created: p.Created, Comm: p.Comm, ExeName: p.ExeName}
	}
}

// due gives the interval's counts when it is over.
func (f *fold) due(now time.Time) []*count {
	if f.began.IsZero() {
		f.began = now
	}
	if d := now.Sub(f.began); d >= 0 && d < foldEvery { // a clock that was stepped back ends it, too
		return nil
	}
	f.began = now
	return f.all()
}

// all ends the interval.
func (f *fold) all() []*count {
	clear(f.seen)
	list := slices.Collect(maps.Values(f.folded))
	clear(f.folded)
	return list
}

// underWay gives the counts that have news, from time to time.
func (f *fold) underWay(now time.Time) (list []*count) {
	every := tellEvery
	if f.over != foldOver {
		every = tellSeldom
	}
	if d := now.Sub(f.said); d >= 0 && d < every {
		return nil
	}
	f.said = now
	for _, n := range f.folded {
		if n.news {
			n.news = false
			list = append(list, n)
		}
	}
	return list
}

// told is the record with what is known so far. Its time is that of the last that it counts.
func (n *count) told() *flow.Record {
	r := n.record
	r.Time = r.Summary.Last
	r.Summary.Client.P, r.Summary.Server.P = n.clients.p, n.servers.p
	return r
}
