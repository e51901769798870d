// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// pipePoll is how often watchPipe sees whether it should end, in milliseconds. It is woken at once by
// what it waits for; a longer wait only keeps the goroutine.
const pipePoll = 250

// watchPipe calls closed when nobody reads a pipe any more. Writing would say so too, but on a quiet
// machine there may be nothing to write for hours, and `looptrace | head -1` would hang.
func watchPipe(ctx context.Context, f *os.File, closed func()) {
	info, err := f.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return
	}
	fds := []unix.PollFd{{Fd: int32(f.Fd())}} // POLLERR is always asked for
	for ctx.Err() == nil {
		n, err := unix.Poll(fds, pipePoll)
		if n > 0 || err != nil && err != unix.EINTR {
			closed()
			return
		}
	}
}
