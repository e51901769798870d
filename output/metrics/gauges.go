// SPDX-License-Identifier: Apache-2.0

package metrics

import "github.com/prometheus/client_golang/prometheus"

// gauges looks, at each scrape, at what is no record's.
type gauges Config

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

var (
	ringSize = describe("ring_size_bytes", "What the ring between the kernel and looptrace holds.")
	ringUsed = describe("ring_used_bytes", "What is in the ring now.")
	ringPeak = describe("ring_used_peak_bytes", "The most that was in the ring when it was read, in the last one to two minutes.")

	portsSize = describe("ephemeral_ports", "Ports that the kernel picks from, in looptrace's own network namespace.")
	portsUsed = describe("ephemeral_ports_in_use", "Those of them that a socket of this transport has, whatever its address; TIME_WAIT counts.", "transport")

	storeSize = describe("store_size_bytes", "What the history store takes on disk.")
)

// Describe is for the registry.
func (gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{ringSize, ringUsed, ringPeak, portsSize, portsUsed, storeSize} {
		to <- d
	}
}

// Collect gives what can be known now.
func (g gauges) Collect(to chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, n float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	if g.Ring != nil {
		r := g.Ring()
		tell(ringSize, float64(r.Size))
		tell(ringUsed, float64(r.Used))
		tell(ringPeak, float64(r.Peak))
	}
	if g.Ports != nil {
		if p, ok := g.Ports(); ok {
			tell(portsSize, float64(p.Size))
			tell(portsUsed, float64(p.TCP), "tcp")
			tell(portsUsed, float64(p.UDP), "udp")
		}
	}
	if g.Store != nil {
		if size, ok := g.Store(); ok {
			tell(storeSize, float64(size))
		}
	}
}
