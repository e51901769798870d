// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// scope is a set of commands that take a flag.
type scope uint

const (
	inStream scope = 1 << iota
	inRun
	inOutput // commands that only print something
	inExplain
	inRecord
	inLog
	inLs
)

// What a command takes: flags that have one of these bits.
const (
	forNothing = scope(0)
	forStream  = inStream
	forRun     = inRun
	forOutput  = inOutput
	forExplain = inExplain
	forRecord  = inRecord
	forLog     = inLog
	forLs      = inLs
	streaming  = inStream | inRun     // records go to stdout or stderr
	tracing    = streaming | inRecord // there are hooks
	filtering  = tracing | inLog
)

// The groups of the help.
const (
	groupFilter = "Filter"
	groupOutput = "Output"
	groupTrace  = "Tracing"
	groupPast   = "History"
)

// spec is one flag: the table's row, from which the flag itself, the help, the completions and the
// man page are made.
type spec struct {
	name, short string
	value       string // placeholder of the value; "" for a switch
	list        bool   // takes several values, by commas or by repetition
	usage       string
	group       string
	in          scope
	words       []string // values that a shell can complete
	complete    string   // what else it can complete: file, user, command
}

// flagTable is every flag there is.
func flagTable() []spec {
	return []spec{
		{name: "event", value: "NAMES", list: true, in: filtering, group: groupFilter, words: eventNames, usage: "events: " + strings.Join(eventNames, ", ")},
		{name: "proto", value: "NAMES", list: true, in: filtering | inLs, group: groupFilter, words: protoNames, usage: "transports: tcp, udp"},
		{name: "port", value: "PORTS", list: true, in: filtering | inLs, group: groupFilter, usage: "ports, at either end"},
		{name: "pid", value: "PIDS", list: true, in: filtering | inLs, group: groupFilter, usage: "process ids"},
		{name: "comm", value: "NAMES", list: true, in: filtering | inLs, group: groupFilter, usage: "program names, as ps -o comm shows them"},
		{name: "user", value: "USERS", list: true, in: filtering | inLs, group: groupFilter, complete: "user", usage: "owners of the processes, by name or number"},
		{name: "container", value: "IDS", list: true, in: filtering | inLs, group: groupFilter, usage: "containers: an id, the beginning of one, or a name"},
		{name: "netns", value: "NAMESPACES", list: true, in: filtering | inLs, group: groupFilter, complete: "file", usage: "network namespaces: a number as records have it, or /proc/PID/ns/net"},
		{name: "failed", in: filtering, group: groupFilter, usage: "failures only"},
		{name: "local", in: tracing | inLs, group: groupFilter, usage: "traffic between any two addresses of one network namespace"},
		{name: "no-snapshot", in: tracing, group: groupFilter, usage: "leave out the sockets that were there before"},

		{name: "output", short: "o", value: "FORMAT", in: streaming | inLog, group: groupOutput, words: formats, usage: "text, json or ecs, the Elastic Common Schema (default text)"},
		{name: "output", short: "o", value: "FORMAT", in: inOutput | inExplain | inLs, group: groupOutput, words: plainFormats, usage: "text or json (default text)"},
		{name: "all", in: inLs, group: groupOutput, usage: "bound sockets that do not listen too, and TIME_WAITs (as text)"},
		{name: "watch", in: inLs, group: groupOutput, usage: "look again every two seconds, until Ctrl-C"},

		{name: "at", value: "TIME", in: inExplain, group: groupPast, usage: "a moment in the past: RFC 3339, a time of day such as 14:03 or 'yesterday 14:03:07', a date, or how long ago, such as 2h or 3d"},
		{name: "since", value: "TIME", in: inExplain | inLog, group: groupPast, usage: "leave out what was over before then"},
		{name: "until", value: "TIME", in: inLog, group: groupPast, usage: "leave out what came after that"},
		{name: "follow", short: "f", in: inLog, group: groupPast, usage: "go on with what looptrace record writes, until Ctrl-C"},
		{name: "by", value: "WHAT", in: inLog, group: groupPast, words: groupings, usage: "count the ephemeral ports that were taken: by program, port or user"},
		{name: "store", value: "PATH", in: inExplain | inRecord | inLog, group: groupPast, complete: "file", usage: "where looptrace record writes (default " + defaultStore + ")"},
		{name: "status", in: inRecord, group: groupPast, usage: "print what the store holds"},
		{name: "max-age", value: "TIME", in: inRecord, group: groupPast, usage: "forget records that are older (default 14d)"},
		{name: "max-size", value: "MB", in: inRecord, group: groupPast, usage: "forget the oldest records when the store is larger (default 512)"},
		{name: "log-file", value: "PATH", in: tracing, group: groupOutput, complete: "file", usage: "write JSON to this file too: rotated at 100 MB, 5 kept, reopened on SIGHUP"},
		{name: "otlp", value: "URL", in: tracing, group: groupOutput, usage: "send OpenTelemetry logs there, such as http://127.0.0.1:4318; OTEL_ variables say the rest"},
		{name: "metrics", value: "ADDR", in: tracing, group: groupOutput, usage: "serve Prometheus metrics at /metrics there: a port of loopback such as 9464, or an address and a port"},
		{name: "cmdline", value: "HOW", in: tracing, group: groupOutput, words: cmdlineModes, usage: "command lines: full, redacted (secrets become ***) or none (default full, in --log-file, --otlp and record redacted)"},
		{name: "summary", value: "TIME", in: streaming, group: groupOutput, usage: "count connections in the kernel, and write the counts as often (such as 10s) instead of each"},
		{name: "count", value: "N", in: streaming, group: groupOutput, usage: "stop after N records"},
		{name: "duration", value: "TIME", in: tracing, group: groupOutput, usage: "stop after a time such as 30s or 5m"},
		{name: "strict", in: tracing, group: groupOutput, usage: "exit with 5 if events were lost"},

		{name: "hooks", value: "FORM", in: tracing, group: groupTrace, words: hookForms, usage: "how to hook the kernel: auto, fentry, kprobe or tracepoint (default auto)"},
		{name: "as", value: "USER", in: inRun, group: groupTrace, complete: "user", usage: "run the command as this user (under sudo: the one who called it)"},
	}
}

// flagsFor makes the flags of a command. They hold values: each call makes new ones.
func flagsFor(scope scope) []cli.Flag {
	var flags []cli.Flag
	for _, s := range flagTable() {
		if s.in&scope != 0 {
			flags = append(flags, s.flag())
		}
	}
	return flags
}

func (s spec) flag() cli.Flag {
	var aliases []string
	if s.short != "" {
		aliases = []string{s.short}
	}
	switch {
	case s.value == "":
		return &cli.BoolFlag{Name: s.name, Aliases: aliases, Usage: s.usage, DisableDefaultText: true}
	case s.list:
		return &cli.GenericFlag{Name: s.name, Usage: s.usage, Value: &list{}}
	default:
		return &cli.StringFlag{Name: s.name, Aliases: aliases, Usage: s.usage}
	}
}

// list is a flag that may be repeated: --port 80 --port 81 is --port 80,81.
type list struct{ text string }

// Set adds values; package flag calls it for each time that the flag is given.
func (l *list) Set(text string) error {
	if l.text != "" {
		text = l.text + "," + text
	}
	l.text = text
	return nil
}

func (l *list) String() string { return l.text }

// specOf finds a flag by its name or its letter, with or without dashes and value.
func specOf(word string) (spec, bool) {
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	table := flagTable()
	i := slices.IndexFunc(table, func(s spec) bool { return s.name == name || s.short != "" && s.short == name })
	if i < 0 {
		return spec{}, false
	}
	return table[i], true
}

// takesValue says whether the word after this flag belongs to it.
func takesValue(word string) bool {
	s, ok := specOf(word)
	return ok && s.value != "" && !strings.Contains(word, "=")
}

// given reads flags wherever they stand: `looptrace -o json doctor` is `looptrace doctor -o json`.
type given struct{ *cli.Context }

// text is a flag's value, "" where it was not given.
func (g given) text(name string) string {
	for _, c := range g.Lineage() {
		if c.Command != nil && c.IsSet(name) {
			return c.String(name)
		}
	}
	return ""
}

func (g given) has(name string) bool {
	return slices.ContainsFunc(g.Lineage(), func(c *cli.Context) bool { return c.Command != nil && c.IsSet(name) && c.Bool(name) })
}

// isSet tells an empty value from none.
func (g given) isSet(name string) bool {
	return slices.ContainsFunc(g.Lineage(), func(c *cli.Context) bool { return c.Command != nil && c.IsSet(name) })
}

// takes says whether a command takes a flag, which may have a row for each of several kinds of commands.
func takes(scope scope, name string) bool {
	return slices.ContainsFunc(flagTable(), func(s spec) bool { return s.name == name && s.in&scope != 0 })
}

// refuseStray says no to a flag before a command that does not take it; the library ignores it.
func refuseStray(c *cli.Context, scope scope) error {
	for _, parent := range c.Lineage()[1:] {
		if parent.Command == nil {
			continue
		}
		for _, name := range parent.LocalFlagNames() {
			if s, ok := specOf(name); ok && !takes(scope, s.name) {
				return usagef("looptrace "+c.Command.Name+" --help lists its flags", "%s does not take --%s", c.Command.Name, s.name)
			}
		}
	}
	return nil
}
