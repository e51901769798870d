// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"strings"
	"testing"

	"github.com/looptrace/looptrace/tracer/flow"
)

// TestNames: a record that has its processes cut says the same of them as the one before, which has them whole. Redis's
// server is a link to another program's executable.
func TestNames(t *testing.T) {
	client, server := sampleClient(), sampleActor(9751, 0, "redis-check-rdb", "redis-server *:6379")
	server.P.Comm = "redis-server"
	var buf bytes.Buffer
	j := NewJSON(&buf)
	for _, r := range []*flow.Record{
		sampleConn("connect", localhost4, client, server),
		sampleConn("accept", localhost4, short(client), short(server)),
	} {
		r.Time = sampleTime
		if err := j.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Flush(); err != nil {
		t.Fatal(err)
	}
	written := buf.String()
	var names flow.Names
	var again bytes.Buffer
	j = NewJSON(&again)
	for line := range strings.Lines(written) {
		r, err := Parse([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		names.Learn(r)
		names.Complete(r)
		if err := j.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Flush(); err != nil {
		t.Fatal(err)
	}
	if again.String() != written {
		t.Errorf("written:\n%sread and written again:\n%s", written, again.String())
	}

	// A process that is another, by its start or its program, keeps what is left of it.
	other := *server.P
	other.Comm, other.CommandLine = "sh", ""
	r := sampleConn("accept", localhost4, short(client), flow.Actor{P: &other, Short: true})
	names.Complete(r)
	if r.Conn.Server.Process.P != &other {
		t.Error("another program was given its name")
	}

	// A count of one process's connections has its name beside it.
	r = &flow.Record{Event: "summary", Port: 6379, HasPort: true, Proto: flow.TCP, Summary: &flow.SummaryRecord{
		Count:  9,
		Client: flow.Program{Comm: "curl", ExeName: "curl", P: &flow.Process{ProcessID: flow.ProcessID{PID: 5}}},
		Server: flow.Program{Comm: "redis-server", ExeName: "redis-check-rdb", P: &flow.Process{ProcessID: server.P.ProcessID, Created: server.P.Created}},
	}}
	names.Complete(r)
	if got := string((&words{}).message(nil, r)); !strings.HasPrefix(got, "curl[5] connected to port 6379 of redis-server[9751]") {
		t.Errorf("%q", got)
	}
}
