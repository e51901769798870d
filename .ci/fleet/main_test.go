// SPDX-License-Identifier: Apache-2.0

// Package fleet tests looptrace with the engines that its records go to: `make test-collector test-fleet`. It
// runs in a network namespace of its own, as root.
package fleet

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	looptrace    = flag.String("looptrace", "", "the looptrace to test")
	collector    = flag.String("collector", "", "the OpenTelemetry Collector, built from ./collector")
	loki         = flag.String("loki", "", "Loki, built from ./loki")
	victoriaLogs = flag.String("victorialogs", "", "VictoriaLogs, built from ./victorialogs")
	objects      = flag.String("objects", "", "the object storage, built from ./objects")
	configs      = flag.String("configs", "packaging/fleet", "where the configurations are that are shipped")
)

// insideEnv says that this process is in the namespace that it was started into.
const insideEnv = "LOOPTRACE_FLEET_INSIDE"

// TestMain runs the tests in a network namespace with nothing in it: every goroutine's sockets are there.
func TestMain(m *testing.M) {
	if words := strings.Fields(os.Getenv(actEnv)); len(words) > 0 {
		if err := act(words); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if os.Getenv(insideEnv) != "" {
		if err := errors.Join(loopbackUp(), reservePorts()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	inside := exec.Command("/proc/self/exe", os.Args[1:]...)
	inside.Env = append(os.Environ(), insideEnv+"=1")
	inside.Stdout, inside.Stderr = os.Stdout, os.Stderr
	inside.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := inside.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "needs root:", err)
		os.Exit(1)
	}
}

// loopbackUp sets IFF_UP on lo (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// reservePorts keeps the kernel from giving the ports of the tests' servers to a client: the engines' own connections live as
// long as the engines, and one of them is on 49342 sooner or later.
func reservePorts() error {
	return os.WriteFile("/proc/sys/net/ipv4/ip_local_reserved_ports", []byte("49342-49349"), 0)
}

// patience bounds each wait: an engine may take a quarter of a minute to be ready on a busy machine.
const patience = 2 * time.Minute

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s within %v", what, patience)
		}
	}
}

// listens says whether someone takes connections there.
func listens(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// startCollector runs the Collector with a configuration, and returns once it takes logs at addr.
func startCollector(t *testing.T, config, addr string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(*collector, config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(config + ".log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "collector", func() bool { return listens(addr) })
	return cmd
}
