// SPDX-License-Identifier: Apache-2.0

package output

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

// words says things for people, once for the text output and for the messages of the JSON output, so that the two cannot
// say different things. The phrases about a record are in phrases.go; here is what they are made of.
type words struct {
	dst []byte
	loc *time.Location // nil: UTC, and said so
	now time.Time      // of the record at hand

	sep   string // before the next note
	colon string // between what failed and why
	color bool
	dated bool // the line begins with its date

	inquiry *flow.Inquiry // of an explanation
}

// Styles of ECMA-48, SGR. Each only repeats what the words say.
const (
	styleNone   = "\x1b[0m"
	styleBold   = "\x1b[1m"
	styleDim    = "\x1b[2m"
	styleRed    = "\x1b[31m"
	styleYellow = "\x1b[33m"
)

func (w *words) str(s string) { w.dst = append(w.dst, s...) }

func (w *words) uint(n uint64) { w.dst = strconv.AppendUint(w.dst, n, 10) }

func (w *words) styled(style, s string) {
	w.style(style)
	w.str(s)
	w.style(styleNone)
}

func (w *words) style(style string) {
	if w.color {
		w.str(style)
	}
}

// note begins a note. Notes are what there is to say about a record beyond who and where.
func (w *words) note(s string) {
	w.str(w.sep)
	w.sep = ", "
	w.str(s)
}

// warning is a note that asks for attention.
func (w *words) warning(s string) {
	w.note("")
	w.styled(styleYellow, s)
}

// maxName is how much of a name is shown. Longer ones are found in Nix stores and attacks, and would push what
// happened off the screen.
const maxName = 48

// foreign writes a string that came from a process.
func (w *words) foreign(s string) {
	short := cutText(s, maxName)
	w.dst = Escape(w.dst, short)
	if len(short) < len(s) {
		w.str("…")
	}
}

// program is "curl[4302]".
func (w *words) program(a *flow.Actor) {
	name := a.P.Name()
	if name == "" {
		w.str("pid ")
		w.uint(uint64(a.P.PID))
		return
	}
	w.foreign(name)
	if a.P.PID != 0 {
		w.str("[")
		w.uint(uint64(a.P.PID))
		w.str("]")
	}
}

// actor is "curl[4302] (web)", with the container, and how many share the socket where it is not one process's.
func (w *words) actor(a *flow.Actor) {
	if a.P == nil {
		w.str("an unknown process")
		return
	}
	w.program(a)
	w.container(a)
	if len(a.Holders) > 1 {
		w.str(" (shared by ")
		w.uint(uint64(len(a.Holders)))
		w.str(")")
	}
}

// shortID is how much of a container's id the runtimes' own lists show.
const shortID = 12

func (w *words) container(a *flow.Actor) {
	c := &a.P.Container
	switch {
	case c.ID == "":
		return
	case c.Name != "":
		w.str(" (")
		w.foreign(c.Name)
	default:
		w.str(" (")
		w.foreign(cutText(c.ID, shortID))
	}
	w.str(")")
}

// client is "curl[4302]:51234 (web)", and of an unknown one its address and port.
func (w *words) client(n *flow.End) {
	switch {
	case n.Process.P != nil:
		w.program(&n.Process)
		if n.HasPort {
			w.str(":")
			w.uint(uint64(n.Port))
		}
		w.container(&n.Process)
	case n.Address.IsValid() && n.HasPort:
		w.addrPort(n.Address, n.Port)
	default:
		w.str("an unknown process")
	}
}

// hasServer says whether server has something to write.
func hasServer(c *flow.ConnRecord) bool {
	return !c.Self && (c.Server.Process.P != nil || len(c.Server.Holders) > 0)
}

// server is who serves: one process, or one of several that nobody can tell apart.
func (w *words) server(n *flow.End) {
	const most = 3
	if n.Process.P != nil {
		w.actor(&n.Process)
		return
	}
	w.str("one of ")
	for i := range n.Holders[:min(len(n.Holders), most)] {
		if i > 0 {
			w.str(" / ")
		}
		w.actor(&n.Holders[i])
	}
	w.more(len(n.Holders) - most)
}

// more says how many of a list are not named.
func (w *words) more(n int) {
	if n > 0 {
		w.str(" and ")
		w.uint(uint64(n))
		w.str(" more")
	}
}

func (w *words) addrPort(a netip.Addr, port uint16) {
	w.dst = netip.AddrPortFrom(a.Unmap().WithZone(""), port).AppendTo(w.dst)
}

// endpoint is "127.0.0.1:49342", and of UDP "127.0.0.1:49342/udp".
func (w *words) endpoint(a netip.Addr, port uint16, proto uint16) {
	if a.IsValid() {
		w.addrPort(a, port)
	} else {
		w.str("*:")
		w.uint(uint64(port))
	}
	if proto == flow.UDP {
		w.str("/udp")
	}
}

// socket is the endpoint of a socket record; of a bind that failed, the one asked for.
func (w *words) socket(r *flow.Record) {
	w.endpoint(r.Sock.Address, r.Port, r.Proto)
}

// signal and errno go through the JSON output's names.
func (w *words) signal(n int) { w.dst = appendSignal(w.dst, n) }

// clockLayout has milliseconds: what is looked for in another log is found by them.
const clockLayout = "15:04:05.000"

// when is a point in time: the time of day, with the date where that is not the record's.
func (w *words) when(t time.Time) {
	loc := w.loc
	if loc == nil {
		loc = time.UTC
	}
	t = t.In(loc)
	layout := clockLayout
	if !sameDay(t, w.now.In(loc)) {
		layout = "2006-01-02 15:04:05"
	}
	w.dst = t.AppendFormat(w.dst, layout)
	if w.loc == nil {
		w.str(" UTC")
	}
}

func sameDay(a, b time.Time) bool { return a.YearDay() == b.YearDay() && a.Year() == b.Year() }

func (w *words) since(t time.Time) {
	if !t.IsZero() {
		w.str(" since ")
		w.when(t)
	}
}

// duration has two or three significant digits up to a minute, and two units from there on.
func (w *words) duration(d time.Duration) {
	const day = 24 * time.Hour
	switch {
	case d == 0:
		w.str("0 s")
	case d < 10*time.Microsecond:
		w.decimal(d, time.Microsecond, " µs")
	case d < time.Second:
		w.decimal(d, time.Millisecond, " ms")
	case d < time.Minute:
		w.decimal(d, time.Second, " s")
	case d < time.Hour:
		w.units(d, time.Minute, " min ", time.Second, " s")
	case d < day:
		w.units(d, time.Hour, " h ", time.Minute, " min")
	default:
		w.units(d, day, " d ", time.Hour, " h")
	}
}

// decimal writes d in the unit, with two digits after the point below 10, one below 100 and none above. It cuts off
// rather than rounds, so that 999.9 ms does not become 1000 ms.
func (w *words) decimal(d, unit time.Duration, name string) {
	w.fixed(uint64(d), uint64(unit))
	w.str(name)
}

func (w *words) fixed(n, unit uint64) {
	digits := uint64(0)
	switch {
	case n < 10*unit:
		digits = 100
	case n < 100*unit:
		digits = 10
	}
	w.uint(n / unit)
	if digits == 0 {
		return
	}
	w.str(".")
	fraction := n % unit / (unit / digits)
	if digits == 100 && fraction < 10 {
		w.str("0")
	}
	w.uint(fraction)
}

func (w *words) units(d, large time.Duration, largeName string, small time.Duration, smallName string) {
	w.uint(uint64(d / large))
	w.str(largeName)
	w.uint(uint64(d % large / small))
	w.str(smallName)
}

// size is a number of bytes in decimal units, as network tools count.
func (w *words) size(n uint64) {
	const kilo, mega, giga = 1_000, 1_000_000, 1_000_000_000
	switch {
	case n < kilo:
		w.uint(n)
		w.str(" B")
	case n < mega:
		w.fixed(n, kilo)
		w.str(" kB")
	case n < giga:
		w.fixed(n, mega)
		w.str(" MB")
	default:
		w.fixed(n, giga)
		w.str(" GB")
	}
}
