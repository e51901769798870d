// SPDX-License-Identifier: Apache-2.0

package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

// Bounds of Past: what an answer looks at. The newest say it best, and to read a record takes 10 microseconds; to
// count one takes one.
const (
	maxSockets = 1000
	maxTalks   = 1500
	maxAfter   = 300
	maxCounted = 20_000
	dearer     = 20 // than to count a record is to read it
)

// Past is what the store has of a port, before a moment and some of what came after.
type Past struct {
	Lines []Line // in the order of their time, but for counts
	// Since is from when on all of the port's records were looked at, or counted; zero: all were. Of sockets, more was.
	Since time.Time
	// Partial says that something was neither looked at nor counted.
	Partial bool

	port    uint16
	tallies map[visit]tally // of the connections to the port, and the failures, that are not read
}

// Past looks for the records of a port about a moment; the zero one is now. What began before since is not counted where
// it is not read, either; the zero one counts all.
func (r *Reader) Past(ctx context.Context, port uint16, at, since time.Time) (p Past, err error) {
	var keys []key
	c := counting{tallies: map[int64]tally{}, left: maxCounted}
	bounds := spanOf(since, time.Time{})
	until, after := spanOf(time.Time{}, at), spanOf(at.Add(1), time.Time{})
	for _, l := range []lookup{asSocket, asServer, asClient} {
		most := maxTalks
		if l == asSocket {
			most = maxSockets
		}
		found, err := r.near(ctx, l, port, until, most, true)
		if err != nil {
			return p, err
		}
		if len(found) == most && found[most-1].time >= bounds.from {
			oldest := found[most-1]
			reached := time.Unix(0, oldest.time)
			if l == asServer {
				if reached, err = r.count(ctx, &c, port, span{bounds.from, until.to}, oldest, true); err != nil {
					return p, err
				}
			}
			if reached.After(p.Since) {
				p.Since = reached
			}
		}
		keys = append(keys, found...)
		if at.IsZero() {
			continue
		}
		if found, err = r.near(ctx, l, port, after, maxAfter, false); err != nil {
			return p, err
		}
		if len(found) == maxAfter {
			reached := time.Unix(0, 1)
			if l == asServer {
				if reached, err = r.count(ctx, &c, port, span{max(bounds.from, after.from), after.to}, found[maxAfter-1], false); err != nil {
					return p, err
				}
			}
			p.Partial = p.Partial || !reached.IsZero()
		}
		keys = append(keys, found...)
	}
	p.Partial = p.Partial || !p.Since.IsZero() || c.partial
	slices.SortFunc(keys, key.compare)
	for l, err := range r.fetch(ctx, append(slices.Compact(keys), c.counts...)) {
		if err != nil {
			return p, err
		}
		p.Lines = append(p.Lines, l)
	}
	_, underWay, err := r.Mark(ctx, port)
	if err != nil {
		return p, err
	}
	p.Lines = append(p.Lines, underWay...)
	p.port = port
	p.tallies, err = r.visits(ctx, &c)
	return p, err
}

// tally is how many records of a kind there were, and when.
type tally struct {
	count       uint64
	first, last time.Time
}

// counting is what was found of the records that are not read.
type counting struct {
	tallies map[int64]tally // by kind
	counts  []key           // summaries, which are read
	left    int             // how many records more are counted
	partial bool            // there is one of which nobody knows what it is
}

// count counts a port's records beyond one, by kind. It says how far it came: zero, to the end.
func (r *Reader) count(ctx context.Context, c *counting, port uint16, s span, beyond key, back bool) (reached time.Time, err error) {
	than, order := ">", " ORDER BY time, id"
	if back {
		s.to, than, order = beyond.time, "<", " ORDER BY time DESC, id DESC"
	} else {
		s.from = beyond.time
	}
	rest := asServer.in("?1") + " AND time BETWEEN ?3 AND ?4 AND (time, id) " + than + " (?5, ?6)" + order + " LIMIT ?7"
	for hour, err := range r.hours(ctx, asServer, port, s, back) {
		if err != nil {
			return reached, err
		}
		if c.left <= 0 {
			return time.Unix(0, beyond.time), nil
		}
		rows, err := r.db.QueryContext(ctx, "SELECT kind, count(*), min(time), max(time), CASE WHEN kind = ?8 THEN group_concat(id) END FROM (SELECT kind, time, id"+rest+") GROUP BY kind",
			hour, port, s.from, s.to, beyond.time, beyond.id, c.left, isCount)
		if err != nil {
			return reached, fmt.Errorf("read store: %w", err)
		}
		far, err := c.add(rows, back)
		if err != nil {
			return reached, fmt.Errorf("read store: %w", err)
		}
		if far != 0 {
			beyond.time = far
		}
	}
	return time.Time{}, nil
}

// add takes the rows of an hour, and says which is the farthest time.
func (c *counting) add(rows *sql.Rows, back bool) (far int64, err error) {
	defer rows.Close()
	for rows.Next() {
		var kind sql.NullInt64
		var ids sql.NullString
		var n, first, last int64
		if err := rows.Scan(&kind, &n, &first, &last, &ids); err != nil {
			return 0, err
		}
		c.left -= int(n)
		if kind.Int64 == isCount {
			c.left -= int(n) * dearer
		}
		if end := map[bool]int64{true: first, false: last}[back]; far == 0 || back == (end < far) {
			far = end
		}
		switch {
		case !kind.Valid, kind.Int64 == wasThere:
			c.partial = true
		case kind.Int64 == isCount:
			for text := range strings.SplitSeq(ids.String, ",") {
				var id int64
				if _, err := fmt.Sscan(text, &id); err != nil {
					return 0, err
				}
				c.counts = append(c.counts, key{id: id})
			}
		case kind.Int64 != noVisit:
			t := c.tallies[kind.Int64]
			t.count += uint64(n)
			if at := time.Unix(0, first); t.first.IsZero() || at.Before(t.first) {
				t.first = at
			}
			if at := time.Unix(0, last); at.After(t.last) {
				t.last = at
			}
			c.tallies[kind.Int64] = t
		}
	}
	return far, rows.Err()
}

// visits finds out what was counted.
func (r *Reader) visits(ctx context.Context, c *counting) (map[visit]tally, error) {
	found := map[visit]tally{}
	for kind, t := range c.tallies {
		var text string
		if err := r.db.QueryRowContext(ctx, "SELECT text FROM kinds WHERE id = ?", kind).Scan(&text); err != nil {
			return nil, fmt.Errorf("read store: %w", err)
		}
		var v visit
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			return nil, fmt.Errorf("read store: %w", err)
		}
		found[v] = t
	}
	return found, nil
}

// Told gives what the lines say, read in their order, and as summaries the connections to the port and the failures that
// are not among them. Of a connection whose connect was counted, and not read, the rest is left out.
func (p *Past) Told(read []*flow.Record) []*flow.Record {
	if len(p.tallies) == 0 {
		return read
	}
	var told []*flow.Record
	counted := map[uint64]bool{} // by connection: whether only its connect was
	for _, r := range read {
		if r.Conn != nil && r.Port == p.port && !r.Preexisting {
			if _, met := counted[r.ID]; !met {
				counted[r.ID] = r.Event != "connect" && p.countedConnectOf(r)
			}
			if counted[r.ID] {
				continue
			}
		}
		told = append(told, r)
	}
	for v, t := range p.tallies {
		r := v.record(t)
		r.Port = p.port
		told = append(told, r)
	}
	return told
}

// countedConnectOf says whether the connect of a connection's later record is among those that were counted.
func (p *Past) countedConnectOf(r *flow.Record) bool {
	t, ok := p.tallies[visitorsOf(r, 0)]
	began := r.Time.Add(-max(r.Conn.Duration, 0))
	return ok && !began.Before(t.first.Add(-slack))
}

// slack is by how much the beginning of a connection may seem to be before its connect: that comes when it was answered.
const slack = time.Second
