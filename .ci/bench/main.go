// SPDX-License-Identifier: Apache-2.0

// Bench measures what tracing costs: the same load on loopback, untraced and under looptrace and each
// peer that is installed, in turn, several rounds, and a table of medians.
//
//	go run ./.ci/bench [-rounds N] [-seconds N] [-tools untraced,stream,…] LOOPTRACE
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == loadCommand {
		load(os.Args[2:])
		return
	}
	rounds := flag.Int("rounds", 5, "how often each tool has its turn")
	seconds := flag.Int("seconds", 5, "length of a turn")
	only := flag.String("tools", "", "these alone, separated by commas")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := bench(flag.Arg(0), *rounds, time.Duration(*seconds)*time.Second, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench takes turns: what the machine does meanwhile happens to all.
func bench(binary string, rounds int, length time.Duration, only string) error {
	tools := installed(peers(binary))
	if only != "" {
		names := append(strings.Split(only, ","), untraced)
		tools = slices.DeleteFunc(tools, func(t tool) bool { return !slices.Contains(names, t.name) })
	}
	done, err := countBPFTime()
	if err != nil {
		return err
	}
	defer done()
	results := make(map[string][]turn)
	for round := range rounds {
		for i := range tools {
			t := &tools[(i+round)%len(tools)] // nobody always comes first
			got, err := t.take(length)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d: %-10s %8.0f conn/s, %d lost\n", round+1, t.name, got.rate(), got.lost)
			results[t.name] = append(results[t.name], got)
		}
	}
	report(os.Stdout, tools, results)
	return nil
}

// installed leaves out what this machine has not.
func installed(tools []tool) []tool {
	return slices.DeleteFunc(tools, func(t tool) bool {
		if len(t.argv) == 0 {
			return false
		}
		_, err := exec.LookPath(t.argv[0])
		return err != nil
	})
}
