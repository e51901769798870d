// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// kernelFiles are the two file systems that the tracepoint form goes through. What the host has
// not mounted is mounted for this process alone, attached to no directory (fsmount(2), since 5.2).
type kernelFiles struct {
	tracefs string // numbers of the system call tracepoints
	cgroup  string // root of the unified hierarchy
	mounts  []*os.File
}

func openKernelFiles() (f kernelFiles, err error) {
	if f.tracefs, err = f.find("tracefs"); err != nil {
		return f, fmt.Errorf("mount tracefs: %w", err)
	}
	if f.cgroup, err = f.find("cgroup2"); err != nil {
		f.Close()
		return f, fmt.Errorf("mount cgroup2: %w", err)
	}
	return f, nil
}

func (f *kernelFiles) Close() {
	for _, m := range f.mounts {
		m.Close()
	}
	f.mounts = nil
}

func (f *kernelFiles) find(fstype string) (string, error) {
	if dir := mountpoint(fstype); dir != "" {
		return dir, nil
	}
	fd, err := detachedMount(fstype)
	if err != nil {
		return "", err
	}
	m := os.NewFile(uintptr(fd), fstype)
	f.mounts = append(f.mounts, m)
	dir := fmt.Sprintf("/proc/self/fd/%d", fd)
	if !whole(fstype, "/", dir) {
		return "", errPart
	}
	return dir, nil
}

// errPart: a program on the cgroup of a container sees what happens in that container alone, and nothing counts the rest.
var errPart = errors.New("only this container's part of it can be seen")

// whole says whether a mount shows all of a file system. One whose root is not "/" does not, but of cgroups: in a
// cgroup namespace, as containers have, "/" is the namespace's own cgroup, and what they all are below is "/..". Of
// all cgroups only the first has no cgroup.events (cgroups(7)).
func whole(fstype, root, dir string) bool {
	if fstype == "cgroup2" {
		return exists(dir+"/cgroup.procs") && !exists(dir+"/cgroup.events")
	}
	return root == "/"
}

// mountpoint gives where a whole file system of that type is mounted (proc_pid_mountinfo(5), fields 4, 5 and 9).
func mountpoint(fstype string) string {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		fields := strings.Fields(before)
		if ok && len(fields) > 4 && strings.HasPrefix(after, fstype+" ") && whole(fstype, fields[3], fields[4]) {
			return fields[4]
		}
	}
	return ""
}

func detachedMount(fstype string) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}

// perfEvent is a tracepoint with a program on it.
type perfEvent struct{ fd int }

func (p perfEvent) Close() error { return unix.Close(p.fd) }

// tracepoint attaches a program to a tracepoint for all processes, by its number in tracefs.
func (f *kernelFiles) tracepoint(group, name string, prog *ebpf.Program) (io.Closer, error) {
	raw, err := os.ReadFile(f.tracefs + "/events/" + group + "/" + name + "/id")
	if errors.Is(err, os.ErrNotExist) {
		return nil, errAbsent
	}
	if err != nil {
		return nil, err
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("tracepoint number: %w", err)
	}
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Size: uint32(unix.PERF_ATTR_SIZE_VER5), Sample_type: unix.PERF_SAMPLE_RAW, Sample: 1, Wakeup: 1}
	// A tracepoint's program runs on every CPU, whichever the event is opened on.
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("perf_event_open: %w", err)
	}
	for request, value := range map[uint]int{unix.PERF_EVENT_IOC_SET_BPF: prog.FD(), unix.PERF_EVENT_IOC_ENABLE: 0} {
		if err := unix.IoctlSetInt(fd, request, value); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("set program: %w", err)
		}
	}
	return perfEvent{fd}, nil
}
