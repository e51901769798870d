// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const untraced = "untraced"

// tool is a tracer: how it is started, how one sees that it is ready, and how many connections are
// in what it wrote.
type tool struct {
	name   string
	argv   []string
	ready  []byte // what it writes when it traces; nil: it is given readyTime
	count  func(io.Reader) (int, error)
	names  bool // it names processes
	inside bool // it sees only the network namespace that it is in
}

// readyTime is for tools that say nothing when they are ready.
const readyTime = 3 * time.Second

func peers(binary string) []tool {
	started := []byte(`"event":"start"`)
	stream := []string{binary, "-o", "json", "--no-snapshot"}
	return []tool{
		{name: untraced},
		{name: "stream", argv: stream, ready: started, count: countCloses, names: true},
		{name: "summary", argv: append(stream[:len(stream):len(stream)], "--summary", "1s"), ready: started, count: countSummaries, names: true},
		{name: "tcplife", argv: []string{"tcplife-bpfcc"}, ready: []byte("PID"), count: halved(" 127.0.0.1 "), names: true},
		{name: "tcpstates", argv: []string{"tcpstates-bpfcc"}, ready: []byte("SKADDR"), count: halved("-> ESTABLISHED"), names: true},
		{name: "bpftrace", argv: []string{"bpftrace", "-e", `BEGIN { printf("ready\n"); } tracepoint:sock:inet_sock_set_state /args->newstate == 1/ { printf("est %s %d %d\n", comm, args->sport, args->dport); }`}, ready: []byte("ready"), count: halved("est "), names: true},
		{name: "tcpdump", argv: []string{"tcpdump", "-i", "lo", "-w", "-"}, inside: true},
	}
}

// turn is one run of the load under a tool.
type turn struct {
	conns    int
	length   time.Duration
	lost     int           // of the connections that the load made; -1: not known
	cpu      time.Duration // of the tool, in user space and in the kernel
	bpf      time.Duration // in BPF programs
	memory   int64         // the tool's peak, bytes
	measured bool
}

func (t turn) rate() float64 { return float64(t.conns) / t.length.Seconds() }

// take runs the load under the tool.
func (t *tool) take(length time.Duration) (turn, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return turn{}, err
	}
	defer os.RemoveAll(dir)
	l, err := startLoad(length)
	if err != nil {
		return turn{}, err
	}
	if t.argv == nil {
		return l.run()
	}
	path := filepath.Join(dir, "out")
	out, err := os.Create(path)
	if err != nil {
		return turn{}, err
	}
	defer out.Close()
	argv := t.argv
	if t.inside {
		argv = append([]string{"nsenter", "-t", fmt.Sprint(l.cmd.Process.Pid), "-n", "--"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout = out
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return turn{}, err
	}
	if err := t.await(path); err != nil {
		_ = cmd.Process.Kill()
		return turn{}, errors.Join(err, cmd.Wait(), errors.New(stderr.String()))
	}
	before, spent := bpfTime(), cpuOf(cmd.Process.Pid)
	got, err := l.run()
	if err != nil {
		return turn{}, err
	}
	time.Sleep(time.Second) // what is under way is still its turn
	got.bpf = bpfTime() - before
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait() // some exit with 130
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	got.cpu = time.Duration(usage.Utime.Nano()+usage.Stime.Nano()) - spent
	got.memory = usage.Maxrss << 10
	got.measured = true
	if t.count == nil {
		got.lost = -1
		return got, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return turn{}, err
	}
	defer f.Close()
	seen, err := t.count(f)
	got.lost = got.conns - seen
	return got, err
}

// await returns when the tool traces: some write a header first, others only what they see.
func (t *tool) await(path string) error {
	if t.ready == nil {
		time.Sleep(readyTime)
		return nil
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(text, t.ready) {
			return nil
		}
	}
	return errors.New("not ready within 30 s")
}

// runner is the load, in a network namespace of its own, until run.
type runner struct {
	cmd  *exec.Cmd
	gate io.WriteCloser
	out  bytes.Buffer
}

func startLoad(length time.Duration) (*runner, error) {
	l := &runner{cmd: exec.Command("/proc/self/exe", loadCommand, length.String())}
	l.cmd.Stdout, l.cmd.Stderr = &l.out, os.Stderr
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	var err error
	if l.gate, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return l, l.cmd.Start()
}

func (l *runner) run() (got turn, err error) {
	if err := errors.Join(l.gate.Close(), l.cmd.Wait()); err != nil {
		return turn{}, fmt.Errorf("load: %w", err)
	}
	_, err = fmt.Sscan(l.out.String(), &got.conns, (*int64)(&got.length))
	return got, err
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

// countCloses counts connections that have all three records, with both ends named.
func countCloses(r io.Reader) (int, error) {
	n := map[string]int{}
	err := eachLine(r, func(line []byte) {
		for _, event := range []string{"connect", "accept", "close"} {
			if bytes.Contains(line, []byte(`"event":"`+event+`"`)) && bytes.Count(line, []byte(`"process":{"pid":`)) == 2 {
				n[event]++
			}
		}
	})
	return min(n["connect"], n["accept"], n["close"]), err
}

func countSummaries(r io.Reader) (n int, err error) {
	err = eachLine(r, func(line []byte) {
		var s struct {
			Event  string
			Count  int
			Client struct{ Process struct{ Comm string } }
		}
		if json.Unmarshal(line, &s) == nil && s.Event == "summary" && s.Client.Process.Comm != "" {
			n += s.Count
		}
	})
	return n, err
}

// halved counts lines that hold a word: peers write one for each end.
func halved(word string) func(io.Reader) (int, error) {
	return func(r io.Reader) (n int, err error) {
		err = eachLine(r, func(line []byte) {
			if bytes.Contains(line, []byte(word)) {
				n++
			}
		})
		return n / 2, err
	}
}
