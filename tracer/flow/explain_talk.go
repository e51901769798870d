// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"time"
)

// talk is the life of a connection.
type talk struct {
	life
	netns          uint32
	proto          uint16
	client, server netip.AddrPort
}

// ends gives both ends with the fullest names that the records have.
func (d *talk) ends() (client, server End) {
	for _, r := range d.records {
		client, server = fuller(client, r.Conn.Client), fuller(server, r.Conn.Server)
	}
	return client, server
}

func fuller(have, more End) End {
	// Who accepted is known better than who only listened.
	if !have.Process.Known() || more.Process.Known() && more.Process.P.PID != have.Process.P.PID {
		holders := have.Holders
		have = more
		if !have.Process.Known() && len(have.Holders) == 0 {
			have.Holders = holders
		}
	}
	return have
}

func (d *talk) closed() *Record { return d.first("close") }

func (d *talk) self() bool {
	r := d.first("connect")
	return r != nil && r.Conn.Self
}

// taken says whether a process accepted it, as far as is known.
func (d *talk) taken() bool {
	if c := d.closed(); c != nil {
		return c.Conn.Accepted || d.proto != TCP
	}
	return true
}

func (l *lives) connection(r *Record) {
	client := netip.AddrPortFrom(r.Conn.Client.Address, r.Conn.Client.Port)
	server := netip.AddrPortFrom(r.Conn.Server.Address, r.Conn.Server.Port)
	d := l.connID[r.ID]
	if d == nil && r.Preexisting {
		i := slices.IndexFunc(l.talks, func(d *talk) bool {
			return d.run != l.run && d.open() && d.netns == r.Netns && d.proto == r.Proto && d.client == client && d.server == server
		})
		if i >= 0 {
			d = l.talks[i]
		}
	}
	if d == nil {
		d = &talk{netns: r.Netns, proto: r.Proto, client: client, server: server}
		l.talks = append(l.talks, d)
		d.from = began(r)
		if h := l.source(d, r); h != nil {
			h.dialled = append(h.dialled, d)
		}
	}
	d.add(r)
	d.run = l.run
	if r.Event == "close" {
		d.until = r.Time
		delete(l.connID, r.ID)
		return
	}
	l.connID[r.ID] = d
}

// source is the socket that a program bound, or had bound by the kernel, and then dialled from.
func (l *lives) source(d *talk, r *Record) *hold {
	for _, h := range slices.Backward(l.holds) {
		if h.open() && !h.gone && !h.listens() && h.netns == d.netns && h.proto == d.proto && h.port == d.client.Port() &&
			(h.addr == d.client.Addr() || h.addr.IsUnspecified()) && samePlace(h.who(), r.Conn.Client.Process) {
			return h
		}
	}
	return nil
}

// began is when a connection that this record is the first of came to be; zero: before anybody watched.
func began(r *Record) time.Time {
	switch {
	case r.Preexisting:
		return time.Time{}
	case r.Conn.Duration > 0:
		return r.Time.Add(-r.Conn.Duration)
	default:
		return r.Time
	}
}
