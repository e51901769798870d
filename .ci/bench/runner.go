// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// runner is a load that waits for orders, in a network namespace of its own.
type runner struct {
	pid   int // of the server
	netns uint64
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
}

// startLoad returns when the server listens.
func startLoad(load string, args ...string) (*runner, error) {
	r := &runner{cmd: exec.Command("/proc/self/exe", append([]string{serverCommand, load}, args...)...)}
	r.cmd.Stderr = os.Stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.out = bufio.NewReader(out)
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	r.pid = r.cmd.Process.Pid
	if _, err := r.out.ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("start load: %w", err), r.stop())
	}
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", r.pid), &st); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	r.netns = st.Ino
	return r, nil
}

// run has the load done for so long, at a rate in operations a second; 0: as fast as it goes.
func (r *runner) run(length time.Duration, rate float64) (did run, err error) {
	err = r.order(&did, "run %s %g\n", length, rate)
	return did, err
}

// hold has so many connections open.
func (r *runner) hold(n int) error { return r.order(&n, "hold %d\n", n) }

func (r *runner) order(answer any, format string, args ...any) error {
	if _, err := fmt.Fprintf(r.in, format, args...); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return json.Unmarshal(line, answer)
}

// stop ends both processes, and with them the namespace.
func (r *runner) stop() error {
	_ = r.in.Close()
	return r.cmd.Wait()
}

// cpuOf gives the CPU time of a process so far, to the nanosecond: its clock is one of clock_getcpuclockid(3).
func cpuOf(pid int) time.Duration {
	const cpuClockSched = 2
	var ts unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|cpuClockSched), &ts) != nil {
		return 0 // it is gone
	}
	return time.Duration(ts.Nano())
}
