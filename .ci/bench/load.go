// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A load is two processes of this program, a server and its child the client, in a network namespace of
// their own. The client is told what to do by lines on its standard input.
const (
	serverCommand = "__server"
	clientCommand = "__client"
)

// Loads.
const (
	churn     = "churn"     // connect, a byte each way, close, as fast as it goes or at a rate
	keepalive = "keepalive" // requests over connections that stay
	udp       = "udp"       // flows of datagrams
	far       = "far"       // churn, between two network namespaces: no loopback traffic
	idle      = "idle"      // nothing
	crowd     = "crowd"     // churn, by any number of client processes, see crowd.c
)

const (
	port      = 17777 // what tells the load's connections from the machine's own
	acceptors = 4
	farNet    = "10.177.7."
)

// serverMain serves one load until its client is gone.
func serverMain(load string, clientArgs []string) error {
	if err := loopbackUp(); err != nil {
		return err
	}
	address := "127.0.0.1"
	if load == far {
		address = farNet + "1"
	}
	client := exec.Command("/proc/self/exe", append([]string{clientCommand, load, address}, clientArgs...)...)
	client.Stdin, client.Stdout, client.Stderr = os.Stdin, os.Stdout, os.Stderr
	client.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if load == far {
		client.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
	}
	if err := client.Start(); err != nil {
		return err
	}
	if load == far {
		if err := wire(client.Process.Pid); err != nil {
			return err
		}
	}
	if err := serve(load, address); err != nil {
		return err
	}
	fmt.Println("ready")
	return client.Wait()
}

// wire joins this network namespace and another process's by a pair of interfaces.
func wire(pid int) error {
	for _, line := range []string{
		fmt.Sprintf("ip link add far0 type veth peer name far0 netns %d", pid),
		"ip address add " + farNet + "1/24 dev far0",
		"ip link set far0 up",
		fmt.Sprintf("nsenter -t %d -n ip address add %s2/24 dev far0", pid, farNet),
		fmt.Sprintf("nsenter -t %d -n ip link set far0 up", pid),
	} {
		argv := strings.Fields(line)
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
	}
	return nil
}

func serve(load, address string) error {
	if load == udp {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(address), Port: port})
		if err != nil {
			return err
		}
		for range acceptors {
			go echo(conn) // ends with the process
		}
		return nil
	}
	l, err := listen(address)
	if err != nil {
		return err
	}
	for range acceptors {
		go accept(l, load) // ends with the process
	}
	return nil
}

func listen(address string) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // peers do not see that
	return config.Listen(context.Background(), "tcp4", net.JoinHostPort(address, strconv.Itoa(port)))
}

func accept(l net.Listener, load string) {
	for {
		c, err := l.Accept()
		if err != nil {
			fail(err)
		}
		if load == keepalive {
			go answer(c, true) // ends with the connection
		} else {
			answer(c, false)
		}
	}
}

// answer sends back what comes, once or until the client closes.
func answer(c net.Conn, again bool) {
	defer c.Close()
	b := make([]byte, requestSize)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil || !again {
			return
		}
	}
}

func echo(conn *net.UDPConn) {
	b := make([]byte, requestSize)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if err != nil {
			fail(err)
		}
		_, _ = conn.WriteToUDPAddrPort(b[:n], from)
	}
}

// clientMain does what the lines of its standard input say, and answers each with a line.
func clientMain(load, address string, args []string) error {
	c, err := newClient(load, address, args)
	if err != nil {
		return err
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.obey(strings.Fields(line)); err != nil {
			return err
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
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
