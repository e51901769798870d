// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/tracer/flow"
)

// answer asks the kernel's tables what the model wants to know, off the reader's way: they take
// milliseconds a thousand sockets. One question at a time.
func (t *Tracer) answer(now uint64) {
	if t.fresh != nil && t.drained {
		t.table.Answer(t.fresh)
		t.fresh, t.asking = nil, false
	}
	select {
	case t.fresh = <-t.answered: // used once the ring is read up to it
	default:
	}
	if t.asking {
		return
	}
	question := t.table.WantsAnswer(now)
	if question == nil {
		return
	}
	t.asking = true
	go func() { t.answered <- t.askAll(question) }() // ends with the walks; lastAnswer waits for it
}

// lastAnswer serves what still waits as tracing ends.
func (t *Tracer) lastAnswer() {
	if t.fresh != nil {
		t.table.Answer(t.fresh)
	} else if t.asking {
		t.table.Answer(<-t.answered)
	}
	if question := t.table.WantsAnswer(math.MaxUint64); question != nil {
		t.table.Answer(t.askAll(question))
	}
}

func (t *Tracer) askAll(question flow.Question) []*flow.Answer {
	answers := make([]*flow.Answer, 0, len(question))
	for _, asked := range question {
		answers = append(answers, t.ask(asked))
	}
	return answers
}

// ask walks the tables of one network namespace. What cannot be read is left out: the answer then
// explains less.
func (t *Tracer) ask(asked flow.Asked) *flow.Answer {
	a := &flow.Answer{Netns: asked.Netns, Time: boottime()}
	take := func(row []byte) {
		if h, err := heldRow(row); err == nil && h.Netns == asked.Netns {
			a.Rows = append(a.Rows, *h)
		}
	}
	if err := t.hooks.coll.Variables["asked_netns"].Set(asked.Netns); err == nil {
		_ = t.hooks.rows("it_held", heldSize, take)
	}
	from := monotonic()
	inNetns(asked, func() {
		_ = t.hooks.rows("it_tcp", heldSize, take)
		if _, err := fmt.Sscan(firstLine("/proc/sys/net/ipv4/ip_local_port_range"), &a.Low, &a.High); err != nil {
			a.Low, a.High = 0, 0
		}
	})
	for i := range a.Rows {
		if jiffies := a.Rows[i].Jiffies; jiffies != 0 {
			a.Jiffy = jiffyOf(jiffies, from, monotonic())
			break
		}
	}
	a.Index()
	return a
}

// inNetns runs f in a network namespace, if it can be entered: it has to be ours or one that a
// process is in, and entering takes CAP_SYS_ADMIN (setns(2)). The goroutine may end up locked to its thread.
func inNetns(asked flow.Asked, f func()) {
	if netnsOf("thread-self") == asked.Netns {
		f()
		return
	}
	path, ok := netnsFile(asked)
	if !ok {
		return
	}
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return
	}
	defer home.Close()
	if ns, err := os.Open(path); err == nil {
		defer ns.Close()
		if unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET) == nil && netnsOf("thread-self") == asked.Netns {
			f()
		}
	}
	// A thread that cannot go back stays locked, and ends with this goroutine.
	if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
}

// netnsFile finds a process in the namespace: the one that asked, else any.
func netnsFile(asked flow.Asked) (path string, ok bool) {
	if pid := fmt.Sprint(asked.PID); netnsOf(pid) == asked.Netns {
		return "/proc/" + pid + "/ns/net", true
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return "", false
	}
	for _, e := range entries {
		if name := e.Name(); name[0] >= '0' && name[0] <= '9' && netnsOf(name) == asked.Netns {
			return "/proc/" + name + "/ns/net", true
		}
	}
	return "", false
}

// netnsOf gives the inode number of a process's network namespace, 0 where it cannot be seen.
func netnsOf(pid string) uint32 {
	var st unix.Stat_t
	if unix.Stat("/proc/"+pid+"/ns/net", &st) != nil {
		return 0
	}
	return uint32(st.Ino)
}

// hertz are the values of CONFIG_HZ (kernel/Kconfig.hz, and 1024 of other architectures' configs).
var hertz = [...]uint64{100, 250, 300, 1000, 1024}

// initialJiffies is how long before boot jiffies begin, in seconds, and they wrap first at 32 bits
// (INITIAL_JIFFIES in include/linux/jiffies.h).
const initialJiffies = 300

// How far jiffies may be from the clock that they count, and how much farther those of any other HZ must be.
// Jiffies of every HZ begin at -300 s, so five minutes after boot they are all the same.
const (
	jiffiesOff   = 2 * time.Second
	jiffiesApart = 250 * time.Millisecond
)

// jiffyOf finds the length of a jiffy, which the kernel tells nobody, from the clock that jiffies count: of the
// values that HZ may have, the one that fits. They were read between two moments of CLOCK_MONOTONIC. 0: none
// fits, or more than one.
func jiffyOf(jiffies, from, to uint64) (jiffy time.Duration) {
	best, second := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for _, hz := range hertz {
		ticks := int64(jiffies - uint64(uint32(-initialJiffies*int64(hz))))
		if ticks < 0 {
			continue
		}
		passed := time.Duration(ticks/int64(hz))*time.Second + time.Duration(ticks%int64(hz))*time.Second/time.Duration(hz)
		off := max(time.Duration(from)-passed, passed-time.Duration(to), 0)
		if off < best {
			best, second, jiffy = off, best, time.Second/time.Duration(hz)
		} else {
			second = min(second, off)
		}
	}
	if best > jiffiesOff || second-best < jiffiesApart {
		return 0
	}
	return jiffy
}

// monotonic is CLOCK_MONOTONIC.
func monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock (clock_gettime(2))
	return uint64(ts.Nano())
}
