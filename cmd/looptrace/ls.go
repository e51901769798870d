// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/looptrace/looptrace/output"
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
	ctx, stop := interruptible(c.Context, true)
	defer stop()
	for {
		found, err := present(ctx, filter, func(r *flow.Record) bool { return all || r.Event != "bind" || r.Proto != flow.TCP })
		if err != nil || ctx.Err() != nil {
			return err
		}
		slices.SortStableFunc(found, byPlace)
		if watch && isTerminal(os.Stdout) {
			fmt.Print("\x1b[H\x1b[2J") // home, clear (ECMA-48)
		}
		var waits []flow.Holder
		if all {
			waits = waitsOf(filter)
		}
		if err := printPresent(found, waits, format); err != nil {
			if errors.Is(err, syscall.EPIPE) {
				return nil
			}
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

// byPlace orders listeners and what is bound before connections, and each by port and address.
func byPlace(a, b *flow.Record) int {
	order := func(r *flow.Record) int { return slices.Index([]string{"listen", "bind", "connect"}, r.Event) }
	address := func(r *flow.Record) netip.Addr {
		if r.Sock != nil {
			return r.Sock.Address
		}
		return r.Conn.Server.Address
	}
	return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto), address(a).Compare(address(b)))
}

// printPresent writes them. JSON has no TIME_WAITs: they are no records, nobody did anything.
func printPresent(found []*flow.Record, waits []flow.Holder, format string) error {
	if format == formatJSON {
		j := output.NewJSON(os.Stdout)
		for _, r := range found {
			if err := j.Write(r); err != nil {
				return err
			}
		}
		return j.Flush()
	}
	clients := map[string]int{}
	for _, r := range found {
		if r.Conn != nil {
			clients[place(r.Netns, r.Proto, r.Port)]++
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tPROTO\tADDRESS\tPROCESS\tUSER\tREACH\tCLIENTS")
	for _, r := range found {
		if r.Sock != nil {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", stateOf(r), protoOf(r), netip.AddrPortFrom(r.Sock.Address, r.Port), named(r.Sock.Process), owner(r.Sock.Process), reach(r),
				count(clients[place(r.Netns, r.Proto, r.Port)]))
			continue
		}
		fmt.Fprintf(w, "connected\t%s\t%s → %s\t%s → %s\t%s\t\t\n", protoOf(r), endOf(r.Conn.Client), endOf(r.Conn.Server), named(r.Conn.Client.Process), named(r.Conn.Server.Process), owner(r.Conn.Client.Process))
	}
	for _, h := range waits {
		fmt.Fprintf(w, "time_wait\ttcp\t%s → %s\t\t\t\t\n", netip.AddrPortFrom(h.Address, h.Port), h.Peer)
	}
	return w.Flush()
}

func place(netns uint32, proto, port uint16) string { return fmt.Sprint(netns, " ", proto, " ", port) }

func stateOf(r *flow.Record) string {
	if r.Event == "bind" {
		return "bound"
	}
	return "listening"
}

func protoOf(r *flow.Record) string {
	if r.Proto == flow.UDP {
		return "udp"
	}
	return "tcp"
}

func endOf(e flow.End) string {
	if !e.HasPort {
		return e.Address.String()
	}
	return netip.AddrPortFrom(e.Address, e.Port).String()
}

// named names a process, or several.
func named(a flow.Actor) string {
	if a.P == nil {
		return "-"
	}
	name := visible(a.P.Name()) + "[" + strconv.Itoa(int(a.P.PID)) + "]"
	if n := len(a.Holders); n > 1 {
		name += fmt.Sprintf(" and %d more", n-1)
	}
	if c := cmp.Or(a.P.Container.Name, shortID(a.P.Container.ID)); c != "" {
		name += " (" + visible(c) + ")"
	}
	return name
}

// shortID cuts a container's id as the engines do.
func shortID(id string) string { return id[:min(len(id), 12)] }

func owner(a flow.Actor) string {
	if a.P == nil {
		return ""
	}
	return visible(cmp.Or(a.P.Owner, strconv.Itoa(int(a.P.UID))))
}

func reach(r *flow.Record) string {
	if r.Sock.Address.IsLoopback() {
		return "loopback"
	}
	return "network"
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// waitsOf gives the TIME_WAITs of this network namespace that a filter lets through. Nobody holds them: one on
// processes lets none through.
func waitsOf(f flow.Filter) []flow.Holder {
	netns := hostNow(0).Netns
	list := slices.DeleteFunc(waitingNow(0), func(h flow.Holder) bool {
		return !f.Match(&flow.Record{Proto: flow.TCP, Netns: netns, Conn: &flow.ConnRecord{
			Client: flow.End{Address: h.Address, Port: h.Port}, Server: flow.End{Address: h.Peer.Addr(), Port: h.Peer.Port()},
		}})
	})
	slices.SortFunc(list, func(a, b flow.Holder) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Peer.String(), b.Peer.String()))
	})
	return list
}
