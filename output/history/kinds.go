// SPDX-License-Identifier: Apache-2.0

package history

import (
	"database/sql"
	"encoding/json"
	"net/netip"

	"github.com/looptrace/looptrace/tracer/flow"
)

// Kinds of records that are no row of the table.
const (
	noVisit     = 0
	isCount     = 1 // a summary, which says what it counts
	wasThere    = 2 // a connection that tracing found: an earlier run may have told of it
	unknownKind = -1
)

// maxKinds bounds the table. Visits past it can be read, and not counted.
const maxKinds = 65536

// visit is what connections or failures have in common for an answer to tell them as one.
type visit struct {
	Comm      string         `json:",omitempty"`
	Exe       string         `json:",omitempty"`
	Container flow.Container `json:",omitzero"`
	Errno     int32          `json:",omitempty"`
	Proto     uint16
	Netns     uint32     `json:",omitempty"`
	Address   netip.Addr `json:",omitzero"` // that was dialled
}

// visitOf gives the text of a kind, or the number of one that has none.
func visitOf(r *flow.Record) (text string, number int64) {
	switch {
	case r.Summary != nil:
		return "", isCount
	case r.Event != "connect":
		return "", noVisit
	case r.Preexisting:
		return "", wasThere
	}
	encoded, err := json.Marshal(visitorsOf(r, r.Errno))
	if err != nil {
		return "", unknownKind
	}
	return string(encoded), 0
}

func visitorsOf(r *flow.Record, errno int32) visit {
	v := visit{Errno: errno, Proto: r.Proto, Netns: r.Netns, Address: r.Conn.Server.Address}
	if p := r.Conn.Client.Process.P; p != nil {
		v.Comm, v.Exe, v.Container = p.Comm, p.ExeName, p.Container
	}
	return v
}

// record makes a count of the visits of a kind.
func (v *visit) record(n tally) *flow.Record {
	r := &flow.Record{
		Event: "summary", Time: n.last, Errno: v.Errno, Proto: v.Proto, Netns: v.Netns, HasPort: true,
		Summary: &flow.SummaryRecord{
			Client:  flow.Program{Comm: v.Comm, ExeName: v.Exe, Container: v.Container},
			Address: v.Address, Count: n.count, First: n.first, Last: n.last,
		},
	}
	if v.Errno != 0 {
		r.Level = flow.Warn
	}
	return r
}

// kind finds a kind's number, and makes one where it is new.
func (d *disk) kind(tx *sql.Tx, r *row) (sql.NullInt64, error) {
	if r.visit == "" {
		return sql.NullInt64{Int64: r.kind, Valid: r.kind != unknownKind}, nil
	}
	if id, ok := d.kinds[r.visit]; ok {
		return sql.NullInt64{Int64: id, Valid: true}, nil
	}
	if len(d.kinds) >= maxKinds {
		return sql.NullInt64{}, nil
	}
	var id int64
	err := tx.QueryRow("INSERT INTO kinds (text) VALUES (?) ON CONFLICT DO UPDATE SET text = text RETURNING id", r.visit).Scan(&id)
	if err != nil {
		return sql.NullInt64{}, err
	}
	if d.kinds == nil {
		d.kinds = map[string]int64{}
	}
	d.kinds[r.visit] = id
	return sql.NullInt64{Int64: id, Valid: true}, nil
}
