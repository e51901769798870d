// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// loadCommand is this program as the load.
const loadCommand = "__load"

const (
	clients   = 16
	acceptors = 4
)

// load connects, sends a byte each way and closes, for so many seconds and to so many ports in turn, and
// prints how many connections it made and how long that took.
func load(args []string) {
	length, err := time.ParseDuration(args[0])
	if err != nil {
		fail(err)
	}
	servers, err := strconv.Atoi(args[1])
	if err != nil {
		fail(err)
	}
	if err := loopbackUp(); err != nil {
		fail(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // the end of it begins
	var ports []int
	for range servers {
		l, err := net.Listen("tcp4", "127.0.0.1:0") // not MPTCP: peers do not see that
		if err != nil {
			fail(err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		for range max(1, acceptors/servers) {
			go serve(l)
		}
	}
	var n atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for i := range clients {
		wg.Go(func() {
			for turn := i; time.Since(began) < length; turn++ {
				if err := once(ports[turn%len(ports)]); err != nil {
					fail(err)
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	fmt.Println(n.Load(), strconv.FormatInt(time.Since(began).Nanoseconds(), 10))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "flood:", err)
	os.Exit(1)
}

func serve(l net.Listener) {
	b := make([]byte, 1)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Read(b)
		_, _ = c.Write(b)
		_ = c.Close()
	}
}

// once is a connection by plain system calls: the runtime's poller would be half the load.
func once(port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	b := make([]byte, 1)
	if _, err := unix.Write(fd, b); err != nil {
		return err
	}
	_, err = unix.Read(fd, b)
	return err
}

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
