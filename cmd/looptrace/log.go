// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/output/history"
	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

// logCommand is `looptrace log`.
func logCommand() *cli.Command {
	return &cli.Command{
		Name:      "log",
		Usage:     "print past records from the store",
		UsageText: "looptrace log [flags] [TARGET …]",
		Description: `What looptrace record wrote, in the formats and with the filters of the stream.

Examples:

    looptrace log --since 2h 49342
    looptrace log --since 14:00 --until 14:05 --failed
    looptrace log --follow --event bind,listen
    looptrace log --since 24h --by program       which programs take ephemeral ports, and how many`,
		Action: log,
	}
}

// followEvery is how often --follow looks: a record is in the store a second after it happened.
const followEvery = 300 * time.Millisecond

func log(c *cli.Context) error {
	p := parser{given: given{c}}
	now := time.Now()
	format := p.word("output", formats, formatText)
	filter := p.filter(c.Args().Slice())
	filter.Local = true // what record left out is not there
	by := p.word("by", groupings, "")
	q := history.Query{}
	q.From, q.To = p.span(now)
	if by != "" && p.has("follow") {
		p.fail("leave out one of them", "--by counts what is over, and --follow waits for more")
	}
	if by != "" && format == formatECS {
		p.fail("it takes text or json with --by", "--output %q: counts are no records", format)
	}
	path := p.storePath()
	if p.err != nil {
		return p.err
	}
	q.Port = onePort(filter) // others are filtered as they come
	q.Sockets = len(filter.Events.Include) > 0 && !slices.ContainsFunc(filter.Events.Include, ofConnections)
	store, err := readStore(path)
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, stop := interruptible(c.Context, true)
	defer stop()
	var w printer = &recordPrinter{sink: newSink(os.Stdout, format)}
	switch {
	case by == "" && format == formatText:
		options := textOptions(os.Stdout)
		options.Today = now
		w = &recordPrinter{sink: output.NewText(os.Stdout, options)}
	case by != "":
		w = newUsage(by, format)
	case format == formatJSON:
		w = &linePrinter{out: bufio.NewWriterSize(os.Stdout, 1<<18)}
	}
	everything := len(p.filtersGiven(filter.Targets)) == 0
	chosen := func(r *flow.Record) bool {
		switch {
		case r.Summary != nil:
			return matchesCount(filter, r)
		case r.Sock == nil && r.Conn == nil:
			return everything // start, stop, lost
		default:
			return filter.Match(r)
		}
	}
	err = printAll(ctx, store, q, chosen, w, p.has("follow"))
	if errors.Is(err, syscall.EPIPE) || ctx.Err() != nil {
		return nil
	}
	return err
}

func ofConnections(event string) bool {
	return event == "connect" || event == "accept" || event == "close"
}

// onePort is the only port that passes a filter; 0: there is none, or several.
func onePort(f flow.Filter) uint16 {
	if len(f.Targets) == 0 {
		if len(f.Ports.Include) == 1 {
			return f.Ports.Include[0]
		}
		return 0
	}
	port := f.Targets[0].Port
	if slices.ContainsFunc(f.Targets, func(t flow.Target) bool { return t.Port != port }) {
		return 0
	}
	return port
}

// span reads --since and --until. A time of day is of the last day that had it, and --until's of the first after
// --since's.
func (p *parser) span(now time.Time) (from, to time.Time) {
	from, _ = p.moment("since", now)
	if !p.isSet("until") {
		return from, to
	}
	to, _, ok := parseMoment(p.text("until"), now)
	if next := to.AddDate(0, 0, 1); ok && to.Before(from) && !next.Before(from) && clockOnly(p.text("until")) {
		to = next
	}
	switch {
	case !ok:
		p.fail(momentHint, "--until %q: not a point in time", p.text("until"))
	case to.Before(from):
		p.fail("give the earlier moment to --since", "--until %q is before --since %q", p.text("until"), p.text("since"))
	}
	return from, to
}

// matchesCount holds a filter against connections that were counted together, as against one of their connects. What
// was not the same for all of them is not known: what asks for that lets none through.
func matchesCount(f flow.Filter, r *flow.Record) bool {
	client, server := &r.Summary.Client, &r.Summary.Server
	if !f.Netns.Empty() && r.Netns == 0 || !passUsers(f.UIDs, client, server) {
		return false
	}
	if len(f.Containers.Exclude) > 0 && (mixed(client) || mixed(server)) {
		return false
	}
	reached := func(t flow.Target) bool {
		return t.Port == r.Port && (!t.Addr.IsValid() || t.Addr == r.Summary.Address)
	}
	if len(f.Targets) > 0 && !slices.ContainsFunc(f.Targets, reached) {
		return false
	}
	f.Targets, f.UIDs = nil, flow.Set[uint32]{}
	one := *r
	one.Event, one.Conn = "connect", &flow.ConnRecord{Client: endOfCount(client), Server: endOfCount(server)}
	one.Conn.Server.Port = r.Port
	return f.Match(&one)
}

// mixed says whether nobody knows which users an end's processes ran as.
func mixed(p *flow.Program) bool { return p.Comm != "" && !p.HasUser }

func passUsers(users flow.Set[uint32], ends ...*flow.Program) bool {
	in := func(list []uint32) bool {
		return slices.ContainsFunc(ends, func(p *flow.Program) bool { return p.HasUser && slices.Contains(list, p.UID) })
	}
	if len(users.Include) > 0 && !in(users.Include) {
		return false
	}
	return len(users.Exclude) == 0 || !in(users.Exclude) && !slices.ContainsFunc(ends, mixed)
}

func endOfCount(p *flow.Program) (e flow.End) {
	if p.P == nil && p.Comm == "" {
		return e
	}
	one := flow.Process{Comm: p.Comm, ExeName: p.ExeName, Container: p.Container}
	if p.P != nil {
		one.ProcessID = p.P.ProcessID
	}
	e.Process.P = &one
	return e
}

// printer takes the records that were found.
type printer interface {
	print(r *flow.Record, line string) error
	flush() error
}

// printAll prints the records of the query, and with follow those that are written from then on.
func printAll(ctx context.Context, store *history.Reader, q history.Query, chosen func(*flow.Record) bool, w printer, follow bool) error {
	last, underWay, err := store.Mark(ctx, q.Port)
	if err != nil {
		return err
	}
	var names flow.Names
	_, counting := w.(*usage)
	print := func(l history.Line) error {
		if counting && !tellsUsage(l.Text) {
			return nil
		}
		r, err := output.Parse([]byte(l.Text))
		if err != nil {
			return fmt.Errorf("store, row %d: %w", l.Row, err)
		}
		names.Learn(r)
		names.Complete(r)
		if !q.Has(r) || !chosen(r) {
			return nil
		}
		return w.print(r, l.Text)
	}
	for l, err := range store.Lines(ctx, q) {
		if err == nil && l.Row <= last {
			err = print(l)
		}
		if err != nil {
			return err
		}
	}
	if (!follow || over(q)) && !q.Sockets { // else they come when their interval is over
		for _, l := range underWay {
			if err := print(l); err != nil {
				return err
			}
		}
	}
	for {
		if err := w.flush(); err != nil || !follow {
			return err
		}
		news, err := store.News(ctx, last)
		if err != nil {
			return err
		}
		for _, l := range news {
			last = l.Row
			if err := print(l); err != nil {
				return err
			}
		}
		if len(news) > 0 {
			continue
		}
		if over(q) {
			return w.flush()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

// writtenBy is when all of a moment is in the store: a count comes when its ten seconds are over.
const writtenBy = 12 * time.Second

// over says whether nothing comes any more that a query asks for.
func over(q history.Query) bool { return !q.To.IsZero() && time.Since(q.To) > writtenBy }

// recordPrinter writes records anew.
type recordPrinter struct{ sink tracer.Sink }

func (p *recordPrinter) print(r *flow.Record, _ string) error { return p.sink.Write(r) }
func (p *recordPrinter) flush() error                         { return p.sink.Flush() }

// linePrinter writes lines as they were written.
type linePrinter struct{ out *bufio.Writer }

func (p *linePrinter) print(_ *flow.Record, line string) error {
	_, err := p.out.WriteString(line)
	return errors.Join(err, p.out.WriteByte('\n'))
}
func (p *linePrinter) flush() error { return p.out.Flush() }

// printJSON writes a value on a line.
func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
