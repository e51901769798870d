// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// centre is where the engines listen, on a wire to each host.
const centre = "10.77.0.1"

// host is one machine of the fleet: a network namespace with a name of its own, a wire to the centre, and a looptrace
// that sees this host alone.
type host struct {
	t         *testing.T
	name      string
	dir       string
	pid       int // of the process that keeps the namespaces
	looptrace *exec.Cmd
	records   *counter
	stderr    bytes.Buffer
}

// startHost gives a host that is traced. Its number is its address's end.
func startHost(t *testing.T, name string, number int, environ ...string) *host {
	t.Helper()
	h := &host{t: t, name: name, dir: t.TempDir(), records: &counter{}}
	spaces := exec.Command("unshare", "--net", "--uts", "sh", "-c", "hostname "+name+" && ip link set lo up && echo 49342 >/proc/sys/net/ipv4/ip_local_reserved_ports && echo ready && exec sleep infinity")
	keep(t, spaces, true)
	h.pid = spaces.Process.Pid
	run(t, "ip", "link", "add", "to-"+name, "master", "fleet", "up", "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(h.pid))
	for _, args := range []string{"addr add 10.77.0." + strconv.Itoa(number) + "/24 dev eth0", "link set eth0 up"} {
		run(t, "nsenter", h.inside(append([]string{"ip"}, strings.Fields(args)...)...)[1:]...)
	}
	h.looptrace = exec.Command("nsenter", h.inside(*looptrace, "-o", "json", "--strict", "--netns", netns(t, strconv.Itoa(h.pid)), "--otlp", "https://"+centre+":4318")[1:]...)
	h.looptrace.Env = append(os.Environ(), environ...)
	h.looptrace.Stdout, h.looptrace.Stderr = h.records, &h.stderr
	keep(t, h.looptrace, false)
	await(t, "start record of "+name, func() bool { return h.records.count("start") == 1 })
	return h
}

// netns is the network namespace of a process, to trace that alone: looptrace sees them all.
func netns(t *testing.T, pid string) string {
	t.Helper()
	link, err := os.Readlink("/proc/" + pid + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(link, "net:[]")
}

// inside gives a command on the host.
func (h *host) inside(command ...string) []string {
	return append([]string{"nsenter", "--net", "--uts", "--target", strconv.Itoa(h.pid), "--"}, command...)
}

// keep runs a command to the test's end, and if told so waits for its first line.
func keep(t *testing.T, cmd *exec.Cmd, wait bool) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	t.Cleanup(func() { kill(cmd) })
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	if !wait {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return
	}
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%v: %q, %v", cmd.Args, line, err)
	}
}

// program is this test under a name of its own, which acts as actEnv says. It may be run through another command.
func program(t *testing.T, dir, name, act string, through ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.Symlink(self, path); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	args := append(through, path)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), actEnv+"="+act)
	return cmd
}

// serve has a program listen on ports of loopback.
func (h *host) serve(name string, ports ...string) {
	h.t.Helper()
	keep(h.t, program(h.t, h.dir, name, "serve "+strings.Join(ports, " "), h.inside()...), true)
}

// dial has a program connect to a port of loopback n times, which is to be taken or refused.
func (h *host) dial(name, outcome, port string, n int) {
	h.t.Helper()
	if out, err := program(h.t, h.dir, name, fmt.Sprintf("%s %s %d", outcome, port, n), h.inside()...).CombinedOutput(); err != nil {
		h.t.Fatalf("%s on %s: %v: %s", name, h.name, err, out)
	}
}

// stop ends the host's looptrace, and gives how many records it wrote. None may be lost.
func (h *host) stop() int {
	h.t.Helper()
	if err := h.looptrace.Process.Signal(syscall.SIGINT); err != nil {
		h.t.Fatal(err)
	}
	if err := h.looptrace.Wait(); err != nil || h.stderr.Len() > 0 {
		h.t.Errorf("looptrace on %s: %v: %s", h.name, err, &h.stderr)
	}
	return h.records.total()
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// actEnv has this test be a program on a host.
const actEnv = "LOOPTRACE_FLEET_ACT"

// act does what actEnv says: "serve PORT…" for ever, "taken PORT N", "refused PORT N", with a pause after each where one
// is given.
func act(words []string) error {
	if words[0] == "serve" {
		return serveAll(words[1:])
	}
	n, err := strconv.Atoi(words[2])
	var pause time.Duration
	if len(words) > 3 {
		pause, err = time.ParseDuration(words[3])
	}
	for range n {
		time.Sleep(pause)
		c, dialErr := net.Dial("tcp4", "127.0.0.1:"+words[1])
		if refused := errors.Is(dialErr, syscall.ECONNREFUSED); refused != (words[0] == "refused") || dialErr != nil && !refused {
			return fmt.Errorf("%v: %w", words, errors.Join(dialErr, errors.New("not what was expected")))
		}
		if dialErr == nil {
			_, _ = c.Read(make([]byte, 1)) // until the server ends it
			c.Close()
		}
	}
	return err
}

func serveAll(ports []string) error {
	for _, port := range ports {
		l, err := net.Listen("tcp4", "127.0.0.1:"+port)
		if err != nil {
			return err
		}
		go func() { // ends with the process
			for {
				if c, err := l.Accept(); err == nil {
					c.Close()
				}
			}
		}()
	}
	fmt.Println("ready")
	select {}
}
