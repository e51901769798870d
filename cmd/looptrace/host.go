// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
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
	h := flow.Host{UID: uint32(os.Getuid()), Service: serviceOf(port), Session: terminal()}
	if uid, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32); err == nil && os.Geteuid() == 0 {
		h.UID = uint32(uid)
	}
	if info, err := os.Stat("/proc/self/ns/net"); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			h.Netns = uint32(st.Ino)
		}
	}
	if raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if _, err := fmt.Sscan(string(raw), &h.Low, &h.High); err != nil {
			h.Low, h.High = 0, 0
		}
	}
	return h
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
