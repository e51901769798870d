// SPDX-License-Identifier: Apache-2.0

// Flood holds what looptrace record keeps against what happened: a load of short connections in a network namespace of
// its own, and each of them, with its bytes, looked for in the store afterwards. It prints what that cost, and fails if one
// is missing.
//
//	flood [-ports N] [-seconds N] LOOPTRACE
package main

import (
	"flag"
	"os"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == loadCommand {
		load(os.Args[2:])
		return
	}
	ports := flag.Int("ports", 64, "connect to so many ports in turn")
	seconds := flag.Int("seconds", 10, "for so long")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := flood(os.Stdout, flag.Arg(0), time.Duration(*seconds)*time.Second, *ports); err != nil {
		fail(err)
	}
}
