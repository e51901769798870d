// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// who is a process as the kernel knows it.
type who struct {
	pid, parent int
	comm, exe   string
}

// full is a process as its first record must have it, brief as later ones may.
func (p who) full() string  { return fmt.Sprintf("%s %d %s", p.brief(), p.parent, p.exe) }
func (p who) brief() string { return fmt.Sprintf("%d %s %s", p.pid, p.comm, filepath.Base(p.exe)) }

func (r record) full(path string) string {
	return r.brief(path) + " " + r.pick(path+".parent_pid", path+".executable.path")
}

func (r record) brief(path string) string {
	return r.pick(path+".pid", path+".comm", path+".executable.name")
}

// identify reads what a living process is.
func identify(t *testing.T, pid int) who {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", pid)
	exe, err1 := os.Readlink(dir + "exe")
	comm, err2 := os.ReadFile(dir + "comm")
	stat, err3 := os.ReadFile(dir + "stat")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')'):]), ") ") // the name may hold anything
	return who{pid: pid, parent: number(t, strings.Fields(rest)[1]), comm: strings.TrimSpace(string(comm)), exe: exe}
}

// threadNames gives the names of a living process's threads.
func threadNames(t *testing.T, pid int) []string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		if comm, err := os.ReadFile(f); err == nil { // else the thread has ended
			names = append(names, strings.TrimSpace(string(comm)))
		}
	}
	return names
}

// holder finds the one process that has the socket of this local port open, by the kernel's table of
// sockets and the processes' tables of files.
func (w *world) holder(port int) int {
	w.t.Helper()
	table, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		w.t.Fatal(err)
	}
	row := regexp.MustCompile(fmt.Sprintf(`(?m)^ *\d+: 0100007F:%04X (?:\S+ +){7}(\d+)`, port)).FindSubmatch(table)
	if row == nil {
		w.t.Fatalf("no socket on port %d:\n%s", port, table)
	}
	var pids []int
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range files {
		if link, err := os.Readlink(f); err == nil && link == fmt.Sprintf("socket:[%s]", row[1]) {
			pids = append(pids, number(w.t, strings.Split(f, "/")[2]))
		}
	}
	if len(pids) != 1 {
		w.t.Fatalf("processes %v hold port %d, want one", pids, port)
	}
	return pids[0]
}

// program is a process of a scene that runs while others do something.
type program struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines <-chan []byte
	seen  []string // what it said so far
	ended bool
}

// start starts a program of the scene. It ends with the test at the latest, and with this process if
// that dies.
func (w *world) start(cmd *exec.Cmd) *program {
	w.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	defer write.Close()
	cmd.Stdout, cmd.Stderr = write, write
	stdin, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	p := &program{t: w.t, cmd: cmd, stdin: stdin, lines: readLines(read)}
	w.t.Cleanup(func() {
		if !p.ended {
			p.stop(syscall.SIGTERM)
		}
		if w.t.Failed() {
			w.t.Logf("%s said:\n%s", cmd.Args[0], strings.Join(p.seen, "\n"))
		}
		_ = read.Close()
	})
	return p
}

// expect waits for a line that the program writes.
func (p *program) expect(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.After(patience); ; {
		select {
		case line, more := <-p.lines:
			if !more {
				p.t.Fatalf("%s ended without %q", p.cmd.Args[0], pattern)
			}
			p.seen = append(p.seen, string(line))
			if m := re.FindStringSubmatch(string(line)); m != nil {
				return m
			}
		case <-deadline:
			p.t.Fatalf("%s: no %q within %v", p.cmd.Args[0], pattern, patience)
		}
	}
}

// say gives the program a line.
func (p *program) say(line string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.stdin, line); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) identity() who { return identify(p.t, p.cmd.Process.Pid) }

// stop ends the program with a signal that it knows; wait waits until it ended, and all that it started.
func (p *program) stop(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // it may have ended
	p.wait()
}

func (p *program) wait() {
	p.t.Helper()
	stuck := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer stuck.Stop()
	for line := range p.lines {
		p.seen = append(p.seen, string(line))
	}
	_ = p.cmd.Wait() // its status is its own
	p.ended = true
}

// run runs a program of the scene to its end, which has to be a good one.
func (w *world) run(name string, args ...string) (who, string) {
	w.t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	stuck := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	if err := cmd.Wait(); err != nil {
		w.t.Fatalf("%v: %v\n%s%s", cmd.Args, err, stdout.String(), stderr.String())
	}
	return who{cmd.Process.Pid, os.Getpid(), filepath.Base(name), path}, stdout.String()
}

// curl fetches a page and gives its body. Its connection is as curl describes it.
func (w *world) curl(port int, path string) (connection, string) {
	w.t.Helper()
	const facts = `\n%{local_port} %{size_request} %{size_header} %{size_download}`
	client, out := w.run("curl", "-q", "--noproxy", "*", "-sS", "-w", facts, fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
	cut := strings.LastIndexByte(out, '\n')
	n := strings.Fields(out[cut+1:])
	return connection{
		client: client, port: number(w.t, n[0]), closedBy: "client",
		bytes: fmt.Sprintf("%s %d", n[1], number(w.t, n[2])+number(w.t, n[3])),
	}, out[:cut]
}

// dialMultipath is an MPTCP client, of the test's own process. The socket is made by the calling thread:
// the world's.
func (w *world) dialMultipath(port int) connection {
	w.t.Helper()
	d := net.Dialer{Timeout: patience}
	d.SetMultipathTCP(true)
	c, err := d.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	if multipath, err := c.(*net.TCPConn).MultipathTCP(); err != nil || multipath != hasMultipath() {
		w.t.Errorf("the connection is of MPTCP: %t (%v); the kernel has it: %t", multipath, err, hasMultipath())
	}
	from := netip.MustParseAddrPort(c.LocalAddr().String())
	const request = "GET / HTTP/1.0\r\n\r\n"
	_, err1 := io.WriteString(c, request)
	answer, err2 := io.ReadAll(c)
	if err := errors.Join(err1, err2); err != nil {
		w.t.Fatal(err)
	}
	return connection{
		client: identify(w.t, os.Getpid()), port: int(from.Port()), closedBy: "server",
		bytes: fmt.Sprintf("%d %d", len(request), len(answer)),
	}
}

// hasMultipath says whether new sockets may be of MPTCP here.
func hasMultipath() bool {
	enabled, err := os.ReadFile("/proc/sys/net/mptcp/enabled")
	return err == nil && string(enabled) == "1\n"
}

// isMultipath asks the kernel what a listener is.
func isMultipath(t *testing.T, l *net.TCPListener) bool {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var protocol int
	var errno error
	err = raw.Control(func(fd uintptr) {
		protocol, errno = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
	})
	if err := errors.Join(err, errno); err != nil {
		t.Fatal(err)
	}
	return protocol == unix.IPPROTO_MPTCP
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
