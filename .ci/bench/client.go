// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	clients     = 16
	keptOpen    = 100 // connections of keepalive
	requestSize = 64
	flowLength  = 10 // datagrams each way
)

// run is what a client did in one go.
type run struct {
	Ops    int           // connections, requests or flows
	Conns  int           // connections or flows: what a tracer is to see
	Length time.Duration // that it took
	CPU    time.Duration // of both ends
}

type client struct {
	load    string
	address [4]byte
	crowd   *tokens
}

func newClient(load, address string, args []string) (*client, error) {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return nil, err
	}
	c := &client{load: load, address: a.As4()}
	switch load {
	case far: // as it is on loopback: else the ports are used up in seconds
		err = os.WriteFile("/proc/sys/net/ipv4/tcp_tw_reuse", []byte("1"), 0)
	case crowd:
		c.crowd, err = newCrowd(args[0], args[1])
	}
	return c, err
}

// obey takes "run DURATION RATE" and "hold N".
func (c *client) obey(order []string) error {
	switch order[0] {
	case "hold":
		n, err := strconv.Atoi(order[1])
		if err != nil {
			return err
		}
		if err := hold(n); err != nil {
			return err
		}
		fmt.Println(n)
		return nil
	default:
		length, err := time.ParseDuration(order[1])
		if err != nil {
			return err
		}
		rate, err := strconv.ParseFloat(order[2], 64)
		if err != nil {
			return err
		}
		did, err := c.run(length, rate)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(did)
	}
}

// run does it for so long, at a rate in operations a second; 0: as fast as it goes.
func (c *client) run(length time.Duration, rate float64) (did run, err error) {
	before := cpuOf(os.Getpid()) + cpuOf(os.Getppid())
	workers, once := clients, func() error { return c.exchange(unix.SOCK_STREAM, 1) }
	switch c.load {
	case idle:
		time.Sleep(length)
		return run{Length: length}, nil
	case udp:
		once = func() error { return c.exchange(unix.SOCK_DGRAM, flowLength) }
	case crowd:
		workers, once = clients, c.crowd.spend
	case keepalive:
		workers, did.Conns = keptOpen, keptOpen
		fds, err := c.open(keptOpen)
		if err != nil {
			return run{}, err
		}
		defer closeAll(fds)
		var next atomic.Int64
		return c.paced(before, did, workers, length, rate, func() func() error {
			fd := fds[next.Add(1)-1]
			return func() error { return ask(fd, requestSize) }
		})
	}
	return c.paced(before, did, workers, length, rate, func() func() error { return once })
}

// paced lets workers take turns at a rate.
func (c *client) paced(before time.Duration, did run, workers int, length time.Duration, rate float64, worker func() func() error) (run, error) {
	var n atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for i := range workers {
		once := worker()
		wg.Go(func() {
			for turn := i; time.Since(began) < length; turn += workers {
				if rate > 0 {
					time.Sleep(time.Until(began.Add(time.Duration(float64(turn) / rate * 1e9)))) // none where that is past
					if time.Since(began) >= length {
						return
					}
				}
				if err := once(); err != nil {
					fail(err)
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	did.Ops, did.Length = int(n.Load()), time.Since(began)
	if did.Conns == 0 {
		did.Conns = did.Ops
	}
	did.CPU = cpuOf(os.Getpid()) + cpuOf(os.Getppid()) - before
	return did, nil
}

// exchange is a connection by plain system calls: the runtime's poller would be half the load.
func (c *client) exchange(kind, times int) error {
	fd, err := c.dial(kind, c.address)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for range times {
		if err := ask(fd, 1); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) dial(kind int, to [4]byte) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: to}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

func ask(fd, size int) error {
	var b [requestSize]byte
	if _, err := unix.Write(fd, b[:size]); err != nil {
		return err
	}
	_, err := unix.Read(fd, b[:size])
	return err
}

// open makes n connections that stay.
func (c *client) open(n int) (fds []int, err error) {
	for range n {
		fd, err := c.dial(unix.SOCK_STREAM, c.address)
		if err != nil {
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
