// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// cost is what the verifier had to do for a program: instructions looked at, states held at once.
type cost struct{ instructions, states int }

// addCost takes a line of TestKernelVerifier's. A program of several forms keeps the most.
func (k *kernel) addCost(output string) {
	_, line, ok := strings.Cut(output, ": verifier: ")
	if !ok {
		return
	}
	var program string
	var c cost
	if _, err := fmt.Sscan(line, &program, &c.instructions, &c.states); err == nil {
		was := k.costs[program]
		k.costs[program] = cost{max(was.instructions, c.instructions), max(was.states, c.states)}
	}
}

const accept = "make test-kernels RUN=TestKernelVerifier UPDATE=1 accepts it"

// grown names the programs that cost a fifth more than they did. Where the whole list of programs was
// measured, those that came or went are told too: the file would be wrong.
func (k *kernel) grown(was map[string]map[string]cost, some bool) []string {
	var list []string
	if len(k.costs) == 0 {
		if some {
			return nil
		}
		return []string{"TestKernelVerifier measured nothing"}
	}
	for _, program := range slices.Sorted(maps.Keys(k.costs)) {
		now := k.costs[program]
		before, ok := was[k.name][program]
		switch {
		case !ok:
			list = append(list, fmt.Sprintf("verifier: %s is new, %s", program, accept))
		case now.instructions*5 > before.instructions*6 || now.states*5 > before.states*6 && now.states > before.states+4:
			list = append(list, fmt.Sprintf("verifier: %s grew by more than 20 %%: %d instructions and %d states, were %d and %d, %s",
				program, now.instructions, now.states, before.instructions, before.states, accept))
		}
	}
	for program := range was[k.name] {
		if _, ok := k.costs[program]; !ok {
			list = append(list, fmt.Sprintf("verifier: %s is gone, %s", program, accept))
		}
	}
	return list
}

const costsHead = `# What the kernels' verifiers had to do for each program: instructions looked at / states held at once, the larger
# of a run without filters and one with all. The limit is 1,000,000 instructions. "make test-kernels" fails where a
# program grows by more than 20 %; "make test-kernels RUN=TestKernelVerifier UPDATE=1" writes this file.
`

// readCosts reads the file, by kernel and program. None yet is none.
func readCosts(path string) (map[string]map[string]cost, error) {
	costs := map[string]map[string]cost{}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return costs, nil
	}
	if err != nil {
		return nil, err
	}
	var kernels []string
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		switch {
		case strings.HasPrefix(line, "#"):
		case kernels == nil:
			for _, name := range f[1:] {
				kernels = append(kernels, name)
				costs[name] = map[string]cost{}
			}
		default:
			for i, cell := range f[1:] {
				var c cost
				if _, err := fmt.Sscanf(cell, "%d/%d", &c.instructions, &c.states); err == nil {
					costs[kernels[i]][f[0]] = c
				}
			}
		}
	}
	return costs, nil
}

// writeCosts writes the file anew: kernels that were measured as they are now, the others as they were.
func writeCosts(path string, costs map[string]map[string]cost, all []*kernel) error {
	for _, k := range all {
		if len(k.costs) > 0 {
			costs[k.name] = k.costs
		}
	}
	programs := map[string]bool{}
	for _, of := range costs {
		for program := range of {
			programs[program] = true
		}
	}
	kernels := slices.SortedFunc(maps.Keys(costs), compareNames)
	var b strings.Builder
	b.WriteString(costsHead + "program\t" + strings.Join(kernels, "\t") + "\n")
	for _, program := range slices.Sorted(maps.Keys(programs)) {
		b.WriteString(program)
		for _, name := range kernels {
			cell := "-"
			if c, ok := costs[name][program]; ok {
				cell = fmt.Sprintf("%d/%d", c.instructions, c.states)
			}
			b.WriteString("\t" + cell)
		}
		b.WriteString("\n")
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// compareNames sorts names of kernels by architecture, and 6.1 before 6.12.
func compareNames(a, b string) int {
	numbers := func(name string) (arch string, version [2]int) {
		arch, rest, _ := strings.Cut(name, "-")
		_, _ = fmt.Sscanf(rest, "%d.%d", &version[0], &version[1]) // "7.x" is 7.0
		return arch, version
	}
	archA, versionA := numbers(a)
	archB, versionB := numbers(b)
	if archA != archB {
		return strings.Compare(archA, archB)
	}
	return slices.Compare(versionA[:], versionB[:])
}
