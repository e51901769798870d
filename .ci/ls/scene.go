// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const holdCommand = "hold"

// perHolder is how many sockets a holder has: below the limit of open files that most hosts set.
const perHolder = 5000

// fill starts processes that hold this many sockets between them, and waits until they do. They end with this one.
func fill(sockets int, what string, flags uintptr) error {
	for left := sockets; left > 0; left -= perHolder {
		if err := holder(what, min(left, perHolder), flags); err != nil {
			return err
		}
	}
	return nil
}

func holder(what string, n int, flags uintptr) error {
	cmd := exec.Command("/proc/self/exe", holdCommand, what, strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: unix.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("holder: %q, %w", line, err)
	}
	return nil
}

// hold makes sockets of the kind, and keeps them until it is killed.
func hold(args []string) {
	n, err := strconv.Atoi(args[1])
	if err == nil {
		switch args[0] {
		case "plain":
			err = pairs(n/2, netip.MustParseAddrPort("127.0.0.1:0"), unix.AF_INET, both)
		case "apart":
			err = errors.Join(loopback(), zoo(n))
		default:
			err = zoo(n)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hold:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	_ = unix.Pause() // until it is killed
}

// How far the connections of a listener go.
type stage int

const (
	both         stage = iota // open at both ends
	queued                    // nobody has accepted
	clientClosed              // FIN_WAIT2 that nobody holds, CLOSE_WAIT
	serverClosed
	queuedClosed // both ends are the kernel's
	waiting      // TIME_WAIT
	reset        // the server's socket is left without a connection
)

// zoo makes some n sockets of every kind that the three may tell differently.
func zoo(n int) error {
	v4, v6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	var errs []error
	at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 0) }
	few := n / 50
	for _, s := range []stage{queued, clientClosed, serverClosed, queuedClosed, waiting, reset} {
		errs = append(errs, pairs(few/2, at(v4), unix.AF_INET, s), pairs(few/2, at(v6), unix.AF_INET6, s))
	}
	errs = append(errs,
		pairs(few, netip.MustParseAddrPort(elsewhere+":0"), unix.AF_INET, both),
		pairs(few, netip.MustParseAddrPort("127.7.7.7:0"), unix.AF_INET, both),
		pairs(few, at(netip.AddrFrom16(v4.As16())), unix.AF_INET6, both), // IPv4 through IPv6 sockets
		pairs(few, at(v6), unix.AF_INET6, both),
		each(few, unix.AF_INET, unix.SOCK_STREAM, at(v4), bound), each(few, unix.AF_INET6, unix.SOCK_STREAM, at(netip.IPv6Unspecified()), bound),
		each(few, unix.AF_INET, unix.SOCK_STREAM, at(netip.IPv4Unspecified()), listening), each(few, unix.AF_INET6, unix.SOCK_STREAM, at(v6), listening),
		each(few, unix.AF_INET, unix.SOCK_DGRAM, at(v4), bound), each(few, unix.AF_INET6, unix.SOCK_DGRAM, at(netip.IPv6Unspecified()), bound),
		each(few, unix.AF_INET, unix.SOCK_DGRAM, netip.AddrPortFrom(v4, 9), dialled), each(few, unix.AF_INET, unix.SOCK_STREAM, at(v4), bare),
		each(few, unix.AF_INET, unix.SOCK_DGRAM, netip.MustParseAddrPort(elsewhere+":0"), bound),
	)
	errs = append(errs, pairs(n/4, at(v4), unix.AF_INET, both), shared(few))
	return errors.Join(errs...)
}

// pairs makes n connections to a listener of its own, as far as the stage says.
func pairs(n int, at netip.AddrPort, family int, s stage) error {
	l, err := open(family, unix.SOCK_STREAM)
	err = errors.Join(err, unix.Bind(l, sockaddr(family, at)), unix.Listen(l, 4096))
	if err != nil {
		return err
	}
	to, err := unix.Getsockname(l)
	for i := 0; i < n && err == nil; i++ {
		var c, a int
		c, err = open(family, unix.SOCK_STREAM)
		err = errors.Join(err, unix.Connect(c, to))
		if err == nil && s != queued && s != queuedClosed {
			a, _, err = unix.Accept(l)
		}
		if s == reset {
			err = errors.Join(err, unix.SetsockoptLinger(c, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
		}
		if s == clientClosed || s == queuedClosed || s == waiting || s == reset {
			err = errors.Join(err, unix.Close(c))
		}
		if s == serverClosed || s == waiting {
			err = errors.Join(err, unix.Close(a))
		}
	}
	return err
}

// each makes n sockets.
func each(n, family, kind int, at netip.AddrPort, then func(fd int, to unix.Sockaddr) error) (err error) {
	for i := 0; i < n && err == nil; i++ {
		var fd int
		if fd, err = open(family, kind); err == nil {
			err = then(fd, sockaddr(family, at))
		}
	}
	return err
}

func bare(int, unix.Sockaddr) error          { return nil }
func bound(fd int, at unix.Sockaddr) error   { return unix.Bind(fd, at) }
func dialled(fd int, to unix.Sockaddr) error { return unix.Connect(fd, to) }
func listening(fd int, at unix.Sockaddr) error {
	return errors.Join(unix.Bind(fd, at), unix.Listen(fd, 16))
}

// shared has a child hold n listeners too.
func shared(n int) error {
	var files []*os.File
	err := each(n, unix.AF_INET, unix.SOCK_STREAM, netip.MustParseAddrPort("127.0.0.1:0"), func(fd int, at unix.Sockaddr) error {
		own, err := unix.Dup(fd) // a File is closed with its last mention
		files = append(files, os.NewFile(uintptr(own), ""))
		return errors.Join(err, listening(fd, at))
	})
	cmd := exec.Command("/proc/self/exe", holdCommand, "plain", "0")
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err, err2, cmd.Start()); err != nil {
		return err
	}
	_, err = bufio.NewReader(out).ReadString('\n')
	return err
}

func open(family, kind int) (int, error) { return unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0) }

func sockaddr(family int, at netip.AddrPort) unix.Sockaddr {
	if family == unix.AF_INET6 {
		return &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
	}
	return &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
}
