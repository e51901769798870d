// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// stage is where actors in C play: it starts them, has a connection to each, also to those that they
// fork, and writes down what each process is, which is what records must say of it.
type stage struct {
	t      *testing.T
	keeper *testing.T
	dir    string
	ln     *net.UnixListener
	boot   time.Time // wall time of CLOCK_BOOTTIME 0
	roles  []*role
	ports  map[string]string // number -> name
	netns  map[int]bool      // whose records are the scene's
	trace  func()            // of an early scene: begins tracing
	shared *trace
	began  time.Time
	lastOf int // a process that asks until it is told something: only its last record counts
}

// player is an actor in C.
type player struct {
	*actor
	stage *stage
	name  string
	pidfd int
	gone  bool
}

// role is what a process was at a time, as /proc said.
type role struct {
	name             string
	pid, parent, uid int
	comm, exe, args  string
	born             time.Time
}

// actorBinaryEnv names a built testdata/actor.c, for machines without a C compiler.
const actorBinaryEnv = "LOOPTRACE_ACTOR_BINARY"

// actorBinary builds the actor once a run.
var actorBinary = sync.OnceValues(func() (string, error) {
	if built := os.Getenv(actorBinaryEnv); built != "" {
		return built, nil
	}
	dir, err := os.MkdirTemp("", "looptrace-actor")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "actor")
	out, err := exec.Command("gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-o", path, "testdata/actor.c").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build testdata/actor.c: %w\n%s", err, out)
	}
	return path, nil
})

// needProgram: scenes skip on a developer's machine that lacks what they are made of, and fail in CI.
func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("this scene needs %s", name)
	}
}

// newStage makes a network namespace for the calling test alone. Its goroutine keeps the thread that
// is in it, which ends with the goroutine. The namespace's number stays taken as long as keeper runs.
func newStage(t, keeper *testing.T) *stage {
	t.Helper()
	if os.Getenv(actorBinaryEnv) == "" {
		needProgram(t, "gcc")
	}
	runtime.LockOSThread()
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWNET), loopbackUp()); err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, keeper: keeper, began: time.Now(), dir: t.TempDir(), ports: map[string]string{}, netns: map[int]bool{}}
	s.enterNetns(os.Getpid(), unix.Gettid())
	var err error
	s.ln, err = net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(s.dir, "driver"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ln.Close() })
	s.boot = new(clock).bootTime()
	return s
}

// enterNetns makes a thread's network namespace one of the scene's. A tracer that sees several scenes
// must not take one's for another's: the number of a namespace that is gone is given to the next.
func (s *stage) enterNetns(pid, tid int) int {
	s.t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/task/%d/ns/net", pid, tid))
	if err != nil {
		s.t.Fatal(err)
	}
	s.keeper.Cleanup(func() { f.Close() })
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		s.t.Fatal(err)
	}
	s.netns[int(st.Ino)] = true
	return int(st.Ino)
}

// actor starts a process of that name; its command line begins with it.
func (s *stage) actor(name string) *player {
	s.t.Helper()
	binary, err := actorBinary()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(binary, s.ln.Addr().String())
	cmd.Args[0] = name
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	p := s.join(name)
	p.cmd = cmd
	return p
}

// join takes the connection of a process that has just begun.
func (s *stage) join(name string) *player {
	s.t.Helper()
	if err := s.ln.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	conn, err := s.ln.AcceptUnix()
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	a := &actor{t: s.t, in: conn, out: bufio.NewScanner(conn)}
	a.pid = number(a.answer())
	p := &player{actor: a, stage: s, name: name}
	if p.pidfd, err = unix.PidfdOpen(a.pid, 0); err != nil {
		s.t.Fatal(err)
	}
	s.enter(name, a.pid)
	s.t.Cleanup(func() {
		p.kill()
		conn.Close()
	})
	return p
}

// answer reads the result of a call that has been made.
func (a *actor) answer() string {
	a.t.Helper()
	if !a.out.Scan() {
		a.t.Fatalf("actor %d does not answer", a.pid)
	}
	verdict, value, _ := strings.Cut(a.out.Text(), " ")
	if verdict != "ok" {
		a.t.Fatalf("actor %d: %s", a.pid, a.out.Text())
	}
	return value
}

// enter writes down what a process is now.
func (s *stage) enter(name string, pid int) {
	s.t.Helper()
	proc, err := procfs.NewProc(pid)
	if err != nil {
		s.t.Fatal(err)
	}
	stat, err1 := proc.Stat()
	status, err2 := proc.NewStatus()
	raw, err3 := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	exe, err4 := proc.Executable()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		s.t.Fatal(err)
	}
	args := strings.ReplaceAll(strings.TrimRight(string(raw), "\x00"), "\x00", " ")
	s.roles = append(s.roles, &role{
		name: name, pid: pid, parent: stat.PPID, uid: int(status.UIDs[0]), comm: stat.Comm, exe: exe,
		args: args[:min(len(args), argsMax)], born: s.boot.Add(time.Duration(stat.Starttime * clockTick)),
	})
}

// fork makes the player's child, a copy of it that goes its own way; pid 0 lets the kernel choose.
func (p *player) fork(name string, pid int) *player {
	p.t.Helper()
	var child string
	// A number that was free may be somebody's for a moment on a busy machine.
	eventually(p.t, fmt.Sprint("process number ", pid), func() bool {
		value, err := p.try("fork %d", pid)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			p.t.Fatalf("%s: fork: %v", p.name, err)
		}
		child = value
		return err == nil
	})
	c := p.stage.join(name)
	if strconv.Itoa(c.pid) != child {
		p.t.Fatalf("%s: forked %s, and %d came", p.name, child, c.pid)
	}
	return c
}

// exec lets the player become another program of that name. It keeps its number and the sockets
// that it may inherit.
func (p *player) exec(name string) {
	p.t.Helper()
	binary, err := actorBinary()
	if err != nil {
		p.t.Fatal(err)
	}
	path := filepath.Join(p.stage.dir, name)
	raw, err := os.ReadFile(binary)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if err := os.WriteFile(path, raw, 0o755); err != nil {
			p.t.Fatal(err)
		}
	}
	p.do("exec %s", path)
	p.name = name
	p.stage.enter(name, p.pid)
}

// give passes a descriptor to another process, which takes it under a name of its own.
func (p *player) give(fd string, to *player, as string) {
	p.t.Helper()
	p.do("give %s %d", fd, to.pid)
	to.do("take %s", as)
}

func (p *player) exit(status int) { p.leave(fmt.Sprintf("exit %d", status), 0) }
func (p *player) kill()           { p.leave("", unix.SIGKILL) }

// leave ends the process and waits until its sockets are closed: then its pidfd is readable.
func (p *player) leave(line string, sig syscall.Signal) {
	if p.gone {
		return
	}
	p.gone = true
	if sig != 0 {
		_ = unix.PidfdSendSignal(p.pidfd, sig, nil, 0) // it may have gone by itself
	} else {
		fmt.Fprintln(p.in, line)
	}
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	unix.Close(p.pidfd)
	if p.cmd != nil {
		_ = p.cmd.Wait() // its status is the scene's
	}
}

// port gives a number a name, which rows show instead.
func (s *stage) port(name string, number uint16) { s.ports[strconv.Itoa(int(number))] = name }

// bind makes a socket and binds it; listen lets it listen too. Its port has that name in rows.
func (p *player) bind(fd, kind, at, port string) netip.AddrPort {
	p.t.Helper()
	p.do("socket %s %s", fd, kind)
	p.do("bind %s %s", fd, at)
	ap := p.addr(fd)
	p.stage.port(port, ap.Port())
	return ap
}

func (p *player) listen(fd, kind, at, port string) netip.AddrPort {
	p.t.Helper()
	ap := p.bind(fd, kind, at, port)
	p.do("listen %s 16", fd)
	return ap
}

// dial makes a socket and connects it.
func (p *player) dial(fd, kind string, at netip.AddrPort) {
	p.t.Helper()
	p.do("socket %s %s", fd, kind)
	p.do("connect %s %s", fd, at)
}

// sysctl sets a value of the scene's network namespace, where this kernel has it.
func (s *stage) sysctl(path, value string) {
	s.t.Helper()
	path = "/proc/sys/net/ipv4/" + path
	if err := os.WriteFile(path, []byte(value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
}

// blocked waits until so many threads of a process sleep in a call, apart from the one that obeys.
func (s *stage) blocked(p *player, n int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d blocked threads", n), func() bool {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", p.pid))
		if err != nil {
			s.t.Fatal(err)
		}
		asleep := 0
		for _, task := range tasks {
			raw, err := os.ReadFile(task)
			if err == nil && strings.HasPrefix(string(raw), fmt.Sprint(unix.SYS_ACCEPT4, " ")) {
				asleep++
			}
		}
		return asleep == n
	})
}

// elapse waits until a process that starts now can be told from those that started before: /proc
// tells starts in clock ticks.
func (s *stage) elapse() {
	from := boottime()
	eventually(s.t, "another clock tick", func() bool { return boottime()-from > uint64(2*maxSkew) })
}

// tables counts the entries of the kernel side's hash maps.
func (s *stage) tables() map[string]int {
	counts := map[string]int{}
	for name, m := range s.shared.maps {
		if t := m.Type(); t != ebpf.Hash {
			continue
		}
		key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
		for it := m.Iterate(); it.Next(&key, &value); {
			counts[name]++
		}
	}
	return counts
}
