// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"net/netip"
	"syscall"
	"testing"

	"github.com/looptrace/looptrace/tracer/flow"
)

// hot are the records that come in floods.
func hot() []struct {
	name   string
	record *flow.Record
} {
	closed := &flow.Record{Event: "close", Conn: &flow.ConnRecord{}}
	inUse := &flow.Record{Event: "bind", Errno: int32(syscall.EADDRINUSE), Sock: &flow.SockRecord{
		Process: proc("rival"), HasRequested: true, Requested: netip.MustParseAddrPort("127.0.0.1:80"),
	}}
	return []struct {
		name   string
		record *flow.Record
	}{
		{"connect", &flow.Record{Event: "connect", Conn: &flow.ConnRecord{}}},
		{"close", closed},
		{"refused", refusal("curl", 80)},
		{"in use", inUse},
		{"beyond the bound", refusal("curl", 79)},
	}
}

// crowded is a Sink whose curl has too many ports.
func crowded(tb testing.TB) *Sink {
	s := New(full())
	for port := range uint16(maxPorts + 1) {
		if err := s.Write(refusal("curl", 80+port)); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// TestWriteAllocs: counting is on the way of every record.
func TestWriteAllocs(t *testing.T) {
	s := crowded(t)
	for _, h := range hot() {
		t.Run(h.name, func(t *testing.T) {
			if n := testing.AllocsPerRun(1000, func() { _ = s.Write(h.record) }); n != 0 {
				t.Errorf("%v allocations, want none", n)
			}
		})
	}
	if n := testing.AllocsPerRun(1000, func() { _ = s.Flush() }); n != 0 {
		t.Errorf("%v allocations of a batch, want none", n)
	}
}

func BenchmarkWrite(b *testing.B) {
	s := crowded(b)
	for _, h := range hot() {
		b.Run(h.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = s.Write(h.record)
			}
		})
	}
	b.Run("batch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = s.Flush()
		}
	})
}
