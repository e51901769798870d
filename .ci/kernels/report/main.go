// SPDX-License-Identifier: Apache-2.0

// Report merges what the guests' tests said into one table, and fails unless all of it passed.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

var forms = []string{"fentry", "kprobe", "tracepoint"}

// kernel is one line of the list, and what became of it.
type kernel struct {
	name, arch, version string

	demanded []string
	tests    map[string]*tally // by form, "" for tests that are of none
	failed   []string          // names of tests
	skips    []skip
	output   map[string][]string
	costs    map[string]cost // by program
	code     string          // of the guest
	said     []string        // by the kernel: warnings and worse
	retried  []string        // boots in which the emulator died, as boot tells them
}

// skip is a test that did not run, and why.
type skip struct{ test, why string }

// tally counts tests that have no subtests.
type tally struct{ passed, failed, skipped int }

func (t *tally) of() int { return t.passed + t.failed + t.skipped }

func main() {
	list := flag.String("list", ".ci/kernels/list", "the list of kernels")
	results := flag.String("results", "", "the folder with NAME.json, NAME.version and NAME.code")
	document := flag.String("o", "", "write the table to this file too")
	some := flag.Bool("some", false, "only some tests ran: a form may have none")
	costs := flag.String("verifier", ".ci/kernels/verifier.tsv", "what verifying each program cost before")
	update := flag.Bool("update", false, "write what it costs now there")
	flag.Parse()
	all, err := read(*list, *results, flag.Args())
	if err == nil {
		err = report(all, *document, *some, *costs, *update)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// read gives the kernels that have these names.
func read(list, results string, names []string) ([]*kernel, error) {
	text, err := os.ReadFile(list)
	if err != nil {
		return nil, err
	}
	var all []*kernel
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 5 || !slices.Contains(names, f[0]) {
			continue
		}
		k := &kernel{name: f[0], arch: f[1], demanded: strings.Split(f[4], ","), tests: map[string]*tally{}, output: map[string][]string{}, costs: map[string]cost{}}
		if err := k.read(filepath.Join(results, k.name)); err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		all = append(all, k)
	}
	if len(all) != len(names) {
		return nil, fmt.Errorf("%d of %d kernels are in %s", len(all), len(names), list)
	}
	return all, nil
}

func (k *kernel) read(path string) error {
	version, err := os.ReadFile(path + ".version")
	if err != nil {
		return err
	}
	code, err := os.ReadFile(path + ".code")
	if err != nil {
		return err
	}
	k.version, k.code = strings.TrimSpace(string(version)), strings.TrimSpace(string(code))
	said, err := os.ReadFile(path + ".err")
	if err != nil {
		return err
	}
	k.said, k.retried = complaints(string(said))
	f, err := os.Open(path + ".json")
	if err != nil {
		return err
	}
	defer f.Close()
	return k.count(f)
}

// event is a line of go test -json (cmd/test2json).
type event struct{ Action, Package, Test, Output string }

func (k *kernel) count(r io.Reader) error {
	ended := map[string]string{}
	var names []string
	for in := json.NewDecoder(bufio.NewReader(r)); ; {
		var e event
		if err := in.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		name := e.Package + "/" + e.Test
		switch e.Action {
		case "run":
			names = append(names, name)
			ended[name] = "fail" // one that never ends
		case "pass", "fail", "skip":
			if e.Test != "" {
				ended[name] = e.Action
			}
		case "output":
			k.output[name] = append(k.output[name], e.Output)
			k.addCost(e.Output)
		}
	}
	for _, name := range names {
		if ended[name] == "fail" {
			k.failed = append(k.failed, name)
		}
		if slices.ContainsFunc(names, func(other string) bool { return strings.HasPrefix(other, name+"/") }) {
			continue
		}
		form := formOf(name)
		if k.tests[form] == nil {
			k.tests[form] = &tally{}
		}
		switch t := k.tests[form]; ended[name] {
		case "pass":
			t.passed++
		case "skip":
			t.skipped++
			k.skips = append(k.skips, skip{name, reason(k.output[name])})
		default:
			t.failed++
		}
	}
	return nil
}

// formOf gives the hook form that a test is of: a part of its name.
func formOf(name string) string {
	for part := range strings.SplitSeq(name, "/") {
		if slices.Contains(forms, part) {
			return part
		}
	}
	return ""
}

// report writes the table and what failed, and fails if anything did.
func report(all []*kernel, document string, some bool, costs string, update bool) error {
	fmt.Print(table(all))
	was, err := readCosts(costs)
	if err != nil {
		return err
	}
	var problems int
	for _, k := range all {
		for _, line := range k.retried { // not the kernel's doing, nor ours
			fmt.Println(line)
		}
		list := k.problems(some)
		if !update {
			list = append(list, k.grown(was, some)...)
		}
		for _, line := range list {
			fmt.Println(k.name + ": " + line)
			problems++
		}
	}
	if update {
		if err := writeCosts(costs, was, all); err != nil {
			return err
		}
	}
	if document != "" {
		if err := os.WriteFile(document, []byte(preface+table(all)+notes(all)), 0o644); err != nil {
			return err
		}
	}
	if problems > 0 {
		return fmt.Errorf("%d problems", problems)
	}
	return nil
}

const preface = `# Kernels

Written by ` + "`make test-kernels`" + `, which boots these kernels in an emulator and runs the kernel tests in
them with every hook form that must work there: passed / run. A dash is a form that this kernel does
not have. The last column has the tests that pick a form themselves: the command line's, and doctor's.

The tests with real servers (` + "`TestKernelServers`" + `) run on the development machine alone, and a burst has 60
connections here instead of 300.

`

func table(all []*kernel) string {
	var b strings.Builder
	b.WriteString("| kernel | arch | " + strings.Join(forms, " | ") + " | any |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, k := range all {
		fmt.Fprintf(&b, "| %s | %s |", k.version, k.arch)
		for _, form := range append(slices.Clone(forms), "") {
			cell := "–"
			if t := k.tests[form]; t != nil {
				cell = fmt.Sprintf("%d / %d", t.passed, t.of())
			} else if form == "" || slices.Contains(k.demanded, form) {
				cell = "0 / 0"
			}
			b.WriteString(" " + cell + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// notes lists what did not run, and why.
func notes(all []*kernel) string {
	var b strings.Builder
	for _, k := range all {
		for _, s := range k.skips {
			fmt.Fprintf(&b, "- %s, %s: %s\n", k.version, s.test, s.why)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\nNot run, since the kernel is older than what the test needs:\n\n" + b.String()
}

// problems says why a kernel is not supported: a test that failed or did not run, or a kernel that complained.
func (k *kernel) problems(some bool) []string {
	var list []string
	for _, name := range k.failed {
		list = append(list, "FAIL "+name+"\n"+strings.Join(k.output[name], ""))
	}
	for _, s := range k.skips {
		if !k.olderThan(s.why) {
			list = append(list, fmt.Sprintf("%s was skipped: %s", s.test, s.why))
		}
	}
	for _, form := range append([]string{""}, k.demanded...) {
		if t := k.tests[form]; !some && (t == nil || t.of() == 0) {
			list = append(list, fmt.Sprintf("no test ran with hook form %q", form))
		}
	}
	if k.code != "0" {
		list = append(list, "the guest's exit code was "+k.code)
	}
	if len(k.said) > 0 {
		list = append(list, "the kernel complained:\n"+strings.Join(k.said, "\n"))
	}
	return list
}

// reason finds what a skipped test said, without where in its source.
func reason(output []string) string {
	for _, line := range output {
		if at, why, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && strings.Contains(at, "_test.go:") {
			return why
		}
	}
	return "no reason"
}

// olderThan says whether a skip names a version that this kernel is older than.
func (k *kernel) olderThan(why string) bool {
	var have, want [2]int
	if _, err := fmt.Sscanf(why, "needs Linux %d.%d", &want[0], &want[1]); err != nil {
		return false
	}
	if _, err := fmt.Sscanf(k.version, "%d.%d", &have[0], &have[1]); err != nil {
		return false
	}
	return slices.Compare(have[:], want[:]) < 0
}

// complaints are the lines of a guest's stderr in which its kernel reports errors, with what
// follows them. Apart from those, boot says there whether the emulator died and it tried again.
func complaints(text string) (said, retried []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "boot: ") && strings.Contains(line, "the emulator died while booting"):
			retried = append(retried, line)
		case line == "" || strings.HasPrefix(line, "fetch: ") || strings.HasSuffix(line, "reboot: Power down"):
		default:
			said = append(said, line)
		}
	}
	return said, retried
}
