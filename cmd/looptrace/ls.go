// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

// lsCommand is `looptrace ls`.
func lsCommand() *cli.Command {
	return &cli.Command{
		Name:      "ls",
		Usage:     "list listeners and connections reachable on loopback, both ends paired",
		UsageText: "looptrace ls [flags] [TARGET …]",
		Description: `Of every network namespace, as it is now: listeners first, then connections, by port.

Examples:

    sudo looptrace ls
    sudo looptrace ls 8080 --watch
    sudo looptrace ls --all -o json | jq -r .message`,
		Action: ls,
	}
}

// watchEvery is how often --watch looks again.
const watchEvery = 2 * time.Second

func ls(c *cli.Context) error {
	p := parser{given: given{c}}
	format := p.word("output", plainFormats, formatText)
	filter := p.filter(c.Args().Slice())
	all, watch := p.has("all"), p.has("watch")
	if p.err != nil {
		return p.err
	}
	l, err := tracer.NewLister(tracer.ListConfig{Filter: filter, TimeWait: all && format == formatText})
	if err != nil {
		return err
	}
	defer l.Close()
	ctx, stop := interruptible(c.Context, true)
	defer stop()
	for between := ""; ; between = "\n" {
		if watch && isTerminal(os.Stdout) {
			between = "\x1b[H\x1b[2J" // home, clear (ECMA-48)
		}
		if err := look(l, all, format, between); err != nil {
			return err
		}
		if !watch {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
	}
}

// look lists once; as text, after what parts it from the look before. JSON has no TIME_WAITs: they are no records,
// nobody did anything.
func look(l *tracer.Lister, all bool, format, between string) error {
	var page lsPage
	json := output.NewJSON(os.Stdout)
	listing, err := l.List(func(r *flow.Record) error {
		switch {
		case !all && r.Event == "bind" && r.Proto == flow.TCP:
			return nil
		case format == formatJSON:
			return json.Write(r)
		case r.Sock != nil:
			page.addSocket(r)
		default:
			page.addConnection(r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	tellIncomplete(os.Stderr, listing)
	if format == formatJSON {
		return json.Flush()
	}
	for _, w := range listing.Waiting {
		page.addWaiting(w)
	}
	return page.print(os.Stdout, between)
}

// tellIncomplete says what is missing from a list.
func tellIncomplete(w io.Writer, l tracer.Listing) {
	if l.Lost > 0 {
		fmt.Fprintf(w, "looptrace: %d sockets or connections did not fit its tables: what is said of others may lack them\n", l.Lost)
	}
	if n := len(l.NotEntered); n > 0 {
		fmt.Fprintf(w, "looptrace: the TIME_WAITs of %d other network namespaces are missing\nhint: to enter those takes CAP_SYS_ADMIN: run it with sudo\n", n)
	}
}
