// SPDX-License-Identifier: Apache-2.0

// Ls holds looptrace ls against ss and lsof on the same sockets, in a network namespace of its own: each
// difference has to have a reason, or it fails. With -bench it measures how long each takes.
//
//	go run ./.ci/ls [-sockets N] [-bench] [-rounds N] LOOPTRACE
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const nsEnv = "LOOPTRACE_LS_NETNS"

// The main thread stays main's: children end with the thread that made them.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) > 1 && os.Args[1] == holdCommand {
		hold(os.Args[2:])
		return
	}
	sockets := flag.Int("sockets", 0, "how many sockets there are (default 10000, with -bench 50000)")
	bench := flag.Bool("bench", false, "measure time")
	rounds := flag.Int("rounds", 5, "how often each has its turn, with -bench")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if os.Getenv(nsEnv) == "" {
		os.Exit(inNamespace())
	}
	err := errors.Join(installed("ip", "ss", "lsof"), loopback())
	switch {
	case err != nil:
	case *bench:
		err = measure(flag.Arg(0), orElse(*sockets, 50000), *rounds)
	default:
		err = compare(flag.Arg(0), orElse(*sockets, 10000))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ls:", err)
		os.Exit(1)
	}
}

func orElse(n, other int) int {
	if n == 0 {
		return other
	}
	return n
}

// inNamespace runs this program again in a network namespace of its own.
func inNamespace() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), nsEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "ls:", err)
		return 1
	}
	return 0
}

func installed(names ...string) error {
	var errs []error
	for _, name := range names {
		_, err := exec.LookPath(name)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// elsewhere is an address of the namespace that is not loopback's (RFC 5737).
const elsewhere = "192.0.2.1"

// loopback gives the namespace its addresses, and more ports to dial from than there are by default.
func loopback() error {
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", elsewhere + "/32", "dev", "lo"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	return errors.Join(
		os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("10000 65000"), 0),
		os.WriteFile("/proc/sys/net/ipv4/tcp_fin_timeout", []byte("600"), 0), // FIN_WAIT2 that nobody holds must outlast the looks
	)
}
