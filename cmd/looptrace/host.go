// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/tracer/flow"
)

// hostNow gathers what this machine says of itself and of who asks. What cannot be read is left out.
func hostNow(port uint16) flow.Host {
	h := flow.Host{UID: uint32(os.Getuid()), Service: serviceOf(port), Session: terminal(), Netns: netnsHere()}
	if uid, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32); err == nil && os.Geteuid() == 0 {
		h.UID = uint32(uid)
	}
	if low, high, err := portRange(); err == nil {
		h.Low, h.High = low, high
	}
	return h
}

// netnsHere is the inode number of this process's network namespace, 0 where it cannot be read.
func netnsHere() uint32 {
	info, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return 0
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return uint32(st.Ino)
}

// serviceOf is what /etc/services has a TCP port registered for; "": nothing, or there is no such file.
func serviceOf(port uint16) string {
	f, err := os.Open("/etc/services")
	if err != nil {
		return ""
	}
	defer f.Close()
	want := fmt.Sprintf("%d/tcp", port)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == want {
			return fields[0]
		}
	}
	return ""
}

// clockTick is USER_HZ: the unit of a process's start in /proc/PID/stat.
const clockTick = 10 * time.Millisecond

// terminal gives the processes above this one that are of its terminal: on one, or, as below sudo, which has a
// terminal of its own, of this one's session. What started the terminal is above other people's too.
func terminal() []flow.Process {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil
	}
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail for this clock (clock_gettime(2))
	boot := time.Now().Add(-time.Duration(ts.Nano()))
	self, err := fs.Self()
	if err != nil {
		return nil
	}
	own, err := self.Stat()
	if err != nil {
		return nil
	}
	var list []flow.Process
	for pid := own.PPID; pid > 1; {
		proc, err := fs.Proc(pid)
		if err != nil {
			break
		}
		stat, err := proc.Stat()
		if err != nil || stat.TTY == 0 && stat.Session != own.Session {
			break
		}
		exe, _ := proc.Executable() // another user's cannot be read: the name is left out
		list = append(list, flow.Process{
			ProcessID: flow.ProcessID{PID: uint32(pid)}, ExeName: filepath.Base(exe),
			Created: boot.Add(time.Duration(stat.Starttime) * clockTick),
		})
		pid = stat.PPID
	}
	return list
}

// waitingNow gives the TIME_WAITs of a port in this network namespace, from the kernel's own list. It names no
// process: the kernel does not keep it.
func waitingNow(port uint16) []flow.Holder {
	var list []flow.Holder
	for _, path := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		f, err := os.Open(path)
		if err != nil {
			continue // there is no IPv6
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if h, ok := waitingLine(lines.Text()); ok && h.Port == port {
				list = append(list, h)
			}
		}
		_ = f.Close()
	}
	return list
}

// waitingLine reads a line of /proc/net/tcp (proc(5)) if it is a TIME_WAIT:
// "0: 0100007F:1F90 0100007F:B5A2 06 00000000:00000000 03:000016D1 …", with what is left in clock ticks after 03.
func waitingLine(line string) (flow.Holder, bool) {
	const timeWait, timer = "06", "03:"
	field := strings.Fields(line)
	if len(field) < 6 || field[3] != timeWait || !strings.HasPrefix(field[5], timer) {
		return flow.Holder{}, false
	}
	local, err1 := procAddr(field[1])
	peer, err2 := procAddr(field[2])
	ticks, err3 := strconv.ParseUint(field[5][len(timer):], 16, 32)
	if errors.Join(err1, err2, err3) != nil {
		return flow.Holder{}, false
	}
	return flow.Holder{
		Kind: flow.HolderTimeWait, Address: local.Addr(), Port: local.Port(), Peer: peer,
		Expires: time.Duration(ticks) * clockTick,
	}, true
}

// procAddr reads an address as /proc/net/tcp has it: 32 bit words in the machine's byte order, and the port.
func procAddr(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	raw, err1 := hex.DecodeString(host)
	number, err2 := strconv.ParseUint(port, 16, 16)
	if err := errors.Join(err1, err2); err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address %q", text)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), nil
}
