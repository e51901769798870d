// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Rows of a look: each socket has the number of its first row.

func listRow(id uint64, p prog, state uint32, local string) ListRow {
	at := netip.MustParseAddrPort(local)
	return ListRow{
		Sock: 0x1000 + id, Inode: id, ID: id, Owner: p.id(), Local: wire(at.Addr()), LPort: at.Port(),
		Proto: TCP, Netns: home, State: state,
	}
}

func listening(id uint64, p prog, local string) ListRow {
	row := listRow(id, p, StateListen, local)
	row.Backlog = 16
	return row
}

// dialled is the client's end: the kernel picked its port.
func dialled(id uint64, p prog, local, remote string) ListRow {
	row, to := listRow(id, p, stateEstablished, local), netip.MustParseAddrPort(remote)
	row.Remote, row.RPort, row.Flags = wire(to.Addr()), to.Port(), FlagEphemeral
	return row
}

// accepted is the server's: it has its listener's backlog, and its port was asked for.
func accepted(id uint64, p prog, local, remote string) ListRow {
	row := dialled(id, p, local, remote)
	row.Backlog, row.Flags = 16, 0
	return row
}

func (row ListRow) in(state uint32) ListRow       { row.State = state; return row }
func (row ListRow) without() ListRow              { row.Backlog = 0; return row }
func (row ListRow) flagged(flags uint16) ListRow  { row.Flags = flags; return row }
func (row ListRow) of(sock, inode uint64) ListRow { row.Sock, row.Inode = sock, inode; return row }

func (row ListRow) datagrams() ListRow                 { row.Proto, row.State = UDP, stateClose; return row }
func (row ListRow) within(netns uint32) ListRow        { row.Netns = netns; return row }
func (row ListRow) heldToo(id uint64, by prog) ListRow { row.ID, row.Owner = id, by.id(); return row }

// TestList: what a look found, in whatever order the table of open files has it.
func TestList(t *testing.T) {
	const a, b, c, http = "127.0.0.1:40000", "127.0.0.1:40001", "127.0.0.1:40002", "127.0.0.1:80"
	for _, tc := range []struct {
		name string
		cfg  Config
		rows []ListRow
		want []string
	}{
		{
			name: "listeners, then bound sockets, then connections with both ends, each by port",
			rows: []ListRow{
				dialled(1, cli, b, http), accepted(2, srv, http, a), dialled(3, cli, a, http), accepted(4, srv, http, b),
				listening(5, srv, "[::]:81"), listening(6, srv, http), listRow(7, oth, stateClose, "127.0.0.1:90").flagged(FlagEphemeral),
				listRow(8, oth, stateClose, "0.0.0.0:53").datagrams(),
			},
			want: []string{
				"100ms #6 listen srv/10(snapshot) 127.0.0.1:80 backlog=16 preexisting",
				"100ms #5 listen srv/10(snapshot) [::]:81 backlog=16 exposed preexisting",
				"100ms #8 bind oth/30(snapshot) 0.0.0.0:53 udp preexisting",
				"100ms #7 bind oth/30(snapshot) 127.0.0.1:90 ephemeral preexisting",
				"100ms #3 connect cli/20(snapshot) 127.0.0.1:40000 > srv/10(snapshot) 127.0.0.1:80 preexisting",
				"100ms #1 connect cli/20(snapshot) 127.0.0.1:40001 > srv/10(snapshot) 127.0.0.1:80 preexisting",
			},
		},
		{
			name: "an end that several processes hold, one of them twice",
			rows: []ListRow{
				dialled(1, cli, a, http), accepted(2, srv, http, a), accepted(2, srv, http, a).heldToo(3, oth), accepted(2, srv, http, a),
			},
			want: []string{"100ms #1 connect cli/20(snapshot) 127.0.0.1:40000 > srv/10(shared srv/10,oth/30) 127.0.0.1:80 preexisting"},
		},
		{
			name: "a listener that several processes hold",
			rows: []ListRow{listening(1, oth, http), listening(1, oth, http).heldToo(1, srv)},
			want: []string{"100ms #1 listen srv/10(shared srv/10,oth/30) 127.0.0.1:80 backlog=16 preexisting"},
		},
		{
			name: "a socket at the address of one that was freed during the walk is another one",
			rows: []ListRow{listening(1, srv, http).of(7, 1), listening(2, oth, "127.0.0.1:81").of(7, 2)},
			want: []string{
				"100ms #1 listen srv/10(snapshot) 127.0.0.1:80 backlog=16 preexisting",
				"100ms #2 listen oth/30(snapshot) 127.0.0.1:81 backlog=16 preexisting",
			},
		},
		{
			name: "in an accept queue: one listener alone can have answered",
			rows: []ListRow{dialled(1, cli, a, http), listening(2, srv, http)},
			want: []string{
				"100ms #2 listen srv/10(snapshot) 127.0.0.1:80 backlog=16 preexisting",
				"100ms #1 connect cli/20(snapshot) 127.0.0.1:40000 > srv/10(snapshot) 127.0.0.1:80 preexisting",
			},
		},
		{
			name: "two listeners can have: neither is named",
			rows: []ListRow{dialled(1, cli, a, http), listening(2, srv, http), listening(3, oth, "0.0.0.0:80")},
			want: []string{
				"100ms #3 listen oth/30(snapshot) 0.0.0.0:80 backlog=16 exposed preexisting",
				"100ms #2 listen srv/10(snapshot) 127.0.0.1:80 backlog=16 preexisting",
				"100ms #1 connect cli/20(snapshot) 127.0.0.1:40000 > - 127.0.0.1:80 preexisting",
			},
		},
		{
			name: "the server's end was closed: who had accepted it, nobody knows",
			rows: []ListRow{dialled(1, cli, a, http).in(8), listening(2, srv, http)},
			want: []string{
				"100ms #2 listen srv/10(snapshot) 127.0.0.1:80 backlog=16 preexisting",
				"100ms #1 connect cli/20(snapshot) 127.0.0.1:40000 > - 127.0.0.1:80 preexisting",
			},
		},
		{
			name: "the client's end was closed: it has no process",
			rows: []ListRow{accepted(1, srv, http, a).in(8)},
			want: []string{"100ms #1 connect - 127.0.0.1:40000 > srv/10(snapshot) 127.0.0.1:80 preexisting"},
		},
		{
			name: "listen(0): an accepted socket looks like one that dialled, but for the listener",
			rows: []ListRow{listening(1, srv, http).without(), accepted(2, srv, http, a).without(), dialled(3, cli, a, http)},
			want: []string{
				"100ms #1 listen srv/10(snapshot) 127.0.0.1:80 backlog=0 preexisting",
				"100ms #3 connect cli/20(snapshot) 127.0.0.1:40000 > srv/10(snapshot) 127.0.0.1:80 preexisting",
			},
		},
		{
			name: "listen(0), and the listener is gone: but for the port that was asked for",
			rows: []ListRow{accepted(2, srv, "127.0.0.1:50000", a).without(), dialled(3, cli, a, "127.0.0.1:50000")},
			want: []string{"100ms #3 connect cli/20(snapshot) 127.0.0.1:40000 > srv/10(snapshot) 127.0.0.1:50000 preexisting"},
		},
		{
			name: "a client on a port that it asked for, where somebody listens too",
			rows: []ListRow{
				dialled(1, cli, "127.0.0.1:81", http).flagged(0), accepted(2, srv, http, "127.0.0.1:81"),
				listening(3, oth, "127.0.0.2:81"), listening(4, srv, http),
			},
			want: []string{
				"100ms #4 listen srv/10(snapshot) 127.0.0.1:80 backlog=16 preexisting",
				"100ms #3 listen oth/30(snapshot) 127.0.0.2:81 backlog=16 preexisting",
				"100ms #1 connect cli/20(snapshot) 127.0.0.1:81 > srv/10(snapshot) 127.0.0.1:80 preexisting",
			},
		},
		{
			name: "one end alone, and nothing says that it was accepted: it dialled",
			rows: []ListRow{dialled(1, cli, http, a).flagged(0)},
			want: []string{"100ms #1 connect cli/20(snapshot) 127.0.0.1:80 > - 127.0.0.1:40000 preexisting"},
		},
		{
			name: "a socket that is connected to itself",
			rows: []ListRow{dialled(1, cli, a, a)},
			want: []string{"100ms #1 connect cli/20(snapshot) 127.0.0.1:40000 > cli/20(snapshot) 127.0.0.1:40000 self preexisting"},
		},
		{
			name: "the same addresses in two namespaces are two connections",
			rows: []ListRow{
				dialled(1, cli, a, http), accepted(2, srv, http, a),
				dialled(3, oth, a, http).within(2), listening(4, oth, http).within(2),
			},
			want: []string{
				"100ms #4 listen oth/30(snapshot) 127.0.0.1:80 backlog=16 preexisting netns=2",
				"100ms #1 connect cli/20(snapshot) 127.0.0.1:40000 > srv/10(snapshot) 127.0.0.1:80 preexisting",
				"100ms #3 connect oth/30(snapshot) 127.0.0.1:40000 > oth/30(snapshot) 127.0.0.1:80 preexisting netns=2",
			},
		},
		{
			name: "a listener that loopback cannot reach is known, not told",
			rows: []ListRow{listening(1, srv, "192.0.2.1:80")},
		},
		{
			name: "with --local: what stays in the namespace",
			cfg:  Config{Filter: Filter{Local: true}},
			rows: []ListRow{
				dialled(1, cli, "192.0.2.1:40000", "192.0.2.1:80"), accepted(2, srv, "192.0.2.1:80", "192.0.2.1:40000"),
				dialled(3, cli, "192.0.2.1:40001", "192.0.2.1:80"),    // queued
				dialled(4, cli, "192.0.2.1:40002", "198.51.100.1:80"), // another host's
				dialled(5, cli, "192.0.2.1:40003", "192.0.2.9:80"), dialled(6, oth, "192.0.2.9:40003", "192.0.2.9:80").within(2),
				listening(7, srv, "192.0.2.1:80"), listening(8, srv, "192.0.2.2:80"), dialled(9, cli, "192.0.2.1:40004", "192.0.2.2:80"),
			},
			want: []string{
				"100ms #7 listen srv/10(snapshot) 192.0.2.1:80 backlog=16 exposed preexisting",
				"100ms #8 listen srv/10(snapshot) 192.0.2.2:80 backlog=16 exposed preexisting",
				"100ms #1 connect cli/20(snapshot) 192.0.2.1:40000 > srv/10(snapshot) 192.0.2.1:80 preexisting",
				"100ms #3 connect cli/20(snapshot) 192.0.2.1:40001 > srv/10(snapshot) 192.0.2.1:80 preexisting",
				"100ms #9 connect cli/20(snapshot) 192.0.2.1:40004 > srv/10(snapshot) 192.0.2.2:80 preexisting",
				"100ms #6 connect oth/30(snapshot) 192.0.2.9:40003 > - 192.0.2.9:80 preexisting netns=2",
			},
		},
		{
			name: "a filter chooses among the records, and changes none",
			cfg:  Config{Filter: Filter{Ports: Set[uint16]{Include: []uint16{40001}}}},
			rows: []ListRow{dialled(1, cli, a, http), dialled(2, cli, b, http), dialled(3, oth, c, http), listening(4, srv, http)},
			want: []string{"100ms #2 connect cli/20(snapshot) 127.0.0.1:40001 > srv/10(snapshot) 127.0.0.1:80 preexisting"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, reversed := range []bool{false, true} {
				s := newScene(tc.cfg, nil)
				for _, p := range []prog{srv, cli, oth} {
					exec(p.start, p)(s)
				}
				rows := slices.Clone(tc.rows)
				if reversed {
					slices.Reverse(rows)
				}
				s.table.List(100*msec, rows)
				if d := cmp.Diff(tc.want, s.text); d != "" {
					t.Errorf("reversed %v (-want +got):\n%s", reversed, d)
				}
			}
		})
	}
}

// TestWaiting: TIME_WAITs, as far as a filter lets them through.
func TestWaiting(t *testing.T) {
	row := func(local, remote string, state uint32, expires uint64) HeldRow {
		from, to := netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)
		return HeldRow{
			Local: wire(from.Addr()), LPort: from.Port(), Remote: wire(to.Addr()), RPort: to.Port(),
			Proto: TCP, Netns: home, State: state, Expires: expires, Jiffies: 1000,
		}
	}
	rows := []HeldRow{
		row("127.0.0.1:80", "127.0.0.1:40000", stateTimeWait, 1250),
		row("[::1]:80", "[::1]:40001", stateTimeWait, 900),
		row("127.0.0.1:80", "127.0.0.1:40002", stateFinWait2, 1250),
		row("192.0.2.1:80", "192.0.2.2:40003", stateTimeWait, 1250),
	}
	local := Holder{Kind: HolderTimeWait, Address: netip.MustParseAddr("127.0.0.1"), Port: 80, Peer: netip.MustParseAddrPort("127.0.0.1:40000"), Expires: 1e9}
	over := Holder{Kind: HolderTimeWait, Address: netip.MustParseAddr("::1"), Port: 80, Peer: netip.MustParseAddrPort("[::1]:40001")}
	far := Holder{Kind: HolderTimeWait, Address: netip.MustParseAddr("192.0.2.1"), Port: 80, Peer: netip.MustParseAddrPort("192.0.2.2:40003"), Expires: 1e9}
	unknown := local
	unknown.Expires = -1
	for _, tc := range []struct {
		name   string
		filter Filter
		jiffy  uint64
		want   []Holder
	}{
		{name: "of loopback; what is left is never negative", jiffy: 4, want: []Holder{local, over}},
		{name: "any two addresses", filter: Filter{Local: true}, jiffy: 4, want: []Holder{local, over, far}},
		{name: "a port at either end", filter: Filter{Ports: Set[uint16]{Include: []uint16{40000}}}, jiffy: 4, want: []Holder{local}},
		{name: "the length of a jiffy is not known", filter: Filter{Ports: Set[uint16]{Include: []uint16{40000}}}, want: []Holder{unknown}},
		{name: "nobody holds one: a filter on processes lets none through", filter: Filter{UIDs: Set[uint32]{Include: []uint32{0}}}, jiffy: 4},
		{name: "of another transport", filter: Filter{Protos: Set[uint16]{Include: []uint16{UDP}}}, jiffy: 4},
		{name: "of another namespace", filter: Filter{Netns: Set[uint32]{Include: []uint32{2}}}, jiffy: 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := &Answer{Netns: home, Rows: rows, Jiffy: time.Duration(tc.jiffy) * time.Millisecond}
			if d := cmp.Diff(tc.want, a.Waiting(&tc.filter), cmp.Comparer(func(x, y netip.Addr) bool { return x == y }), cmp.Comparer(func(x, y netip.AddrPort) bool { return x == y }), cmp.AllowUnexported(Holder{})); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
