// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/looptrace/looptrace/output/metrics"
)

// countAge is how long a count of ports serves: the kernel's lists take milliseconds a thousand sockets, and anybody
// on the machine may ask for metrics.
const countAge = time.Second

// portCounter counts the ports of the range that sockets of this network namespace have. It is safe for concurrent
// use; its zero value counts.
type portCounter struct {
	mu    sync.Mutex
	at    time.Time
	ports metrics.Ports
	known bool
}

// count is false where the kernel does not say.
func (c *portCounter) count() (metrics.Ports, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) >= countAge {
		var err error
		c.ports, err = countPorts()
		c.at, c.known = time.Now(), err == nil
	}
	return c.ports, c.known
}

func countPorts() (p metrics.Ports, err error) {
	low, high, err := portRange()
	if err != nil {
		return p, err
	}
	p.Size = int(high) - int(low) + 1
	if p.TCP, err = portsTaken("tcp", low, high); err != nil {
		return p, err
	}
	p.UDP, err = portsTaken("udp", low, high)
	return p, err
}

// portRange is what the kernel picks ports from in this network namespace.
func portRange() (low, high uint16, err error) {
	raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(raw), &low, &high)
	}
	return low, high, err
}

// portsTaken counts ports that sockets of a transport have, each once. Not in the kernel's lists are TCP sockets
// that are only bound.
func portsTaken(proto string, low, high uint16) (n int, err error) {
	var taken [1 << 16]bool
	for _, list := range []string{proto, proto + "6"} {
		f, err := os.Open("/proc/thread-self/net/" + list)
		if errors.Is(err, fs.ErrNotExist) && list != proto {
			continue // there is no IPv6
		}
		if err != nil {
			return 0, err
		}
		err = eachLocalPort(f, func(port uint16) { taken[port] = true })
		f.Close()
		if err != nil {
			return 0, err
		}
	}
	for port := int(low); port <= int(high); port++ {
		if taken[port] {
			n++
		}
	}
	return n, nil
}

// eachLocalPort reads /proc/net/tcp and its like (proc(5)): "0: 0100007F:1F90 0100007F:B5A2 06 …", below a line of titles.
func eachLocalPort(r io.Reader, take func(port uint16)) error {
	lines := bufio.NewScanner(r)
	lines.Scan()
	for lines.Scan() {
		_, line, _ := bytes.Cut(lines.Bytes(), []byte(": "))
		_, line, _ = bytes.Cut(line, []byte(":"))
		hex, _, _ := bytes.Cut(line, []byte(" "))
		port, err := strconv.ParseUint(string(hex), 16, 16)
		if err != nil {
			return fmt.Errorf("local port %q: %w", hex, err)
		}
		take(uint16(port))
	}
	return lines.Err()
}
