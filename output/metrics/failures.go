// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strings"
	"syscall"

	"github.com/looptrace/looptrace/tracer/flow"
)

// countFailure counts a call that failed, or as many of a summary.
func (s *Sink) countFailure(r *flow.Record, n uint64) {
	const (
		refused      = int32(syscall.ECONNREFUSED)
		inUse        = int32(syscall.EADDRINUSE)
		notAvailable = int32(syscall.EADDRNOTAVAIL)
	)
	port := wanted(r)
	switch {
	case r.Errno == refused && r.Sock == nil && r.Event != "close":
		s.refused.add(caller(r), port, n)
	case r.Errno == inUse && r.Sock != nil:
		s.inUse.add(caller(r), port, n)
		if port == 0 || r.Sock.EphemeralPorts != nil {
			s.exhausted.Add(float64(n))
		}
	case r.Errno == notAvailable && r.Conn != nil && nearlyAll(r.Conn.EphemeralPorts):
		s.exhausted.Add(float64(n))
	}
}

// nearlyAll says whether the range is why connect() found no port: without IPv6 on lo, [::1] fails with the same
// error. The count is of a moment later, when some may be free again.
func nearlyAll(p *flow.EphemeralPorts) bool {
	return p != nil && p.InUse*10 >= (int(p.High)-int(p.Low)+1)*9
}

func (s *Sink) countLost(l *flow.LostRecord) {
	s.lost.WithLabelValues(l.Where).Add(float64(l.Count))
	if strings.HasPrefix(l.Where, "probe ") || strings.HasPrefix(l.Where, "program ") {
		s.missed.Add(float64(l.Count))
	}
}

// wanted is the port that a failed call was about, noPort where that is not known.
func wanted(r *flow.Record) int {
	switch {
	case r.HasPort:
		return int(r.Port)
	case r.Sock != nil && r.Sock.HasRequested:
		return int(r.Sock.Requested.Port())
	default:
		return noPort
	}
}

// caller names the program that made a call, "" where it is not known.
func caller(r *flow.Record) string {
	p := (*flow.Process)(nil)
	switch {
	case r.Sock != nil:
		p = r.Sock.Process.P
	case r.Conn != nil:
		p = r.Conn.Client.Process.P
	case r.Summary.Client.P != nil:
		p = r.Summary.Client.P
	default:
		return r.Summary.Client.Comm
	}
	if p == nil {
		return ""
	}
	return p.Name()
}
