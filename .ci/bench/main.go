// SPDX-License-Identifier: Apache-2.0

// Bench measures what tracing costs: the same loads, untraced and under looptrace and each peer that is
// installed, in turn, several rounds. It keeps what it measured in a file, and makes the page of that.
//
//	bench [-load churn,…] [-rounds N] [-seconds N] [-tools stream,…] LOOPTRACE
//	bench -offered RATES|-growth|-long N … LOOPTRACE
//	bench -guests FILE
//	bench -page
package main

import (
	"flag"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case serverCommand:
			exit(serverMain(os.Args[2], os.Args[3:]))
		case clientCommand:
			exit(clientMain(os.Args[2], os.Args[3], os.Args[4:]))
		case holderCommand:
			exit(holderMain(os.Args[2], os.Args[3]))
		}
	}
	exit(benchMain())
}

func exit(err error) {
	if err != nil {
		fail(err)
	}
	os.Exit(0)
}

func benchMain() error {
	load := flag.String("load", strings.Join(everyLoad, ","), "the loads, separated by commas")
	offers := flag.String("offered", "", "offer connections at these rates a second, separated by commas, instead")
	growing := flag.Bool("growth", false, "measure looptrace beside ever more connections and processes instead")
	conns := flag.Int("long", 0, "one run of so many connections instead")
	guests := flag.String("guests", "", "take what kernels counted from their tests' output instead")
	page := flag.Bool("page", false, "only write the page anew")
	rounds := flag.Int("rounds", 5, "how often each tool has its turn")
	seconds := flag.Int("seconds", 5, "length of a turn; idle takes twelve times as long")
	only := flag.String("tools", "", "these alone, separated by commas")
	crowdBinary := flag.String("crowd", "build/crowd", "the program of crowd.c")
	file := flag.String("results", "docs/bench.json", "where results are kept; the page is beside it")
	flag.Parse()
	res, err := readResults(*file)
	if err != nil {
		return err
	}
	measures := !*page && *guests == ""
	if measures && flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	b := &bench{binary: flag.Arg(0), rounds: *rounds, length: time.Duration(*seconds) * time.Second, crowd: *crowdBinary}
	if measures {
		b.machine = thisMachine(b.binary)
		b.tools = installed(allTools(b.binary), *only)
		if signal.Ignored(os.Interrupt) {
			signal.Notify(make(chan os.Signal, 1), os.Interrupt) // tools that inherit that cannot be interrupted
		}
	}
	switch {
	case *page:
	case *guests != "":
		err = readGuests(*guests, res)
	case *offers != "":
		err = b.offered(*offers, res)
	case *growing:
		err = b.growth(res)
	case *conns > 0:
		err = b.long(*conns, res)
	default:
		err = b.loads(strings.Split(*load, ","), res)
	}
	if err != nil {
		return err
	}
	if !*page {
		if err := res.write(*file); err != nil {
			return err
		}
	}
	return writePage(res, strings.TrimSuffix(*file, ".json"))
}

var everyLoad = []string{churn, keepalive, udp, far, idle}
