// SPDX-License-Identifier: Apache-2.0

// Package tracer is the kernel side: it loads and attaches the hooks, takes the snapshot, reads
// the ring and hands finished records to sinks. It needs privileges; Diagnose says which.
package tracer

import (
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/tracer/flow"
)

// Form is a way to hook the kernel.
type Form string

// The forms, best first. Auto takes the first that loads and attaches.
const (
	Auto       Form = "auto"
	Fentry     Form = "fentry"
	Kprobe     Form = "kprobe"
	Tracepoint Form = "tracepoint"
)

// Config says what to trace. The zero Config traces everything on loopback, without reporting what
// was there before.
type Config struct {
	Hooks    Form // "" means Auto
	Filter   flow.Filter
	Snapshot bool                         // report what was there before
	Summary  time.Duration                // count connections, and write the counts as often; 0: write each
	Version  string                       // for the start record
	Filters  map[string]any               // for the start record: the filters in force
	Args     func(argv []string) []string // rewrites command lines (redaction); nil leaves them
	Own      netip.AddrPort               // where this process listens: connections to it are not recorded

	MaxDoubt time.Duration // how long a failure waits for the kernel's tables to explain it; 0: 140 ms
}

// Sink takes finished records. The record is valid during the call only. Flush is called after
// each batch, at most 50 ms after the first record of it.
type Sink interface {
	Write(r *flow.Record) error
	Flush() error
}

// Tracer is a set of live hooks and the model behind them.
type Tracer struct {
	cfg      Config
	hooks    *hooks
	ring     *ringbuf.Reader
	record   ringbuf.Record
	fill     fill
	own      own
	idleFlag *ebpf.Variable
	table    *flow.Table
	clock    clock
	cgroups  map[uint64]bool // those that the kernel side has a verdict on
	ready    chan struct{}

	looking bool // a look at the table of open files is under way
	looked  chan look

	jiffy    time.Duration // 0: not known
	asking   bool          // a walk through the kernel's tables is under way
	answered chan []*flow.Answer
	fresh    []*flow.Answer // came since the ring was read last
	drained  bool           // the last read emptied the ring

	sinks   []Sink
	sinkErr error // the first error of a sink: it ends the run

	summarizeAt uint64 // CLOCK_BOOTTIME

	began     uint64 // CLOCK_BOOTTIME
	checked   uint64 // when losses were looked for
	undecoded uint64
	told      map[string]uint64 // losses that were reported, by place
	lostSince map[string]time.Time
	lost      atomic.Uint64
}

// New loads the programs and attaches every hook. It fails with an UnavailableError where this
// host or these privileges do not allow it.
func New(cfg Config) (_ *Tracer, err error) {
	t := &Tracer{
		cfg:       cfg,
		own:       ownListener(cfg.Own),
		ready:     make(chan struct{}),
		told:      make(map[string]uint64),
		lostSince: make(map[string]time.Time),
		cgroups:   make(map[uint64]bool),
		looked:    make(chan look, 1),
		answered:  make(chan []*flow.Answer, 1),
	}
	t.hooks, err = openHooks(cfg.Hooks, func(spec *ebpf.CollectionSpec) error { return configure(spec, cfg) })
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	t.ring, err = ringbuf.NewReader(t.hooks.coll.Maps["events"])
	if err != nil {
		return nil, fmt.Errorf("map ring buffer: %w", err)
	}
	t.idleFlag = t.hooks.coll.Variables["reader_idle"]
	t.table = flow.New(flow.Config{
		Emit:     t.emit,
		Filter:   cfg.Filter,
		UserName: userName,
		Process:  t.processByPID,
		Args:     cfg.Args,
		Asks:     true,
		Summary:  cfg.Summary > 0,
		MaxDoubt: cfg.MaxDoubt,
		BootTime: t.clock.bootTime(),
	})
	return t, nil
}

// Close takes the hooks off and frees them. It may be called more than once, not during Run.
func (t *Tracer) Close() error {
	if t.ring != nil {
		t.closeRing()
	}
	return t.hooks.Close()
}

// Form gives the hook form in use.
func (t *Tracer) Form() Form { return t.hooks.form }

// Lost gives how many events were lost so far. Safe for concurrent use.
func (t *Tracer) Lost() uint64 { return t.lost.Load() }

// Ready is closed once the start record and the snapshot are with the sinks, also where one of them failed
// to write them: then Run ends right after.
func (t *Tracer) Ready() <-chan struct{} { return t.ready }

// Plant makes a running process the root of the tree that Config.Filter.Tree asks for. Call it
// before Run.
func (t *Tracer) Plant(pid int) error {
	if err := t.hooks.coll.Maps["tree"].Put(uint32(pid), uint32(1)); err != nil {
		return fmt.Errorf("plant process %d: %w", pid, err)
	}
	if p := t.processByPID(uint32(pid)); p != nil {
		t.table.AddProcess(p)
	}
	t.table.Plant(uint32(pid))
	return nil
}

func (t *Tracer) startRecord() *flow.Record {
	host, _ := os.Hostname() // an unnamed host is an empty name
	return &flow.Record{Event: "start", Time: time.Now(), Start: &flow.StartRecord{
		Hooks:   string(t.hooks.form),
		Kernel:  kernelRelease(),
		Version: t.cfg.Version,
		Filters: t.cfg.Filters,
		Host:    host,
		PID:     os.Getpid(),
		BootID:  firstLine("/proc/sys/kernel/random/boot_id"),
	}}
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func firstLine(path string) string {
	raw, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(raw), "\n")
	return line
}

func userName(uid uint32) string {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return ""
	}
	return u.Username
}
