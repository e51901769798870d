// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// holderCommand is this program as one that has both ends of many connections open.
const holderCommand = "__holder"

// perHolder is how many connections one process holds: with both ends, as many files as it may have where nobody
// raised the limit, and of one address's 28,000 ports.
const perHolder = 9000

// hold has n connections open until this process ends.
func hold(n int) error {
	for i := 0; n > 0; i++ {
		size := min(n, perHolder)
		if _, _, err := child("/proc/self/exe", holderCommand, fmt.Sprintf("127.0.1.%d", i+1), strconv.Itoa(size)); err != nil {
			return fmt.Errorf("hold %d connections: %w", size, err)
		}
		n -= size
	}
	return nil
}

func holderMain(address, count string) error {
	l, err := listen(address)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	c, err := newClient(churn, address, nil)
	if err != nil {
		return err
	}
	ends := make([]net.Conn, n)
	for i := range ends {
		if _, err := c.open(1); err != nil {
			return err
		}
		if ends[i], err = l.Accept(); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(ends) // the collector closes what nobody has
	return err
}

// child starts a process that ends with this one, or with its input, and returns when it has written something.
func child(argv ...string) (io.Writer, *bufio.Reader, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	to, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	from := bufio.NewReader(out)
	_, err = from.ReadByte()
	return to, from, err
}

// tokens are one byte each: whichever process of the crowd reads one makes a connection and gives it back.
type tokens struct {
	to   io.Writer
	from *bufio.Reader
	mu   sync.Mutex
}

// newCrowd starts a program with so many processes, see crowd.c.
func newCrowd(binary, processes string) (*tokens, error) {
	to, from, err := child(binary, processes, strconv.Itoa(port))
	return &tokens{to: to, from: from}, err
}

// spend has one connection made. They are given back in any order: a byte is like another.
func (t *tokens) spend() error {
	if _, err := t.to.Write([]byte{1}); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.from.ReadByte()
	return err
}
