// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// long is a run of millions of connections: what is lost, and whether memory grows.
type long struct {
	Machine machine
	Run     run
	Seen    int
	CPU     time.Duration
	Peak    int64    // bytes
	Samples []sample // in time
}

// sample is the memory at one moment.
type sample struct {
	Conns  int
	Memory int64 // resident, bytes
}

// longTurn is how often memory is looked at.
const longTurn = 5 * time.Second

// long runs the load until so many connections were made. What looptrace writes goes through a pipe and is counted: on
// disk it would be three kilobytes each.
func (b *bench) long(conns int, into *results) (err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	load, err := startLoad(churn)
	if err != nil {
		return err
	}
	defer load.stop()
	c := &counter{mark: ofLoad(load), event: []byte(`"event":"close"`)}
	counted, err := drain(filepath.Join(dir, "out"), c)
	if err != nil {
		return err
	}
	// Ready when its programs are there: its output is read by another.
	t := tool{name: stream, argv: []string{b.binary, "-o", "json", "--no-snapshot"}, ours: true}
	s, err := t.start(load, dir)
	if err != nil {
		return err
	}
	l := &long{Machine: b.machine}
	for l.Run.Conns < conns && err == nil {
		var did run
		did, err = load.run(longTurn, 0)
		l.Run = l.Run.plus(did)
		l.Samples = append(l.Samples, sample{l.Run.Conns, resident(s.cmd.Process.Pid)})
		fmt.Fprintf(os.Stderr, "long: %d connections, %d MB\n", l.Run.Conns, l.Samples[len(l.Samples)-1].Memory>>20)
	}
	time.Sleep(time.Second)
	l.CPU = cpuOf(s.cmd.Process.Pid) - s.spent
	l.Peak = s.stop()
	if err == nil {
		err = <-counted
	}
	l.Seen, into.Long = c.n, l
	return err
}

// drain reads a named pipe to its end.
func drain(path string, to io.Writer) (<-chan error, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { // ends with the writer
		f, err := os.OpenFile(path, os.O_RDONLY, 0)
		if err != nil {
			done <- err
			return
		}
		defer f.Close()
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, 1<<20) // fewer turns; refused, it works too
		_, err = io.CopyBuffer(to, struct{ io.Reader }{f}, make([]byte, 1<<20))
		done <- err
	}()
	return done, nil
}

// resident gives a process's memory in bytes, 0 where it is gone.
func resident(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	return 0
}

// growth is how much the memory at the end is above that after a tenth of the connections, in bytes.
func (l *long) growth() int64 {
	for _, s := range l.Samples {
		if s.Conns >= l.Run.Conns/10 {
			return l.Samples[len(l.Samples)-1].Memory - s.Memory
		}
	}
	return 0
}
