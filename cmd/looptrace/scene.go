// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// sceneCommand names what the demo's processes are: looptrace again, in a part of the scene.
const sceneCommand = "__scene"

// The parts.
const (
	sceneServe = "serve"
	sceneDial  = "dial"
)

// cast is the demo's processes. They run from copies of looptrace whose names say what they play, since it
// is the program's file that records name.
type cast struct {
	dir    string
	actors []*actor
	alive  *os.File // its end tells them that looptrace is gone
	stdin  *os.File
}

func newCast() (_ *cast, err error) {
	c := &cast{}
	if c.dir, err = os.MkdirTemp("", "looptrace-demo-"); err != nil {
		return nil, fmt.Errorf("set the scene: %w", err)
	}
	if c.stdin, c.alive, err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("set the scene: %w", errors.Join(err, os.RemoveAll(c.dir)))
	}
	return c, nil
}

// enter starts a process that waits for its release.
func (c *cast) enter(name, part string, port uint16) (*actor, error) {
	path, err := c.program(name)
	if err != nil {
		return nil, fmt.Errorf("set the scene: %w", err)
	}
	argv := []string{os.Args[0], sceneCommand, part, strconv.Itoa(int(port))}
	a, err := startStopped(path, argv, nil, c.stdin)
	if err == nil {
		c.actors = append(c.actors, a)
	}
	return a, err
}

// program is looptrace under another name; under its own where the directory for temporary files is mounted
// noexec.
func (c *cast) program(name string) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(c.dir, &fs); err == nil && fs.Flags&unix.ST_NOEXEC != 0 {
		return "/proc/self/exe", nil
	}
	path := filepath.Join(c.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, copyProgram(path)
}

func copyProgram(path string) error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// leave ends whoever still runs.
func (c *cast) leave() {
	for _, a := range c.actors {
		_ = a.gate.Close()
		_ = a.cmd.Process.Kill() // it may have ended by itself
		a.wait()
	}
	_ = c.alive.Close()
	_ = c.stdin.Close()
	_ = os.RemoveAll(c.dir)
}

// playScene is a process of the demo: `looptrace __scene PART PORT`. It calls the kernel itself, so that
// there are no sockets but those of the scene: package net binds two of its own to see whether IPv6 works.
func playScene(args []string) int {
	if len(args) != 2 {
		return exitUsage
	}
	port, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil {
		return exitUsage
	}
	go func() { // ends with the process, and ends it with looptrace
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(exitFailed)
	}()
	addr := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(port)}
	part := serve
	if args[0] == sceneDial {
		part = dial
	}
	if err := part(addr); err != nil {
		return exitFailed // expected of some: the demo shows it
	}
	return exitOK
}

// backlog is how many clients may wait: one does.
const backlog = 16

// serve answers each client with what it sent, until it is killed.
func serve(addr unix.Sockaddr) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(s, addr); err != nil {
		return err
	}
	if err := unix.Listen(s, backlog); err != nil {
		return err
	}
	for {
		conn, _, err := unix.Accept(s)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if err := echo(conn); err != nil {
			return err
		}
	}
}

// echo ends when the client has closed: the client's port is the one that stays in TIME_WAIT then, and the
// server's is free for the next.
func echo(conn int) error {
	defer unix.Close(conn)
	buf := make([]byte, 64)
	for {
		n, err := unix.Read(conn, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n <= 0 {
			return err
		}
		if _, err := unix.Write(conn, buf[:n]); err != nil {
			return err
		}
	}
}

func dial(addr unix.Sockaddr) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := unix.Connect(s, addr); err != nil {
		return err
	}
	if _, err := unix.Write(s, []byte("hello")); err != nil {
		return err
	}
	_, err = unix.Read(s, make([]byte, 64))
	return err
}
