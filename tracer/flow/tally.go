// SPDX-License-Identifier: Apache-2.0

package flow

import "time"

// TallyKey is what the kernel side counts connections by. It has the layout of its C twin in
// bpf/event.h.
type TallyKey struct {
	Client [16]byte
	Server [16]byte
	Error  int32
	Port   uint16
	_      uint16
}

// Slots of a Tally: four to each power of two, the first up to 1.28 us.
const (
	tallyShift = 10
	tallySlots = 96
)

// Tally is what the kernel side counted of connections that ended.
type Tally struct {
	Count       uint64
	C2S         uint64
	S2C         uint64
	Longest     uint64
	First       uint64
	Last        uint64
	Client      ProcessID
	Server      ProcessID
	ManyClients uint32
	ManyServers uint32
	Slots       [tallySlots]uint32
}

// Summarize writes a summary record for each tally of an interval, and for the UDP flows that were
// told since the last one, which user space counts.
func (t *Table) Summarize(keys []TallyKey, tallies []Tally, at uint64) {
	t.now = at
	for i := range keys {
		s := &SummaryRecord{
			Client: t.program(keys[i].Client, tallies[i].Client, tallies[i].ManyClients != 0),
			Server: t.program(keys[i].Server, tallies[i].Server, tallies[i].ManyServers != 0),
			Count:  tallies[i].Count, HasBytes: keys[i].Error == 0, C2S: tallies[i].C2S, S2C: tallies[i].S2C,
			First: t.wall(tallies[i].First), Last: t.wall(tallies[i].Last),
		}
		if keys[i].Error == 0 {
			s.Handshake = tallies[i].handshake()
		}
		t.emitSummary(s, TCP, keys[i].Port, keys[i].Error, at)
	}
	for key, s := range t.datagrams {
		t.emitSummary(s, UDP, key.port, key.errno, at)
	}
	clear(t.datagrams)
}

func (t *Table) emitSummary(s *SummaryRecord, proto, port uint16, errno int32, at uint64) {
	r := t.begin("summary", at)
	r.Proto, r.Port, r.HasPort, r.Errno, r.Summary = proto, port, true, errno, s
	if errno != 0 {
		r.Level = Warn
	}
	t.counts.add(r.Event)
	t.cfg.Emit(r)
}

// program names one end of the connections. Of several processes it is what they have in common.
func (t *Table) program(name [16]byte, id ProcessID, several bool) Program {
	p := t.procs.find(id)
	if p == nil {
		return Program{Comm: cString(name[:])}
	}
	prog := Program{Comm: cString(name[:]), ExeName: p.ExeName}
	if prog.Comm == "" {
		prog.Comm = p.Comm
	}
	if !several {
		prog.P = p
	}
	return prog
}

// handshake gives the percentiles. A value is the upper end of its slot: at most 25 % too long.
func (t *Tally) handshake() Handshake {
	var total uint64
	for _, n := range t.Slots {
		total += uint64(n)
	}
	at := func(percent uint64) time.Duration {
		rank, seen := (total*percent+99)/100, uint64(0)
		for i, n := range t.Slots {
			if seen += uint64(n); seen >= rank && n > 0 {
				return min(slotEnd(i), time.Duration(t.Longest))
			}
		}
		return time.Duration(t.Longest)
	}
	return Handshake{P50: at(50), P90: at(90), P99: at(99), Max: time.Duration(t.Longest)}
}

// slotEnd is where a slot ends: slot_of in bpf/tally.h, backwards.
func slotEnd(slot int) time.Duration {
	return time.Duration(4+slot%4+1) << (slot/4 + tallyShift - 2)
}

type datagramKey struct {
	client, server string
	port           uint16
	errno          int32
}

// tallyFlow counts a UDP flow instead of writing its record.
func (t *Table) tallyFlow(r *Record) {
	c := r.Conn
	client, server := endProgram(c.Client.Process), endProgram(c.Server.Process)
	key := datagramKey{client.Comm, server.Comm, r.Port, r.Errno}
	s := t.datagrams[key]
	if s == nil {
		s = &SummaryRecord{Client: client, Server: server, First: r.Time}
		t.datagrams[key] = s
	}
	s.Count++
	s.Client.merge(client)
	s.Server.merge(server)
	if r.Time.Before(s.First) {
		s.First = r.Time
	}
	if r.Time.After(s.Last) {
		s.Last = r.Time
	}
}

func endProgram(a Actor) Program {
	if a.P == nil {
		return Program{}
	}
	return Program{Comm: a.P.Comm, ExeName: a.P.ExeName, P: a.P}
}

func (p *Program) merge(other Program) {
	if p.P != other.P {
		p.P = nil
	}
}
