// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/output"
)

// BenchmarkEncode is a record's way from its line to the wire, without compression.
func BenchmarkEncode(b *testing.B) {
	var line bytes.Buffer
	j := output.NewJSON(&line)
	if err := errors.Join(j.Write(connect(1)), j.Flush()); err != nil {
		b.Fatal(err)
	}
	text := bytes.TrimSuffix(line.Bytes(), []byte{'\n'})
	var e encoder
	b.ReportAllocs()
	for b.Loop() {
		e.out = e.out[:0]
		if err := e.add(text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSink is all of it, to a receiver that reads and forgets. A busy machine makes the wall clock say little; the
// time on a core says how many records one core delivers, the receiver's share in it included.
func BenchmarkSink(b *testing.B) {
	s, stop := benchSink(b)
	defer stop()
	r := connect(1)
	b.ReportAllocs()
	n := 0
	before := onCore(b)
	for b.Loop() {
		r.ID++ // no two are the same: that is what compression costs
		r.Time = r.Time.Add(123457 * time.Nanosecond)
		r.Conn.Client.Port = uint16(r.ID * 7)
		r.Conn.Duration = time.Duration(r.ID * 7919 % 1e6)
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
	b.ReportMetric(float64(s.Sent())/(onCore(b)-before).Seconds(), "sent/core-s")
}

// onCore is how much time this process has had on any core.
func onCore(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
