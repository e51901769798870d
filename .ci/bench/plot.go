// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"strings"
)

// The plot: two panels, one above the other, and the tools' names at the right.
const (
	plotWidth, plotHeight = 760, 560
	left, right           = 60, 130
	panelTop, panelHeight = 40, 200
	panelGap              = 60
)

// colours are told apart by those who see no red or no green (Okabe and Ito, 2008).
var colours = []string{"#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#cc79a7", "#009e73", "#000000", "#999999"}

type point struct{ x, y float64 }

type curve struct {
	name   string
	points []point
}

// plot draws throughput kept, and connections lost in percent, against connections offered.
func plot(o *offered) []byte {
	var kept, lost []curve
	for _, m := range o.Series[0].Tools {
		if m.Tool == untraced {
			continue
		}
		k, l := curve{name: m.Tool}, curve{name: m.Tool}
		for i, s := range o.Series {
			if !s.has(m.Tool) || !s.has(untraced) {
				continue
			}
			k.points = append(k.points, point{o.Rates[i], median(s.kept(m.Tool), itself)})
			if lost, made := s.of(m.Tool).lost(); lost >= 0 {
				l.points = append(l.points, point{o.Rates[i], 100 * float64(lost) / float64(made)})
			}
		}
		kept, lost = append(kept, k), append(lost, l)
	}
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWidth, plotHeight)
	most := o.Rates[len(o.Rates)-1]
	panel{top: panelTop, title: "throughput kept", most: point{most, 1.1}, ticks: []float64{0, 0.25, 0.5, 0.75, 1}}.draw(&svg, o.Rates, kept)
	panel{top: panelTop + panelHeight + panelGap, title: "connections lost, %", most: point{most, 100}, ticks: []float64{0, 25, 50, 75, 100}, xTitle: true}.draw(&svg, o.Rates, lost)
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

type panel struct {
	top    float64
	title  string
	most   point // at the right and the upper edge; the others are zero
	ticks  []float64
	xTitle bool
}

func (p panel) x(v float64) float64 { return left + v/p.most.x*(plotWidth-left-right) }

func (p panel) y(v float64) float64 { return p.top + (1-v/p.most.y)*panelHeight }

func (p panel) draw(svg *bytes.Buffer, xs []float64, curves []curve) {
	text := func(x, y float64, anchor, fill, s string) {
		fmt.Fprintf(svg, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, fill, s)
	}
	text(left, p.top-12, "start", "#000", p.title)
	for _, v := range p.ticks {
		fmt.Fprintf(svg, `<path d="M%d %.1fH%d" stroke="#ddd"/>`+"\n", left, p.y(v), plotWidth-right)
		text(left-8, p.y(v)+4, "end", "#555", fmt.Sprint(v))
	}
	bottom := p.y(0)
	for _, v := range xs {
		text(p.x(v), bottom+18, "middle", "#555", fmt.Sprintf("%gk", v/1000))
	}
	if p.xTitle {
		text(p.x(p.most.x/2), bottom+38, "middle", "#000", "connections offered a second")
	}
	for i, c := range curves {
		if len(c.points) == 0 {
			continue
		}
		colour := colours[i%len(colours)]
		var line strings.Builder
		for _, at := range c.points {
			fmt.Fprintf(&line, "%.1f,%.1f ", p.x(at.x), p.y(min(at.y, p.most.y)))
			fmt.Fprintf(svg, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>`+"\n", p.x(at.x), p.y(min(at.y, p.most.y)), colour)
		}
		fmt.Fprintf(svg, `<polyline points="%s" fill="none" stroke="%s" stroke-width="%g"/>`+"\n", strings.TrimSpace(line.String()), colour, width(c.name))
		text(plotWidth-right+14, p.top+14+float64(i)*18, "start", colour, c.name)
	}
}

// width makes looptrace's own curves stand out.
func width(name string) float64 {
	if name == stream || name == summed {
		return 2.5
	}
	return 1.2
}
