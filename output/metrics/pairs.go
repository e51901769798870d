// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of a counter by program and port: at most 1,051 series. With less, a host's programs end up in "other"; with
// more, one that walks through ports costs whoever stores the series.
const (
	maxPrograms = 50
	maxPorts    = 20 // of one program
	maxLabel    = 64 // bytes of a program's name: a process may call itself anything
)

// other is the label of what is beyond the bounds: the port where a program has too many, both where there are too
// many programs. The first to come keep theirs.
const other = "other"

// noPort is a port that is not known: its label is empty, which to Prometheus is none.
const noPort = -1

// pairs is a counter by program and port. Add is for one goroutine, and does not allocate for a pair that it knows.
type pairs struct {
	vec      *prometheus.CounterVec
	programs map[string]*program
	rest     prometheus.Counter
}

type program struct {
	label string
	ports map[int]prometheus.Counter
	rest  prometheus.Counter // nil before it has too many
}

func newPairs(vec *prometheus.CounterVec) pairs {
	return pairs{vec: vec, programs: make(map[string]*program), rest: vec.WithLabelValues(other, other)}
}

func (p *pairs) add(name string, port int, n uint64) { p.counter(name, port).Add(float64(n)) }

func (p *pairs) counter(name string, port int) prometheus.Counter {
	name = name[:min(len(name), maxLabel)]
	of := p.programs[name]
	if of == nil {
		if len(p.programs) == maxPrograms {
			return p.rest
		}
		name = strings.Clone(name) // it may be a part of a command line
		of = &program{label: label(name), ports: make(map[int]prometheus.Counter)}
		p.programs[name] = of
	}
	c := of.ports[port]
	switch {
	case c != nil:
	case len(of.ports) < maxPorts:
		c = p.vec.WithLabelValues(of.label, portLabel(port))
		of.ports[port] = c
	default:
		if of.rest == nil {
			of.rest = p.vec.WithLabelValues(of.label, other)
		}
		c = of.rest
	}
	return c
}

func portLabel(port int) string {
	if port == noPort {
		return ""
	}
	return strconv.Itoa(port)
}

// label makes of a text what Prometheus takes for a label's value: a name may be no UTF-8.
func label(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
