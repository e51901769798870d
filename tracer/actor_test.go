// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// actor is a process that makes the socket calls of a scene, one at a time, as it is told: the
// test knows to the call what must be recorded, and by whom. It is the test binary itself.
type actor struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	pid int
}

const actorEnv = "LOOPTRACE_ACTOR"

// newActor starts an actor. It ends with the test at the latest.
func newActor(t *testing.T) *actor {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), actorEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a := &actor{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out), pid: cmd.Process.Pid}
	t.Cleanup(func() { a.exit(0) })
	return a
}

// try makes a call and gives its result and errno.
func (a *actor) try(format string, args ...any) (string, error) {
	a.t.Helper()
	line := fmt.Sprintf(format, args...)
	if _, err := fmt.Fprintln(a.in, line); err != nil {
		a.t.Fatalf("actor %d: %q: %v", a.pid, line, err)
	}
	if !a.out.Scan() {
		a.t.Fatalf("actor %d died at %q", a.pid, line)
	}
	verdict, value, _ := strings.Cut(a.out.Text(), " ")
	if verdict == "ok" {
		return value, nil
	}
	n, _ := strconv.Atoi(value)
	return "", syscall.Errno(n)
}

// do makes a call that must succeed.
func (a *actor) do(format string, args ...any) string {
	a.t.Helper()
	value, err := a.try(format, args...)
	if err != nil {
		a.t.Fatalf("actor %d: %s: %v", a.pid, fmt.Sprintf(format, args...), err)
	}
	return value
}

// fail makes a call that must fail with that errno.
func (a *actor) fail(want syscall.Errno, format string, args ...any) {
	a.t.Helper()
	if _, err := a.try(format, args...); !errors.Is(err, want) {
		a.t.Fatalf("actor %d: %s: got %v, want %v", a.pid, fmt.Sprintf(format, args...), err, want)
	}
}

// addr gives where a socket of the actor is bound.
func (a *actor) addr(name string) netip.AddrPort {
	a.t.Helper()
	return netip.MustParseAddrPort(a.do("addr %s", name))
}

// exit ends the actor with a status, its sockets open; kill ends it with a signal. Both wait.
func (a *actor) exit(status int) { a.end(fmt.Sprintf("exit %d", status), 0) }
func (a *actor) kill()           { a.end("", unix.SIGKILL) }

func (a *actor) end(line string, sig syscall.Signal) {
	if a.cmd == nil {
		return
	}
	if sig != 0 {
		_ = a.cmd.Process.Signal(sig)
	} else {
		fmt.Fprintln(a.in, line)
	}
	_ = a.cmd.Wait() // its status is the scene's
	a.cmd = nil
}

// act is the actor's side: it reads calls and makes them until it is told to exit.
func act() {
	runtime.LockOSThread() // children end with the thread that made them
	fds := map[string]int{}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		words := strings.Fields(in.Text())
		value, err := call(fds, words[0], words[1:])
		var errno syscall.Errno
		switch {
		case err == nil:
			fmt.Println("ok", value)
		case errors.As(err, &errno):
			fmt.Println("err", int(errno))
		default:
			fmt.Fprintln(os.Stderr, "actor:", in.Text(), err)
			os.Exit(99)
		}
	}
	os.Exit(0)
}

func call(fds map[string]int, verb string, args []string) (string, error) {
	switch verb {
	case "exit":
		status, _ := strconv.Atoi(args[0])
		os.Exit(status)
	case "fork": // a child that holds what it inherits, until this actor ends
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		err := cmd.Start()
		return strconv.Itoa(cmd.Process.Pid), err
	}
	switch verb {
	case "setuid":
		return "", unix.Setreuid(number(args[0]), number(args[0]))
	case "rename":
		return "", os.WriteFile("/proc/self/comm", []byte(args[0]), 0)
	case "spawn": // spawn CALL; CALL; …: by a child, whose pid it gives
		return spawn(strings.Join(args, " "))
	}
	fd := fds[args[0]]
	switch verb {
	case "socket": // socket NAME tcp4|tcp6|udp4|udp6|mptcp4 [inherit]
		if err := open(fds, args[0], args[1]); err != nil || len(args) < 3 {
			return "", err
		}
		_, err := unix.FcntlInt(uintptr(fds[args[0]]), unix.F_SETFD, 0)
		return "", err
	case "nonblock":
		return "", unix.SetNonblock(fd, true)
	case "set": // set NAME reuseaddr|reuseport|v6only|linger0
		return "", set(fd, args[1])
	case "bind":
		return "", unix.Bind(fd, sockaddr(fd, args[1]))
	case "listen":
		n, _ := strconv.Atoi(args[1])
		return "", unix.Listen(fd, n)
	case "connect":
		return "", unix.Connect(fd, sockaddr(fd, args[1]))
	case "accept": // accept NAME NEW
		n, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		fds[args[1]] = n
		return "", err
	case "send":
		n, err := unix.Write(fd, make([]byte, number(args[1])))
		return strconv.Itoa(n), err
	case "sendto":
		return "", unix.Sendto(fd, make([]byte, number(args[1])), 0, sockaddr(fd, args[2]))
	case "recv":
		n, err := unix.Read(fd, make([]byte, number(args[1])))
		return strconv.Itoa(n), err
	case "shutdown":
		return "", unix.Shutdown(fd, number(args[1]))
	case "close":
		return "", unix.Close(fd)
	case "addr":
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return "", err
		}
		return addrPort(sa).String(), nil
	}
	return "", fmt.Errorf("unknown call %q", verb)
}

// spawn makes calls in a child actor and waits for it to end.
func spawn(calls string) (string, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(calls, ";", "\n"))
	cmd.Stderr = os.Stderr
	err := cmd.Run()
	return strconv.Itoa(cmd.Process.Pid), err
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func open(fds map[string]int, name, kind string) error {
	family, typ, proto := unix.AF_INET, unix.SOCK_STREAM, 0
	if strings.HasSuffix(kind, "6") {
		family = unix.AF_INET6
	}
	switch {
	case strings.HasPrefix(kind, "udp"):
		typ = unix.SOCK_DGRAM
	case strings.HasPrefix(kind, "mptcp"):
		proto = unix.IPPROTO_MPTCP
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
	fds[name] = fd
	return err
}

func set(fd int, option string) error {
	switch option {
	case "reuseaddr":
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	case "reuseport":
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	case "v6only":
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	case "linger0":
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	return fmt.Errorf("unknown option %q", option)
}

// sockaddr writes an address for the socket's own family: IPv4 is mapped on an IPv6 socket.
func sockaddr(fd int, text string) unix.Sockaddr {
	ap := netip.MustParseAddrPort(text)
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err == nil && family == unix.AF_INET6 {
		return &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// patience is how long a condition may take. Guests that share two cores need some seconds at times.
const patience = 20 * time.Second

// eventually waits for a condition of the kernel's, without sleeping past it.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(time.Millisecond)
	}
}
