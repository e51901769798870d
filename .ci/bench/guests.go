// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
)

// guest is what a kernel's BPF programs did for one connection, in an emulator whose clock counts instructions: a
// nanosecond is one. It does not depend on how fast the emulator is.
type guest struct {
	Kernel       string
	Form         string
	Records      float64 // a connection, through the ring
	Runs         float64 // of programs, a connection
	Instructions float64 // of the processor in BPF programs, a connection
}

// guestFormat is what TestKernelCost logs.
const guestFormat = "cost: %s records=%f runs=%f ns=%f"

// readGuests takes lines KERNEL "cost: …" from a file.
func readGuests(path string, into *results) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	into.Guests = nil
	for line := range strings.Lines(string(text)) {
		var g guest
		if _, err := fmt.Sscanf(line, "%s "+guestFormat, &g.Kernel, &g.Form, &g.Records, &g.Runs, &g.Instructions); err != nil {
			return fmt.Errorf("%s: %q: %w", path, line, err)
		}
		into.Guests = append(into.Guests, g)
	}
	if len(into.Guests) == 0 {
		return fmt.Errorf("%s: no costs", path)
	}
	return nil
}
