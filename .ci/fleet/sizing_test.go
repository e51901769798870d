// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/looptrace/looptrace/output/otlp/otlptest"
)

var (
	update = flag.Bool("update", false, "write what was measured into docs/fleet.md")
	page   = flag.String("sizing", "docs/fleet.md", "the page with the figures")
)

// TestSizing measures what a record costs on the wire, and holds the page on sizing to it. -update writes the page's figures,
// which its table of fleets is computed from.
func TestSizing(t *testing.T) {
	var got figures
	t.Run("measure", func(t *testing.T) {
		for i := range loads {
			t.Run(loads[i].name, func(t *testing.T) {
				t.Parallel() // most of it is waiting
				got[i] = measure(t, loads[i], strconv.Itoa(49342+i))
			})
		}
	})
	text, err := os.ReadFile(*page)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(*page, block.ReplaceAllLiteral(text, []byte(begin+"\n"+got.String()+finish)), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Logf("measured:\n%s", got)
	said := rows.FindAllStringSubmatch(string(block.Find(text)), -1)
	if len(said) != len(loads) {
		t.Fatalf("%d measured figures in %s, want %d", len(said), *page, len(loads))
	}
	// How many records come together is chance, and so is how many ancestors this test has.
	near := func(i int, what, text string, is, factor float64) {
		if want, _ := strconv.ParseFloat(text, 64); is > want*factor || is < want/factor {
			t.Errorf("%s: %.0f bytes a record %s, and not %.0f; update the page", loads[i].name, is, what, want)
		}
	}
	for i, row := range said {
		near(i, "on the wire", row[1], got[i].wirePer(), 2)
		near(i, "not compressed", row[2], got[i].rawPer(), 1.3)
	}
}

const begin, finish = "<!-- measured by make test-fleet UPDATE=1 -->", "<!-- end -->"

var (
	block = regexp.MustCompile(`(?s)` + begin + `.*` + finish)
	rows  = regexp.MustCompile(`(?m)^\| [^|]+ \| \d+ \| (\d+) \| (\d+) \|$`)
)

// cost is of the records that arrived at a receiver.
type cost struct{ records, requests, wire, raw int }

func (c cost) wirePer() float64 { return float64(c.wire) / float64(c.records) }
func (c cost) rawPer() float64  { return float64(c.raw) / float64(c.records) }

// load is what happens on a node.
type load struct {
	name    string
	flags   []string
	dials   string  // of each of four programs: how many, and the pause after each
	records float64 // in a second, for the table of fleets
}

// pairs is how many client and server programs the table of fleets supposes that an interval has.
const pairs = 30

var loads = [...]load{
	{"`--summary`, 30 programs a minute", []string{"--summary", "1s"}, "40 200ms", pairs / 60.0},
	{"2 connections in a second", nil, "8 2s", 2 * 3},
	{"20 connections in a second", nil, "60 200ms", 20 * 3},
	{"200 connections in a second", nil, "600 20ms", 200 * 3},
}

type figures [len(loads)]cost

// fleets are the sizes in the table, in nodes.
var fleets = []int{100, 1000, 10_000}

func (f figures) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, "| on a node | records in a request | bytes of one on the wire | not compressed |\n| --- | --- | --- | --- |")
	for i, c := range f {
		fmt.Fprintf(&b, "| %s | %d | %.0f | %.0f |\n", loads[i].name, c.records/c.requests, c.wirePer(), c.rawPer())
	}
	fmt.Fprintln(&b, "\n| on each node | nodes | records in a second | Mbit/s on the wire | GB on the wire in a day | MB/s not compressed |\n| --- | --- | --- | --- | --- | --- |")
	for i, c := range f {
		for _, nodes := range fleets {
			records := loads[i].records * float64(nodes)
			wire := records * c.wirePer()
			fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s |\n", loads[i].name, nodes, round(records), round(wire*8/1e6), round(wire*86_400/1e9), round(records*c.rawPer()/1e6))
		}
	}
	return b.String()
}

// round keeps two digits: more were not measured.
func round(f float64) string {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 2, 64), 64)
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// measure has four programs connect to a server, and adds up what looptrace sends of it.
func measure(t *testing.T, l load, port string) cost {
	t.Helper()
	var got cost
	var mu sync.Mutex
	wire := &countingListener{}
	var err error
	if wire.Listener, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, records, err := unpack(r)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got.requests++
		got.records += records
		got.raw += raw
	}))
	server.Listener.Close()
	server.Listener = wire
	server.Start()
	defer server.Close()

	dir := t.TempDir()
	shop := program(t, dir, "shop", "serve "+port)
	keep(t, shop, true)
	records := &counter{}
	trace := exec.Command(*looptrace, append(l.flags, "-o", "json", "--no-snapshot", "--netns", netns(t, "self"), "--port", port, "--otlp", server.URL)...)
	trace.Stdout = records
	keep(t, trace, false)
	await(t, "start record", func() bool { return records.count("start") == 1 })
	var clients []*exec.Cmd
	for _, name := range []string{"cart", "report", "python3", "checkout-service"} {
		cmd := program(t, dir, name, "taken "+port+" "+l.dials)
		keep(t, cmd, false)
		clients = append(clients, cmd)
	}
	for _, cmd := range clients {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(1500 * time.Millisecond) // a summary's interval
	if err := trace.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := trace.Wait(); err != nil {
		t.Error(err)
	}
	kill(shop)
	mu.Lock()
	defer mu.Unlock()
	if got.wire = int(wire.bytes.Load()); got.records != records.total()+records.losses {
		t.Errorf("%d records arrived of %d", got.records, records.total()+records.losses)
	}
	return got
}

// unpack gives the size of a request without compression, and its records.
func unpack(r *http.Request) (raw, records int, err error) {
	unpacked, err := gzip.NewReader(r.Body)
	if err != nil {
		return 0, 0, err
	}
	body, err := io.ReadAll(unpacked)
	if err != nil {
		return 0, 0, err
	}
	r.Header.Del("Content-Encoding")
	r.Body = io.NopCloser(bytes.NewReader(body))
	request, err := otlptest.Decode(r)
	for _, of := range request.GetResourceLogs() {
		for _, scope := range of.ScopeLogs {
			records += len(scope.LogRecords)
		}
	}
	return len(body), records, err
}

// countingListener counts what comes in over TCP, the requests' headers included.
type countingListener struct {
	net.Listener
	bytes atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, &l.bytes}, err
}

type countingConn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}
