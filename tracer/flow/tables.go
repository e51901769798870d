// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"slices"
	"time"
)

// What the kernel's own tables say, asked where the ledger cannot explain a failure for sure: a
// holder that was there before tracing, a connection to another host, TIME_WAIT, a range of ports
// that is used up. The failed calls wait meanwhile, in doubt.
const (
	askEvery  = uint64(100 * time.Millisecond) // the tables are long, and failures come in storms
	answerAge = uint64(50 * time.Millisecond)  // how old an answer may be when a call fails
	maxDoubt  = 140 * time.Millisecond         // after that a record goes out without
	maxDoubts = 4096                           // more than these go out without at once
)

// Question asks for the kernel's tables of network namespaces.
type Question []Asked

// Asked is a network namespace, and a process that was in it a moment ago.
type Asked struct{ Netns, PID uint32 }

// Answer is what the tables of one network namespace said.
type Answer struct {
	Netns     uint32
	Time      uint64 // CLOCK_BOOTTIME when the walk began
	Rows      []HeldRow
	Low, High uint16        // ip_local_port_range; 0, 0: not known
	Jiffy     time.Duration // 0: not known

	byPort map[heldKey][]*HeldRow
	ranges map[rangeKey]*EphemeralPorts // counted once for all that ask
}

type heldKey struct{ proto, port uint16 }

// Index prepares an answer for Table.Answer. It may run in another goroutine.
func (a *Answer) Index() {
	a.byPort = make(map[heldKey][]*HeldRow)
	for i := range a.Rows {
		row := &a.Rows[i]
		key := heldKey{row.Proto, row.LPort}
		a.byPort[key] = append(a.byPort[key], row)
	}
}

// doubt is a failed call that waits for an answer: a bind or listen, or a connect.
type doubt struct {
	sock   SockEvent
	holder *Holder // what was held against it at that moment
	way    HeldRow // by the kernel's bind table; Sock 0: by the ledger
	conn   *conn
}

func (d *doubt) about() (netns, pid uint32, at uint64) {
	if d.conn != nil {
		return d.conn.ev.Netns, d.conn.ev.Client.PID, d.conn.ev.Time
	}
	return d.sock.Netns, d.sock.Actor.PID, d.sock.Time
}

// wait puts a failure off until the kernel's tables are known; false: nobody answers.
func (t *Table) wait(d doubt) bool {
	if !t.cfg.Asks || len(t.doubts) >= maxDoubts {
		return false
	}
	t.doubts = append(t.doubts, d)
	return true
}

// known gives an answer that serves a call which failed at a time.
func (t *Table) known(netns uint32, at uint64) *Answer {
	if a := t.answers[netns]; a != nil && at < a.Time+answerAge {
		return a
	}
	return nil
}

// answer gives the answer that serves a doubt. Of a range that is used up every port counts: one that is older than
// the call serves if it has them all.
func (t *Table) answer(d *doubt) *Answer {
	netns, _, at := d.about()
	a := t.known(netns, at)
	if a == nil || a.Time >= at {
		return a
	}
	if key, ok := d.aboutRange(); ok {
		if e := t.ephemeralPorts(a, key); e == nil || e.InUse <= int(e.High)-int(e.Low) {
			return nil
		}
	}
	return a
}

// WantsAnswer gives the question that should be asked now, at most ten times a second. Give what
// was found to Answer.
func (t *Table) WantsAnswer(now uint64) Question {
	if len(t.doubts) == 0 || now < t.askedAt+askEvery {
		return nil
	}
	var q Question
	for i := range t.doubts {
		netns, pid, _ := t.doubts[i].about()
		if !slices.ContainsFunc(q, func(a Asked) bool { return a.Netns == netns }) {
			q = append(q, Asked{netns, pid})
		}
	}
	t.askedAt = now
	return q
}

// Answer lets out the failures that waited for it.
func (t *Table) Answer(answers []*Answer) {
	t.answers = make(map[uint32]*Answer, len(answers))
	for _, a := range answers {
		t.answers[a.Netns] = a
	}
	t.resolve(func(d *doubt) bool { return t.answer(d) != nil })
}

// resolve lets out the doubts that ready picks, with the answer that there is.
func (t *Table) resolve(ready func(*doubt) bool) {
	keep := t.doubts[:0]
	for i := range t.doubts {
		d := &t.doubts[i]
		if !ready(d) {
			keep = append(keep, *d)
			continue
		}
		if d.conn != nil {
			d.conn.answer = t.answer(d)
			t.emitConnect(d.conn)
		} else {
			t.tellDoubt(d, t.answer(d))
		}
	}
	clear(t.doubts[len(keep):])
	t.doubts = keep
}

func (t *Table) tellDoubt(d *doubt, a *Answer) {
	if d.way.Sock != 0 {
		t.tellFailed(&d.sock, t.ownInWay(d.holder, &d.way, &d.sock, a), a)
		return
	}
	t.tellFailed(&d.sock, t.judge(d.holder, a, &d.sock, addrOf(d.sock.Addr)), a)
}

// resolveSocket lets out what waits of a socket, before a later record of it.
func (t *Table) resolveSocket(id uint64) {
	if len(t.doubts) > 0 {
		t.resolve(func(d *doubt) bool { return d.conn == nil && d.sock.ID == id })
	}
}
