// SPDX-License-Identifier: Apache-2.0

// Package metrics counts records for Prometheus. What it counts is a sink; what it only looks at, such as how full
// the kernel's ring is, comes from functions that its caller gives it.
package metrics

import (
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/looptrace/looptrace/tracer/flow"
)

// Config is what a Sink cannot learn from records. A function that is nil, or that does not know, leaves its metrics
// out. They are called at each scrape, from any goroutine, also several times at once.
type Config struct {
	Version string
	Hooks   string          // the form in use
	Places  []string        // where something can be lost: their counters are there before the first loss
	Ready   <-chan struct{} // closed once the records of what was there before are written; nil: there are none

	Ring  func() Ring
	Ports func() (Ports, bool)
	Store func() (bytes int64, ok bool)
}

// Ring is how full the kernel's ring is, in bytes.
type Ring struct {
	Size int
	Used int
	Peak int // the most of the last one to two minutes
}

// Ports is the range that the kernel picks ports from, and how many of it are taken.
type Ports struct{ Size, TCP, UDP int }

// Sink counts records. Write and Flush are for one goroutine; what they count may be gathered from others meanwhile.
// Nothing of a record is kept but the program's name.
type Sink struct {
	registry *prometheus.Registry
	ready    <-chan struct{}

	events     [len(events)][2]prometheus.Counter // by index in events, and whether it failed
	summarized [2]prometheus.Counter
	refused    pairs
	inUse      pairs
	exhausted  prometheus.Counter
	lost       *prometheus.CounterVec
	missed     prometheus.Counter
	lastBatch  prometheus.Gauge
}

// events are the kinds that are counted one by one.
var events = [...]string{"bind", "listen", "release", "connect", "accept", "close"}

// outcomes as records have them, by whether the call failed.
var outcomes = [2]string{"success", "failure"}

// New makes a Sink and all of its metrics: those without a label of a program are there from the start, at zero.
func New(cfg Config) *Sink {
	s := &Sink{registry: prometheus.NewRegistry(), ready: cfg.Ready}
	s.registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), gauges(cfg))
	s.info(cfg)
	s.countEvents()
	s.refused = newPairs(s.vec("refused_connections_total",
		"Connections and first datagrams that were refused (ECONNREFUSED), by the client's program and the port that it wanted.", "program", "port"))
	s.inUse = newPairs(s.vec("address_in_use_total",
		"Calls of bind() and listen() that failed with EADDRINUSE, by program and the port that it wanted; port 0 is any.", "program", "port"))
	s.exhausted = s.counter("ephemeral_ports_exhausted_total", "Calls that failed because the kernel found no free port in its range.")
	s.lost = s.vec("lost_events_total", "Events that were lost, by place as lost records have it.", "place")
	for _, place := range cfg.Places {
		s.lost.WithLabelValues(place)
	}
	s.missed = s.counter("missed_probes_total", "Those of the lost events for which a probe did not run.")
	s.lastBatch = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "last_batch_timestamp_seconds",
		Help: "When the reader of the kernel's ring ended a batch last. An idle one ends two a second.",
	})
	s.registry.MustRegister(s.lastBatch)
	return s
}

// namespace begins the name of every metric that is about looptrace's subject.
const namespace = "looptrace"

func (s *Sink) countEvents() {
	byEvent := s.vec("events_total", "Records written, by event and outcome, without those of what was there before.", "event", "outcome")
	summarized := s.vec("summarized_connections_total", "Connections and flows that were counted in place of written (--summary), by outcome.", "outcome")
	for failed, outcome := range outcomes {
		for i, event := range events {
			s.events[i][failed] = byEvent.WithLabelValues(event, outcome)
		}
		s.summarized[failed] = summarized.WithLabelValues(outcome)
	}
}

func (s *Sink) info(cfg Config) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "What runs, and by which form of kernel hooks: always 1.",
		ConstLabels: prometheus.Labels{
			"version": cfg.Version, "go_version": runtime.Version(), "hooks": cfg.Hooks, "schema_version": strconv.Itoa(flow.SchemaVersion),
		},
	})
	info.Set(1)
	s.registry.MustRegister(info)
}

func (s *Sink) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	s.registry.MustRegister(c)
	return c
}

func (s *Sink) vec(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	s.registry.MustRegister(c)
	return c
}

// Write counts a record.
func (s *Sink) Write(r *flow.Record) error {
	switch {
	case r.Sock != nil || r.Conn != nil:
		if !r.Preexisting || s.live() { // else it did not happen now
			s.count(r)
		}
	case r.Summary != nil:
		s.summarized[index(r.Failed())].Add(float64(r.Summary.Count))
		s.countFailure(r, r.Summary.Count)
	case r.Lost != nil:
		s.countLost(r.Lost)
	}
	return nil
}

// Flush notes that the reader is alive.
func (s *Sink) Flush() error {
	s.lastBatch.SetToCurrentTime()
	return nil
}

// live says whether the records of what was there before are over.
func (s *Sink) live() bool {
	select {
	case <-s.ready:
		return true
	default:
		return s.ready == nil
	}
}

func (s *Sink) count(r *flow.Record) {
	for i := range events {
		if events[i] == r.Event {
			s.events[i][index(r.Failed())].Inc()
			break
		}
	}
	if r.Failed() {
		s.countFailure(r, 1)
	}
}

func index(failed bool) int {
	if failed {
		return 1
	}
	return 0
}
