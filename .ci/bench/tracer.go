// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
)

// started is a tool that runs.
type started struct {
	tool   *tool
	cmd    *exec.Cmd
	path   string // of its output
	stderr bytes.Buffer
	began  time.Time
	spent  time.Duration // CPU, before it was ready
}

// unableError says that a tool cannot run here, in its own words.
type unableError struct{ last string }

func (e *unableError) Error() string { return e.last }

// start returns when the tool traces. Its output goes to a file in dir.
func (t *tool) start(load *runner, dir string) (*started, error) {
	s := &started{tool: t, cmd: t.command(load), path: filepath.Join(dir, "out")}
	out, err := os.Create(s.path)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	s.cmd.Stdout, s.cmd.Stderr = out, &s.stderr
	s.began = time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if err := s.await(); err != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		lines := strings.Split(strings.TrimSpace(s.stderr.String()), "\n")
		return nil, &unableError{fmt.Sprintf("%v: %s", err, lines[len(lines)-1])}
	}
	s.spent = cpuOf(s.cmd.Process.Pid)
	return s, nil
}

const (
	readyLimit = 30 * time.Second
	// settleTime is for tools that do not say when they are ready, from when their programs are there.
	settleTime = time.Second
	// quietTime is for tools without programs.
	quietTime = 4 * time.Second
)

var errEnded = errors.New("it ended")

// await returns when the tool traces: some say so, of others one sees their programs.
func (s *started) await() error {
	exe := fmt.Sprintf("/proc/%d/exe", s.cmd.Process.Pid) // gone with the process, though nobody waited for it
	for time.Since(s.began) < readyLimit {
		time.Sleep(5 * time.Millisecond)
		if _, err := os.Readlink(exe); err != nil {
			return errEnded
		}
		if s.tool.ready != "" {
			text, err := s.head()
			if err != nil || bytes.Contains(text, []byte(s.tool.ready)) {
				return err
			}
			continue
		}
		if s.tool.quiet && time.Since(s.began) > quietTime {
			return nil
		}
		if len(programs(s.cmd.Process.Pid)) > 0 {
			time.Sleep(settleTime)
			if _, err := os.Readlink(exe); err != nil {
				return errEnded // it could load and not attach
			}
			return nil
		}
	}
	return fmt.Errorf("not ready within %v", readyLimit)
}

// head is what the tool wrote first.
func (s *started) head() ([]byte, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 4096))
}

// stopLimit is how long a tool may take to write what it has.
const stopLimit = 20 * time.Second

// stop interrupts the tool, waits for it, and gives its peak of memory in bytes.
func (s *started) stop() int64 {
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	late := time.AfterFunc(stopLimit, func() {
		fmt.Fprintf(os.Stderr, "%s does not end: killed\n", s.tool.name)
		_ = s.cmd.Process.Kill()
	})
	defer late.Stop()
	_ = s.cmd.Wait() // some exit with 130
	return s.cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
}

// bpfCost is what BPF programs took.
type bpfCost struct {
	Time time.Duration
	Runs uint64
}

func (a bpfCost) minus(b bpfCost) bpfCost { return bpfCost{a.Time - b.Time, a.Runs - b.Runs} }

// bpf sums up what the tool's programs took while the kernel counted (bpf(2), BPF_ENABLE_STATS).
func (s *started) bpf() (sum bpfCost) {
	for id := range programs(s.cmd.Process.Pid) {
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone by now
		}
		if stats, err := p.Stats(); err == nil {
			sum.Time += stats.Runtime
			sum.Runs += stats.RunCount
		}
		p.Close()
	}
	return sum
}

// programs gives those that a process has open, or attached by a link that it has open.
func programs(pid int) map[ebpf.ProgramID]bool {
	all := map[ebpf.ProgramID]bool{}
	infos, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, info := range infos {
		text, _ := os.ReadFile(info) // a descriptor may be closed by now
		for line := range strings.Lines(string(text)) {
			var id uint32
			if n, _ := fmt.Sscanf(line, "prog_id:\t%d", &id); n == 1 {
				all[ebpf.ProgramID(id)] = true
			}
		}
	}
	return all
}

// mapMemory sums up what the kernel has for the maps of a process, in bytes.
func mapMemory(pid int) (sum int64) {
	infos, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, info := range infos {
		text, _ := os.ReadFile(info)
		if !bytes.Contains(text, []byte("map_type:")) {
			continue
		}
		for line := range strings.Lines(string(text)) {
			var n int64
			if k, _ := fmt.Sscanf(line, "memlock:\t%d", &n); k == 1 {
				sum += n
			}
		}
	}
	return sum
}
