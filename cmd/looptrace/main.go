// SPDX-License-Identifier: Apache-2.0

// Looptrace says who grabbed a port and who connected to it: it follows the loopback sockets of a
// Linux machine, in every network namespace, and writes a line for each thing that happens to one.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker (-X main.version=…).
var version = "dev"

func main() {
	if code, ok := hidden(os.Args); ok {
		os.Exit(code)
	}
	// Go ends a process that writes to a closed pipe with SIGPIPE. Caught, the write fails with
	// EPIPE and the run ends in order. Not ignored: `run` would hand that down to its command.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	out := &checkedWriter{to: os.Stdout}
	app := newApp(out, os.Stderr)
	err := app.RunContext(context.Background(), arrange(os.Args, app))
	if err == nil {
		err = out.err
	}
	os.Exit(finish(os.Stderr, err))
}

// checkedWriter keeps the first error of a writer: the library, whose help goes there, does not look at it.
type checkedWriter struct {
	to  io.Writer
	err error
}

func (w *checkedWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if w.err == nil {
		w.err = err
	}
	return n, err
}

// hidden runs what looptrace starts of itself, and people never: it has no flags and no help.
func hidden(args []string) (code int, ok bool) {
	if len(args) < 2 {
		return 0, false
	}
	switch args[1] {
	case stageCommand:
		return stage(args[2:]), true
	case sceneCommand:
		return playScene(args[2:]), true
	default:
		return 0, false
	}
}
