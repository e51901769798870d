// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"testing"
	"time"

	"github.com/looptrace/looptrace/output"
)

// BenchmarkParse is the larger part of what a record costs the sender.
func BenchmarkParse(b *testing.B) {
	var line bytes.Buffer
	j := output.NewJSON(&line)
	if err := j.Write(connect(1)); err != nil {
		b.Fatal(err)
	}
	if err := j.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse(line.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSink is all of it, to a receiver that does nothing.
func BenchmarkSink(b *testing.B) {
	s, stop := benchSink(b)
	defer stop()
	r := connect(1)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := s.Write(r); err != nil {
			b.Fatal(err)
		}
		if n++; n%1000 == 0 {
			if err := s.Flush(); err != nil {
				b.Fatal(err)
			}
			for records, _ := s.queue.state(); records > defaultQueue/2; records, _ = s.queue.state() {
				time.Sleep(time.Millisecond)
			}
		}
	}
	_ = s.Close()
	b.ReportMetric(float64(s.Sent())/b.Elapsed().Seconds(), "sent/s")
}
