// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKernelCgroupNamespace: in a container's cgroup namespace "/" is the container's own cgroup. A program there would
// see this container's sockets alone.
func TestKernelCgroupNamespace(t *testing.T) {
	needRoot(t)
	all := t.TempDir()
	if err := unix.Mount("cgroup2", all, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(all, unix.MNT_DETACH) }()
	own := filepath.Join(all, "looptrace-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	before := "/"
	for line := range strings.Lines(readFile(t, "/proc/self/cgroup")) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			before = strings.TrimSpace(path)
		}
	}
	move := func(cgroup string) error {
		return os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err := move(own); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(move(filepath.Join(all, before)), os.Remove(own)); err != nil {
			t.Error(err)
		}
	}()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, "/proc/thread-self/cgroup"); !strings.HasSuffix(got, "0::/\n") {
		t.Fatalf("no cgroup namespace of its own: %s", got)
	}
	var f kernelFiles
	defer f.Close()
	dir, err := f.find("cgroup2")
	if err != nil || !exists(filepath.Join(dir, filepath.Base(own), "cgroup.procs")) {
		t.Errorf("%q, %v: not the cgroup that all others are below", dir, err)
	}
	if whole("cgroup2", "/", own) {
		t.Error("this process's own cgroup was taken for all")
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
