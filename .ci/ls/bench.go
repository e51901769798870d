// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// turn is what one run of a program took.
type turn struct{ wall, cpu time.Duration }

// measure runs each in turn: what the machine does meanwhile happens to all. Their output goes to /dev/null.
func measure(binary string, sockets, rounds int) error {
	if err := fill(sockets, "plain", 0); err != nil {
		return err
	}
	tools := [][]string{{binary, "ls"}, {binary, "ls", "-o", "json"}, {"ss", "-tnp"}, {"lsof", "-nP", "-i"}, {"ss", "-tn"}}
	turns := make([][]turn, len(tools))
	for round := range rounds {
		for i := range tools {
			i = (i + round) % len(tools) // nobody always comes first
			cmd := exec.Command(tools[i][0], tools[i][1:]...)
			began := time.Now()
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("%v: %w", tools[i], err)
			}
			turns[i] = append(turns[i], turn{time.Since(began), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()})
		}
	}
	fmt.Printf("%d sockets, medians of %d rounds (least - most)\n\n| | wall ms | CPU ms |\n| --- | --- | --- |\n", sockets, rounds)
	for i, t := range turns {
		name := strings.Replace(strings.Join(tools[i], " "), binary, "looptrace", 1)
		fmt.Printf("| `%s` | %s | %s |\n", name, spread(t, func(t turn) time.Duration { return t.wall }), spread(t, func(t turn) time.Duration { return t.cpu }))
	}
	return nil
}

func spread(turns []turn, of func(turn) time.Duration) string {
	var all []int64
	for _, t := range turns {
		all = append(all, of(t).Milliseconds())
	}
	slices.Sort(all)
	return fmt.Sprintf("%d (%d - %d)", all[len(all)/2], all[0], all[len(all)-1])
}
