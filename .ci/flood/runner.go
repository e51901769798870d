// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// runner is the load, in a network namespace of its own, until run.
type runner struct {
	cmd  *exec.Cmd
	gate io.WriteCloser
	out  bytes.Buffer
}

func startLoad(length time.Duration, ports int) (*runner, error) {
	l := &runner{cmd: exec.Command("/proc/self/exe", loadCommand, length.String(), strconv.Itoa(ports))}
	l.cmd.Stdout, l.cmd.Stderr = &l.out, os.Stderr
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	var err error
	if l.gate, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return l, l.cmd.Start()
}

func (l *runner) run() (conns int, length time.Duration, err error) {
	if err := errors.Join(l.gate.Close(), l.cmd.Wait()); err != nil {
		return 0, 0, fmt.Errorf("load: %w", err)
	}
	_, err = fmt.Sscan(l.out.String(), &conns, (*int64)(&length))
	return conns, length, err
}

// cpuOf reads the CPU time of a running process (proc_pid_stat(5), fields 14 and 15, in ticks of 10 ms).
func cpuOf(pid int) time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	var user, system int64
	_, _ = fmt.Sscan(string(fields[11])+" "+string(fields[12]), &user, &system)
	return time.Duration(user+system) * 10 * time.Millisecond
}

func eachLine(r io.Reader, take func([]byte)) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		take(s.Bytes())
	}
	return s.Err()
}
