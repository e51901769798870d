// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer/flow"
)

// explainCommand is `looptrace explain TARGET`.
func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Aliases:   []string{"who"},
		Usage:     "say who has or had a port, how it got it, who connected and what failed",
		UsageText: "looptrace explain [flags] TARGET",
		Description: `It joins what is there now, which takes root, with what looptrace record wrote down. TARGET may
be a whole error message, in quotes. Exits with 4 if nothing is known about it.

Examples:

    sudo looptrace explain 127.0.0.1:49342
    sudo looptrace explain "dial tcp 127.0.0.1:49342: connect: connection refused"
    looptrace explain 127.0.0.1:51234 --at 14:03:07     which program was that in the access log?
    looptrace explain 49342 --since 2h -o json | jq .findings`,
		Action: explain,
	}
}

func explain(c *cli.Context) error {
	p := parser{given: given{c}}
	now := time.Now()
	format := p.word("output", plainFormats, formatText)
	q := flow.Inquiry{Text: strings.Join(c.Args().Slice(), " "), Now: now}
	ports := p.askedPorts(q.Text)
	q.At, q.AtEnd = p.moment("at", now)
	q.Since, _ = p.moment("since", now)
	path := p.storePath()
	if p.err != nil {
		return p.err
	}
	ctx, stop := interruptible(c.Context, true)
	defer stop()
	e, err := firstKnown(ctx, q, ports, path, p.isSet("store"))
	if err != nil {
		return err
	}
	write := func() error { return output.ExplainText(os.Stdout, e, textOptions(os.Stdout)) }
	if format == formatJSON {
		write = func() error { return output.ExplainJSON(os.Stdout, e) }
	}
	if err := write(); err != nil {
		return err
	}
	if !e.Known {
		return unknownError{e.Inquiry}
	}
	return nil
}

// firstKnown answers about the first of the ports that something is known of; where nothing is of any, about the first.
func firstKnown(ctx context.Context, q flow.Inquiry, ports [][]flow.Target, path string, named bool) (first *flow.Explanation, err error) {
	for _, targets := range ports {
		one := q
		one.Targets = targets
		if err := answerFrom(ctx, &one, path, named); err != nil {
			return nil, err
		}
		e := flow.Explain(&one)
		if e.Known {
			return e, nil
		}
		if first == nil {
			first = e
		}
	}
	return first, nil
}

// failure is what messages say that may name no address, as those of Java, Rust and Python.
var failure = regexp.MustCompile(`(?i)refused|(already|is) in use|timed out`)

// askedPorts reads the target, by port. A text may name two, as both ends of a connection: the first is meant, unless
// nothing is known about it, as about a client's that is long gone.
func (p *parser) askedPorts(text string) (ports [][]flow.Target) {
	if strings.TrimSpace(text) == "" {
		p.fail("looptrace explain 127.0.0.1:49342, or a whole error message in quotes", "explain needs a TARGET")
		return nil
	}
	targets, err := flow.ParseTarget(text)
	if err != nil {
		hint := "quote a pasted message"
		if failure.MatchString(text) {
			hint = "that message leaves out what it is about: looptrace log --failed --since 10m lists it, where looptrace record runs"
		}
		p.fail(hint, "%v", err)
		return nil
	}
	for _, t := range targets {
		i := slices.IndexFunc(ports, func(same []flow.Target) bool { return same[0].Port == t.Port })
		switch {
		case t.Port == 0:
		case i >= 0:
			ports[i] = append(ports[i], t)
		case len(ports) < maxPorts:
			ports = append(ports, []flow.Target{t})
		}
	}
	if ports == nil {
		p.fail("give the port too: a browser's page leaves it out, its address bar has it", "target %q: no port in it", targets[0])
	}
	return ports
}

// maxPorts bounds how many ports of a text are asked about: a pasted log may name a hundred.
const maxPorts = 2

// answerFrom gathers what the answer rests on: the live state, unless the past was asked about and the store has
// that; and the store. One of them is enough.
func answerFrom(ctx context.Context, q *flow.Inquiry, path string, named bool) error {
	store, storeErr := readStore(path)
	if storeErr == nil {
		defer store.Close()
	}
	live := make(chan error, 1)
	look := !q.OfPast() && (storeErr != nil || !powerless())
	go func() { // ends with the look, or with ctx; it and recall fill in other fields
		if !look {
			live <- nil
			return
		}
		live <- lookLive(q)
	}()
	if storeErr == nil {
		storeErr = recall(ctx, q, store)
	}
	liveErr := <-live
	if storeErr == nil {
		storeErr = acquaint(ctx, q, store)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case storeErr != nil && !absent(storeErr):
		return fmt.Errorf("read the store: %w", storeErr)
	case storeErr != nil && (liveErr != nil || q.OfPast()):
		return withoutStore(storeErr, liveErr, path, named)
	case storeErr != nil && (named || !errors.As(storeErr, new(noStoreError))):
		fmt.Fprintf(os.Stderr, "looptrace: %s: this is of the live state alone\n", visible(storeErr.Error()))
	}
	if q.Looked {
		q.Waiting = waitingNow(q.Targets[0].Port)
	}
	q.Host = hostNow(q.Targets[0].Port)
	nameAll(q)
	return nil
}

// absent says whether there is no store for whoever asks: none at all, or none that may be read.
func absent(err error) bool {
	return errors.As(err, new(noStoreError)) || errors.As(err, new(*deniedError))
}

// withoutStore is the error where the live state does not answer either.
func withoutStore(storeErr, liveErr error, path string, named bool) error {
	if errors.As(storeErr, new(*deniedError)) || named && liveErr == nil {
		return storeErr
	}
	return &noSourceError{live: liveErr, store: path}
}

// noSourceError: there is nothing to answer from.
type noSourceError struct {
	live  error // nil: the past was asked about, which the live state does not tell
	store string
}

func (e *noSourceError) Error() string {
	if e.live == nil {
		return "nothing remembers the past: there is no store at " + e.store
	}
	return "nothing to answer from: no store at " + e.store + ", and the live state cannot be read: " + e.live.Error()
}

// Hint says what to try next.
func (e *noSourceError) Hint() string {
	if e.live == nil {
		return "sudo looptrace record remembers from then on"
	}
	return "run it with sudo; where sudo looptrace record runs, members of the group looptrace can ask without"
}

func (e *noSourceError) Unwrap() error { return e.live }

// unknownError: nobody knows anything about the target.
type unknownError struct{ q *flow.Inquiry }

func (e unknownError) Error() string {
	text := "nothing is known about " + e.q.Targets[0].String()
	if e.q.OfPast() {
		text += " at that time"
	}
	return text
}

// Hint says what would have to be running to know next time.
func (e unknownError) Hint() string {
	switch {
	case e.q.Remembers.IsZero():
		return "to know next time: sudo looptrace record, or for one port sudo looptrace " + e.q.Targets[0].String()
	case e.q.OfPast() && e.q.AtEnd.Before(e.q.Remembers):
		return "the store remembers since " + e.q.Remembers.Local().Format("2006-01-02 15:04:05") + ": sudo looptrace record was not running before"
	default:
		return "to know next time, sudo looptrace record has to be running, as it was since " + e.q.Remembers.Local().Format("2006-01-02 15:04:05") + " at most"
	}
}
