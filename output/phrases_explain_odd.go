// SPDX-License-Identifier: Apache-2.0

package output

import (
	"net/netip"

	"github.com/looptrace/looptrace/tracer/flow"
)

func (w *words) oddity(f *flow.Finding) {
	switch f.Kind {
	case flow.FindTaken:
		w.actor(&f.Other.Sock.Process)
		w.str(" let go of the port at ")
		w.when(f.From)
		w.note("")
		w.actor(&f.Process)
		w.str(" took it ")
		w.duration(f.Every)
		w.str(" later")
		if f.Why == flow.HolderConnection {
			w.str(" as the source port of a connection")
		}
		w.note("and ")
		w.actor(&f.Record.Sock.Process)
		w.str(" asked for it at ")
		w.when(f.Until)
		w.str(" in vain")
	case flow.FindElsewhere:
		w.actor(&f.Process)
		w.str(listens(f))
		w.target(f)
		switch f.Why {
		case "family":
			w.str(": the other address family, another server for localhost")
		case "netns":
			w.str(" in another network namespace (")
			w.uint(uint64(f.Record.Netns))
			w.str("), which this address does not reach")
		default:
			w.str(": another address")
		}
	case flow.FindLocalhost:
		w.str("one name, two servers: ")
		w.target(f)
		w.str(" is ")
		w.actor(&f.Process)
		w.str("'s, and ")
		first := w.inquiry.Targets[0].Addr
		if !first.IsValid() { // of a bare port, it is localhost
			first = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		w.endpoint(first, f.Target.Port, f.Record.Proto)
		w.str(" is ")
		w.actor(&f.Other.Sock.Process)
		w.str("'s")
	case flow.FindShadowed:
		w.actor(&f.Process)
		w.str(listens(f))
		w.endpoint(f.Record.Sock.Address, f.Record.Port, f.Record.Proto)
		w.str(" too, and gets no connection to ")
		w.target(f)
		w.str(": that is ")
		w.actor(&f.Other.Sock.Process)
		w.str("'s, whose address is more specific")
	case flow.FindSelf:
		w.actor(&f.Process)
		if b := f.Other; b != nil && b.Sock.HasRequested && b.Sock.Requested.Port() != 0 {
			w.str(" is connected to itself: it asked for this port as its own, and dialled it")
		} else {
			w.str(" is connected to itself: it dialled a port that nobody had, and has the same as its own")
		}
	case flow.FindNotListening:
		w.actor(&f.Process)
		w.str(" has bound the port and never called listen(): clients are refused, and lists of listeners do not show it")
	case flow.FindUnaccepted:
		w.uint(f.Count)
		if f.Why == flow.UnacceptedYet {
			if f.Count == 1 {
				w.str(" connection is open and accepted by no process yet, since ")
			} else {
				w.str(" connections are open and accepted by no process yet, the first since ")
			}
			w.when(f.From)
			return
		}
		if f.Count == 1 {
			w.str(" connection ended that no process had accepted, at ")
		} else {
			w.str(" connections ended that no process had accepted, the last at ")
		}
		w.when(f.Until)
	case flow.FindOwners:
		w.uint(f.Count)
		w.str(" programs in turn were given this port by the kernel: the number says nothing of who is next")
	case flow.FindPicked:
		w.str("the kernel picked the port for this run: the next has another")
	}
}

func listens(f *flow.Finding) string {
	if f.Then {
		return " listened on "
	}
	return " listens on "
}

func (w *words) advice(f *flow.Finding) {
	if f.Command != "" {
		w.str(f.Command)
		w.str("   ")
	}
	switch f.Why {
	case flow.AdviceFree:
		switch {
		case f.Count > 1:
			w.str("ends ")
			w.program(&f.Process)
			w.str(", one of ")
			w.uint(f.Count)
			w.str(" that have the port")
		default:
			w.str("frees the port: it ends ")
			w.actor(&f.Process)
		}
	case flow.AdviceWait:
		w.str("wait until ")
		w.when(f.Until)
		w.str(": the kernel frees it by itself; a server that sets SO_REUSEADDR need not wait")
	case flow.AdviceStart:
		w.str("starts what listened there")
		if f.Command == "" && f.Process.P.CommandLine != "" {
			w.str(": ")
			w.command(f.Process.P.CommandLine)
		}
	case flow.AdviceLook:
		w.str("asks about the other end")
	case flow.AdviceExposed:
		w.str("let ")
		w.actor(&f.Process)
		w.str(" listen on 127.0.0.1, if the network is not to reach it")
	case flow.AdviceFamily:
		w.str("give clients the address, 127.0.0.1 or [::1], in place of localhost")
	case flow.AdviceRecord:
		w.str("remembers from then on")
	}
}

func (w *words) known(f *flow.Finding) {
	switch {
	case w.inquiry.Looked && f.From.IsZero():
		w.str("the live state alone: there is no store")
	case w.inquiry.Looked:
		w.str("the live state, and the store since ")
		w.when(f.From)
	default:
		w.str("the store alone, since ")
		w.when(f.From)
	}
	switch since := w.inquiry.LookedFrom; {
	case !since.IsZero():
		w.str("; of this port's records, all since ")
		w.when(since)
	case w.inquiry.Partial:
		w.str("; of this port's records, not all")
	}
}

// gap is what the store cannot have.
func (w *words) gap(f *flow.Finding) {
	switch f.Kind {
	case flow.FindUnwatched:
		w.str("nobody is known to have watched ")
		if f.Until.IsZero() {
			w.str("since ")
			w.when(f.From)
			return
		}
		w.str("from ")
		w.when(f.From)
		w.str(" to ")
		w.when(f.Until)
	case flow.FindLost:
		w.uint(f.Count)
		w.str(" events were lost")
		if !f.From.IsZero() {
			w.str(", from ")
			w.when(f.From)
			w.str(" to ")
		} else {
			w.str(", until ")
		}
		w.when(f.Until)
		w.str(": what is said of that time may lack them")
	case flow.FindFiltered:
		w.str("looptrace record was told to keep some only, since ")
		w.when(f.From)
		w.str(": ")
		w.foreign(f.Why)
	}
}
