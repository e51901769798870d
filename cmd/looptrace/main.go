// SPDX-License-Identifier: Apache-2.0

// Looptrace says who grabbed a port and who connected to it: it follows the loopback sockets of a
// Linux machine, in every network namespace, and writes a line for each thing that happens to one.
package main

import (
	"context"
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

	app := newApp(os.Stdout, os.Stderr)
	err := app.RunContext(context.Background(), arrange(os.Args, app))
	os.Exit(finish(os.Stderr, err))
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
