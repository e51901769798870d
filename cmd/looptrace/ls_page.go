// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"unicode/utf8"

	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

// lsPage is what ls prints as text. Cells are spans of one buffer: a line for each of 50,000 sockets is printed
// faster than text/tabwriter takes to hold them.
type lsPage struct {
	text      []byte
	lines     []lsLine
	listeners []lsListener
	served    map[served]int // connections, by where they go
	labels    map[*flow.Process]string
	netns     uint32 // of all lines; 0 with many
	many      bool
}

// The columns.
const (
	lsState = iota
	lsProto
	lsAddress
	lsProcess
	lsUser
	lsReach
	lsClients
	lsNetns
	lsColumns
)

var lsHeads = [lsColumns]string{"STATE", "PROTO", "ADDRESS", "PROCESS", "USER", "REACH", "CLIENTS", "NETNS"}

type span struct{ from, to int }

type lsLine struct {
	cells [lsColumns]span
	netns uint32
}

// served is where a connection goes.
type served struct {
	netns uint32
	to    netip.AddrPort
}

// lsListener is a line whose clients are counted once all are known.
type lsListener struct {
	served
	v6only bool
	line   int
}

// cell ends a cell: it holds what was appended to the text since the last one.
func (p *lsPage) cell(l *lsLine, column, from int) { l.cells[column] = span{from, len(p.text)} }

func (p *lsPage) put(l *lsLine, column int, text string) {
	from := len(p.text)
	p.text = append(p.text, text...)
	p.cell(l, column, from)
}

func (p *lsPage) add(l *lsLine, netns uint32) {
	l.netns = netns
	p.many = p.many || len(p.lines) > 0 && netns != p.netns
	p.netns = netns
	p.lines = append(p.lines, *l)
}

// addSocket adds a listener, or a socket that is bound only.
func (p *lsPage) addSocket(r *flow.Record) {
	var l lsLine
	at := netip.AddrPortFrom(r.Sock.Address, r.Port)
	state, reach := "bound", "network"
	if r.Event == "listen" {
		state = "listening"
		p.listeners = append(p.listeners, lsListener{served{r.Netns, at}, r.Sock.V6Only, len(p.lines)})
	}
	if at.Addr().IsLoopback() {
		reach = "loopback"
	}
	p.put(&l, lsState, state)
	p.put(&l, lsProto, protoOf(r))
	from := len(p.text)
	p.text = at.AppendTo(p.text)
	p.cell(&l, lsAddress, from)
	from = len(p.text)
	p.name(r.Sock.Process, nil)
	p.cell(&l, lsProcess, from)
	p.put(&l, lsUser, owner(r.Sock.Process))
	p.put(&l, lsReach, reach)
	p.add(&l, r.Netns)
}

// addConnection adds a connection with both its ends.
func (p *lsPage) addConnection(r *flow.Record) {
	var l lsLine
	server := netip.AddrPortFrom(r.Conn.Server.Address, r.Conn.Server.Port)
	p.put(&l, lsState, "connected")
	p.put(&l, lsProto, protoOf(r))
	from := len(p.text)
	p.text = netip.AddrPortFrom(r.Conn.Client.Address, r.Conn.Client.Port).AppendTo(p.text)
	p.text = append(p.text, " → "...)
	p.text = server.AppendTo(p.text)
	p.cell(&l, lsAddress, from)
	from = len(p.text)
	p.name(r.Conn.Client.Process, nil)
	p.text = append(p.text, " → "...)
	p.name(r.Conn.Server.Process, r.Conn.Server.Holders)
	p.cell(&l, lsProcess, from)
	p.put(&l, lsUser, owner(r.Conn.Client.Process))
	p.add(&l, r.Netns)
	if p.served == nil {
		p.served = make(map[served]int)
	}
	p.served[served{r.Netns, server}]++
}

// addWaiting adds a TIME_WAIT: no process, but when it ends.
func (p *lsPage) addWaiting(w tracer.Waiting) {
	var l lsLine
	p.put(&l, lsState, "time_wait")
	p.put(&l, lsProto, "tcp")
	p.put(&l, lsAddress, netip.AddrPortFrom(w.Address, w.Port).String()+" → "+w.Peer.String())
	if w.Expires >= 0 {
		p.put(&l, lsProcess, fmt.Sprintf("free in %.0f s", w.Expires.Seconds()))
	}
	p.add(&l, w.Netns)
}

// print writes the lines below what parts them from an earlier page, each column as wide as its widest cell. The namespaces are told where a line is of
// another one than looptrace itself.
func (p *lsPage) print(w io.Writer, between string) error {
	p.countClients()
	last := lsNetns
	if p.many || len(p.lines) > 0 && p.netns != netnsHere() {
		for i := range p.lines {
			p.put(&p.lines[i], lsNetns, strconv.FormatUint(uint64(p.lines[i].netns), 10))
		}
		last = lsColumns
	}
	var widths [lsColumns]int
	for i := range last {
		widths[i] = len(lsHeads[i])
		for j := range p.lines {
			widths[i] = max(widths[i], utf8.RuneCount(p.at(&p.lines[j], i)))
		}
	}
	out := bufio.NewWriterSize(w, 1<<16)
	out.WriteString(between)
	var line []byte
	for i, head := range lsHeads[:last] {
		line = appendCell(line, []byte(head), widths[i])
	}
	line = breakLine(out, line)
	for i := range p.lines {
		for j, width := range widths[:last] {
			line = appendCell(line, p.at(&p.lines[i], j), width)
		}
		line = breakLine(out, line)
	}
	return out.Flush()
}

func (p *lsPage) at(l *lsLine, column int) []byte {
	return p.text[l.cells[column].from:l.cells[column].to]
}

func appendCell(line, cell []byte, width int) []byte {
	line = append(line, cell...)
	for n := width + len("  ") - utf8.RuneCount(cell); n > 0; n-- {
		line = append(line, ' ')
	}
	return line
}

// breakLine writes a line without the blanks at its end; the next begins in its memory. An error comes with Flush.
func breakLine(out *bufio.Writer, line []byte) []byte {
	out.Write(append(bytes.TrimRight(line, " "), '\n'))
	return line[:0]
}

// countClients tells each listener how many connections there are to what it listens on.
func (p *lsPage) countClients() {
	counts := make(map[int]int) // by line
	for to, n := range p.served {
		best := 0
		for _, l := range p.listeners {
			best = max(best, l.fits(to))
		}
		for _, l := range p.listeners { // several where they share the port
			if best > 0 && l.fits(to) == best {
				counts[l.line] += n
			}
		}
	}
	for line, n := range counts {
		p.put(&p.lines[line], lsClients, strconv.Itoa(n))
	}
}

// fits says how well a listener fits what was dialled, 0 for not at all: the kernel takes the best.
func (l *lsListener) fits(to served) int {
	at := l.to.Addr()
	switch {
	case l.netns != to.netns || l.to.Port() != to.to.Port():
		return 0
	case at == to.to.Addr():
		return 3
	case at.IsUnspecified() && at.Is4() == to.to.Addr().Is4():
		return 2
	case at.IsUnspecified() && at.Is6() && !l.v6only:
		return 1
	default:
		return 0
	}
}

func protoOf(r *flow.Record) string {
	if r.Proto == flow.UDP {
		return "udp"
	}
	return "tcp"
}

// name writes a process, or several.
func (p *lsPage) name(a flow.Actor, candidates []flow.Actor) {
	switch {
	case a.P == nil && len(candidates) > 0: // nobody has accepted yet
		p.name(candidates[0], nil)
		p.text = fmt.Appendf(p.text, " or %d more", len(candidates)-1)
		return
	case a.P == nil:
		p.text = append(p.text, '-')
		return
	}
	label, known := p.labels[a.P]
	if !known {
		label = labelOf(a.P)
		if p.labels == nil {
			p.labels = make(map[*flow.Process]string)
		}
		p.labels[a.P] = label
	}
	p.text = append(p.text, label...)
	if n := len(a.Holders); n > 1 {
		p.text = fmt.Appendf(p.text, " and %d more", n-1)
	}
}

func labelOf(p *flow.Process) string {
	label := visible(p.Name()) + "[" + strconv.Itoa(int(p.PID)) + "]"
	if c := cmp.Or(p.Container.Name, shortID(p.Container.ID)); c != "" {
		label += " (" + visible(c) + ")"
	}
	return label
}

// shortID cuts a container's id as the engines do.
func shortID(id string) string { return id[:min(len(id), 12)] }

func owner(a flow.Actor) string {
	if a.P == nil {
		return ""
	}
	return visible(cmp.Or(a.P.Owner, strconv.Itoa(int(a.P.UID))))
}
