// SPDX-License-Identifier: Apache-2.0

// Least runs a program as nobody, with the capabilities that its file has: `least CAP,CAP PROGRAM [ARG …]`. It
// copies the program and sets them there as setcap(8) does, which guests do not have.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const nobody = 65534

var bits = map[string]int{
	"bpf": unix.CAP_BPF, "perfmon": unix.CAP_PERFMON, "net_admin": unix.CAP_NET_ADMIN, "sys_admin": unix.CAP_SYS_ADMIN,
	"sys_ptrace": unix.CAP_SYS_PTRACE, "dac_read_search": unix.CAP_DAC_READ_SEARCH, "sys_resource": unix.CAP_SYS_RESOURCE,
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: least CAP,CAP PROGRAM [ARG …]")
		os.Exit(2)
	}
	err := run(strings.Split(os.Args[1], ","), os.Args[2], os.Args[3:])
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "least:", err)
		os.Exit(99)
	}
}

func run(names []string, program string, args []string) error {
	var mask uint64
	for _, name := range names {
		bit, ok := bits[name]
		if !ok {
			return fmt.Errorf("%s: unknown capability", name)
		}
		mask |= 1 << bit
	}
	dir, err := os.MkdirTemp("/tmp", "least")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	granted := filepath.Join(dir, filepath.Base(program))
	image, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if err := os.WriteFile(granted, image, 0o755); err != nil {
		return err
	}
	if err := unix.Setxattr(granted, "security.capability", fileCapabilities(mask), 0); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	cmd := exec.Command(granted, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Dir = "/tmp"
	cmd.Env = []string{"PATH=/bin", "HOME=/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd.Run()
}

// fileCapabilities is struct vfs_cap_data of linux/capability.h, revision 2: permitted, and effective at once.
func fileCapabilities(mask uint64) []byte {
	const revision2, effective = 0x02000000, 1
	data := make([]byte, 20)
	for i, word := range []uint32{revision2 | effective, uint32(mask), 0, uint32(mask >> 32), 0} {
		binary.LittleEndian.PutUint32(data[4*i:], word)
	}
	return data
}
