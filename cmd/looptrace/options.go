// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/looptrace/looptrace/output/history"
	"github.com/looptrace/looptrace/output/otlp"
	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

// Output formats.
const (
	formatText = "text"
	formatJSON = "json"
	formatECS  = "ecs"
)

// How command lines are written.
const (
	cmdlineFull     = "full"
	cmdlineRedacted = "redacted"
	cmdlineNone     = "none"
)

// The words that flags take.
var (
	formats      = []string{formatText, formatJSON, formatECS}
	plainFormats = []string{formatText, formatJSON} // of commands that print no records alone
	cmdlineModes = []string{cmdlineFull, cmdlineRedacted, cmdlineNone}
	hookForms    = []string{string(tracer.Auto), string(tracer.Fentry), string(tracer.Kprobe), string(tracer.Tracepoint)}
	eventNames   = []string{"bind", "listen", "release", "connect", "accept", "close"}
	protoNames   = []string{"tcp", "udp"}
)

// options are the flags, understood. They end in this package: the tracer gets its own Config.
type options struct {
	cfg       tracer.Config
	format    string
	logFile   string       // "": none
	otlp      *otlp.Config // nil: none
	metrics   netip.AddrPort
	redactLog bool   // command lines that leave for a file or the network, where --cmdline does not say
	count     uint64 // 0: no limit
	duration  time.Duration
	strict    bool
	store     *history.Config // record: where to
}

// parseOptions reads the flags of the stream and of run. Every error is a usageError.
func parseOptions(g given, targets []string) (*options, error) {
	p := parser{given: g}
	o := &options{
		format:    p.word("output", formats, formatText),
		logFile:   p.text("log-file"),
		metrics:   p.metricsAddr(),
		redactLog: !p.isSet("cmdline"),
		count:     p.positive("count"),
		duration:  p.time("duration"),
		strict:    p.has("strict"),
		cfg: tracer.Config{
			Hooks:    tracer.Form(p.word("hooks", hookForms, string(tracer.Auto))),
			Filter:   p.filter(targets),
			Snapshot: !p.has("no-snapshot"),
			Version:  version,
			Summary:  p.time("summary"),
			Args:     argsFor(p.word("cmdline", cmdlineModes, cmdlineFull)),
		},
	}
	if p.isSet("log-file") && o.logFile == "" {
		p.fail("--log-file PATH", "--log-file needs a path")
	}
	if o.cfg.Summary > 0 {
		p.refuseInSummary(o.cfg.Filter)
	}
	o.cfg.Filters = p.filtersGiven(o.cfg.Filter.Targets)
	return o, p.err
}

// argsFor is how the tracer rewrites command lines for every sink.
func argsFor(mode string) func([]string) []string {
	switch mode {
	case cmdlineRedacted:
		return flow.RedactArgs
	case cmdlineNone:
		return func([]string) []string { return nil }
	default:
		return nil
	}
}

// parser keeps the first error, so that flags can be read one after the other.
type parser struct {
	given
	err error
}

func (p *parser) fail(hint, format string, args ...any) {
	if p.err == nil {
		p.err = usagef(hint, format, args...)
	}
}

func (p *parser) filter(targets []string) flow.Filter {
	f := flow.Filter{
		Events:     values(p, "event", oneOf(eventNames), eventNames...),
		Protos:     values(p, "proto", parseProto, slices.Collect(maps.Values(protocols))...),
		Ports:      values(p, "port", parsePort),
		PIDs:       values(p, "pid", parsePID),
		Comms:      values(p, "comm", parseComm),
		UIDs:       values(p, "user", parseUser),
		Containers: values(p, "container", parseAny),
		Netns:      values(p, "netns", parseNetns),
		Failed:     p.has("failed"),
		Local:      p.has("local"),
	}
	for _, text := range targets {
		found, err := flow.ParseTarget(text)
		if err != nil {
			p.fail("looptrace --help lists the commands; quote a pasted message", "%v", err)
		}
		f.Targets = append(f.Targets, found...)
	}
	return f
}

// filterFlags are those that the start record repeats.
var filterFlags = []string{"event", "proto", "port", "pid", "comm", "user", "container", "netns"}

// filtersGiven is what the start record says about the filters: the user's own words, but for targets. Those
// may be whole messages, and URLs with a password.
func (p *parser) filtersGiven(targets []flow.Target) map[string]any {
	filters := map[string]any{}
	for _, name := range filterFlags {
		if p.isSet(name) {
			filters[name] = p.text(name)
		}
	}
	for _, name := range []string{"failed", "local", "no-snapshot"} {
		if p.has(name) {
			filters[name] = true
		}
	}
	if len(targets) > 0 {
		words := make([]string, len(targets))
		for i, t := range targets {
			words[i] = t.String()
		}
		filters["target"] = words
	}
	return filters
}

// word reads a flag that takes one of a few words.
func (p *parser) word(name string, words []string, otherwise string) string {
	if !p.isSet(name) {
		return otherwise
	}
	got := p.text(name)
	if !slices.Contains(words, got) {
		p.fail("it takes "+alternatives(words), "--%s %q: unknown value", name, got)
	}
	return got
}

func (p *parser) positive(name string) uint64 {
	if !p.isSet(name) {
		return 0
	}
	n, err := strconv.ParseUint(p.text(name), 10, 64)
	if err != nil || n == 0 {
		p.fail("a whole number from 1 on, such as --"+name+" 10", "--%s %q: not a count", name, p.text(name))
	}
	return n
}

func (p *parser) time(name string) time.Duration {
	if !p.isSet(name) {
		return 0
	}
	d, ok := parseSpan(p.text(name))
	if !ok {
		p.fail("a number with a unit, such as 500ms, 30s, 5m, 1h30m or 14d", "--%s %q: not a time span", name, p.text(name))
	}
	return d
}

// parseSpan reads a time span: Go's units, or whole days.
func parseSpan(text string) (time.Duration, bool) {
	if number, found := strings.CutSuffix(text, "d"); found {
		days, err := strconv.ParseUint(number, 10, 16)
		return time.Duration(days) * day, err == nil && days > 0
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d > 0
}

// refuseInSummary: the kernel counts connections by port, not by address, and what is counted is not
// looked at one by one any more.
func (p *parser) refuseInSummary(f flow.Filter) {
	for _, target := range f.Targets {
		if target.Addr.IsValid() && !target.Addr.IsLoopback() || target.Port == 0 {
			p.fail("give ports: looptrace --summary 10s 8080", "--summary counts by port: it takes no address as TARGET")
		}
	}
}
