// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

// explained is one answer that the golden files show.
type explained struct {
	name    string
	inquiry *flow.Inquiry
}

// explainSamples has every kind of finding.
func explainSamples() []explained {
	moment := func(sec int) time.Time { return sampleTime.Add(time.Duration(sec) * time.Second) }
	ask := func(target string, change func(*flow.Inquiry)) *flow.Inquiry {
		targets, err := flow.ParseTarget(target)
		if err != nil {
			panic(err)
		}
		q := &flow.Inquiry{
			Text: target, Targets: targets, Now: moment(600), Looked: true, Remembers: moment(-3600),
			Host: flow.Host{Netns: sampleNetns, Low: 32768, High: 60999, UID: 1000},
		}
		change(q)
		return q
	}
	stamp := func(sec int, id uint64, r *flow.Record) *flow.Record {
		r.Time, r.ID = moment(sec), id
		return r
	}
	serve := func(sec int, id uint64, addr netip.Addr, asked uint16, a flow.Actor) []*flow.Record {
		b := stamp(sec, id, sampleSock("bind", addr, 49342, a))
		request(b.Sock, asked)
		b.Sock.Ephemeral = asked == 0
		l := stamp(sec, id, sampleSock("listen", addr, 49342, a))
		l.Sock.Exposed = !addr.IsLoopback()
		return []*flow.Record{b, l}
	}
	talk := func(sec int, id uint64, client flow.Actor) []*flow.Record {
		connect := stamp(sec, id, sampleConn("connect", localhost4, client, sampleServer()))
		accept := stamp(sec, id, sampleConn("accept", localhost4, short(client), short(sampleServer())))
		end := stamp(sec+1, id, withConn(sampleConn("close", localhost4, short(client), short(sampleServer())), func(c *flow.ConnRecord) {
			c.HasBytes, c.C2S, c.S2C, c.Accepted = true, 78, 1234, id%2 == 1
		}))
		return []*flow.Record{connect, accept, end}
	}
	python := sampleActor(4400, 0, "python3", "python3 -m http.server 49342")
	evil := sampleActor(666, 1001, "\x1b]0;owned\x07", "sh -c \x1b[31m\nfake line")
	return []explained{
		{"a server on a port that the kernel picked", ask("127.0.0.1:49342", func(q *flow.Inquiry) {
			q.Past = serve(0, 1, wildcard4, 0, sampleServer())
			for i := range 5 {
				client := sampleClient()
				client.P.PID += uint32(i)
				q.Past = append(q.Past, talk(100+2*i, uint64(10+i), client)...)
			}
			q.Past = append(q.Past, serve(-100, 99, localhost4, 49342, python)...)
			q.Past = append(q.Past, stamp(-50, 99, withSock(sampleSock("release", localhost4, 49342, python), func(s *flow.SockRecord) {
				s.Reason, s.Exit = "exit", flow.Exit{Known: true, Signal: int(syscall.SIGKILL)}
			})))
			q.Past = append(q.Past, stamp(-20, 0, fail(withConn(sampleConn("connect", localhost4, sampleClient(), flow.Actor{}), func(c *flow.ConnRecord) {
				c.LastListener = &flow.LastListener{Process: python, Until: moment(-50), Reason: "exit", Exit: flow.Exit{Known: true, Signal: int(syscall.SIGKILL)}}
			}), syscall.ECONNREFUSED)))
			q.Live = []*flow.Record{
				stamp(600, 7, preexisting(serve(0, 0, wildcard4, 0, sampleServer())[1])),
				stamp(600, 8, preexisting(sampleConn("connect", localhost4, sampleClient(), sampleServer()))),
			}
			q.Host.Session = []flow.Process{{ProcessID: flow.ProcessID{PID: 4000}}}
			q.Remembers = moment(-8000)
			q.FirstSeen = map[string]time.Time{"/usr/bin/node": moment(-3000)}
			q.LookedFrom = moment(-120)
			q.Partial = true
		})},
		{"a client of the past", ask("127.0.0.1:51234", func(q *flow.Inquiry) {
			q.Looked, q.At, q.AtEnd = false, moment(100), moment(101)
			q.Past = append(talk(100, 11, sampleClient()), talk(200, 13, python)...)
		})},
		{"nobody, and nothing known", ask("49342", func(q *flow.Inquiry) { q.Remembers, q.Host.Service = time.Time{}, "example" })},
		{"what is gone", ask("127.0.0.1:49342", func(q *flow.Inquiry) {
			q.Past = append(serve(0, 1, localhost4, 49342, sampleServer()), stamp(50, 1, withSock(sampleSock("release", localhost4, 49342, sampleServer()), func(s *flow.SockRecord) {
				s.Reason = "close"
			})), stamp(60, 0, fail(withConn(sampleConn("connect", localhost4, sampleClient(), flow.Actor{}), func(c *flow.ConnRecord) {
				c.LastListener = &flow.LastListener{Process: sampleServer(), Until: moment(50), Reason: "close"}
			}), syscall.ECONNREFUSED)))
		})},
		{"TIME_WAIT", ask("127.0.0.1:49342", func(q *flow.Inquiry) {
			q.Waiting = []flow.Holder{{Kind: flow.HolderTimeWait, Address: localhost4, Port: 49342, Expires: 42 * time.Second}}
			r := fail(withSock(sampleSock("bind", localhost4, 49342, python), func(s *flow.SockRecord) {
				s.Holder = &flow.Holder{Kind: flow.HolderTimeWait, Address: localhost4, Port: 49342, Process: sampleServer(), Expires: 50 * time.Second}
			}), syscall.EADDRINUSE)
			q.Past = []*flow.Record{stamp(592, 0, r)}
		})},
		{"two servers for localhost, one of them hostile", ask("localhost:49342", func(q *flow.Inquiry) {
			q.Live = []*flow.Record{
				stamp(600, 1, preexisting(sampleSock("listen", localhost4, 49342, sampleServer()))),
				stamp(600, 2, preexisting(sampleSock("listen", wildcard6, 49342, evil))),
				stamp(600, 3, preexisting(sampleSock("bind", netip.MustParseAddr("127.0.0.2"), 49342, sampleContainer("web")))),
			}
		})},
		{"what the store cannot know, and another network namespace", ask("127.0.0.1:49342", func(q *flow.Inquiry) {
			q.Past = append(serve(0, 1, localhost4, 49342, python), talk(100, 11, sampleClient())...)
			for _, r := range q.Past {
				r.Netns++
			}
			q.Past = append(q.Past,
				stamp(-30, 0, &flow.Record{Event: "start", Start: &flow.StartRecord{Filters: map[string]any{"comm": "curl,\x1b[31mpython3"}}}),
				stamp(200, 0, &flow.Record{Event: "lost", Lost: &flow.LostRecord{Count: 9360, Where: "store", Since: moment(150)}}))
			q.Watches = []flow.Watch{{From: moment(-30), Until: moment(300)}}
		})},
		{"what waits, and who became a daemon", ask("127.0.0.1:49342", func(q *flow.Inquiry) {
			parent := sampleActor(4400, 0, "python3", "python3 -m http.server 49342")
			q.Past = append(serve(0, 1, localhost4, 49342, parent), talk(100, 11, sampleClient())[0])
			q.Past = append(q.Past, stamp(-30, 0, &flow.Record{Event: "start", Start: &flow.StartRecord{}}))
			child := sampleActor(4401, 0, "python3", "python3 -m http.server 49342")
			child.P.Created = moment(1)
			q.Live = []*flow.Record{
				stamp(600, 7, preexisting(serve(0, 0, localhost4, 0, child)[1])),
				stamp(600, 8, preexisting(sampleConn("connect", localhost4, sampleClient(), child))),
			}
			q.Watches = []flow.Watch{{From: moment(-30), Until: moment(300), Goes: true}}
		})},
		{"between picking and binding", ask("127.0.0.1:49342", func(q *flow.Inquiry) {
			q.Past = append(serve(0, 1, localhost4, 0, sampleServer())[:1], stamp(1, 1, sampleSock("release", localhost4, 49342, sampleServer())))
			q.Past = append(q.Past, serve(2, 2, localhost4, 49342, python)...)
			q.Past = append(q.Past, stamp(3, 0, fail(withSock(sampleSock("bind", localhost4, 49342, sampleServer()), func(s *flow.SockRecord) {
				s.Holder = &flow.Holder{Kind: flow.HolderListener, Address: localhost4, Port: 49342, Process: python, Since: moment(2)}
			}), syscall.EADDRINUSE)))
			q.Live = []*flow.Record{stamp(600, 7, preexisting(sampleSock("bind", localhost4, 49342, python)))}
		})},
	}
}

func TestExplainGolden(t *testing.T) {
	var text, lines bytes.Buffer
	for _, s := range explainSamples() {
		e := flow.Explain(s.inquiry)
		text.WriteString("── " + s.name + "\n\n")
		if err := ExplainText(&text, e, TextOptions{Location: time.UTC}); err != nil {
			t.Fatal(err)
		}
		text.WriteString("\n")
		if err := ExplainJSON(&lines, e); err != nil {
			t.Fatal(err)
		}
	}
	compareGolden(t, "explain.txt", text.String())
	compareGolden(t, "explain.jsonl", lines.String())
}

// TestExplainIsAPage: no line of text has what a terminal would act on, and all of them fit a page.
func TestExplainIsAPage(t *testing.T) {
	const page = 50
	for _, s := range explainSamples() {
		t.Run(s.name, func(t *testing.T) {
			var text bytes.Buffer
			if err := ExplainText(&text, flow.Explain(s.inquiry), TextOptions{Location: time.UTC}); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
			if len(lines) > page {
				t.Errorf("%d lines", len(lines))
			}
			for _, line := range lines {
				checkPrintable(t, line)
			}
		})
	}
}

// TestExplainRecordsAreTheContracts: each record in an answer is one of the schema.
func TestExplainRecordsAreTheContracts(t *testing.T) {
	validator := compileSchema(t)
	seen := 0
	for _, s := range explainSamples() {
		var line bytes.Buffer
		if err := ExplainJSON(&line, flow.Explain(s.inquiry)); err != nil {
			t.Fatal(err)
		}
		var answer struct{ Now, History, Refused []json.RawMessage }
		if err := json.Unmarshal(line.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		for _, list := range [][]json.RawMessage{answer.Now, answer.History, answer.Refused} {
			for _, raw := range list {
				seen++
				if err := validator.Validate(decodeRecord(t, string(raw))); err != nil {
					t.Errorf("%s: %v\n%s", s.name, err, raw)
				}
			}
		}
	}
	if seen < 30 {
		t.Errorf("%d records in all answers", seen)
	}
}

// TestBeat: a beat is told as exactly as it was found, but for what timers are late by.
func TestBeat(t *testing.T) {
	for every, want := range map[time.Duration]string{
		2069376704 * time.Nanosecond: "2.07 s", 250_300 * time.Microsecond: "250 ms", 30_040 * time.Millisecond: "30.0 s",
	} {
		w := &words{}
		w.duration(every.Round(pace(every)))
		if string(w.dst) != want {
			t.Errorf("%v: %s, want %s", every, w.dst, want)
		}
	}
}
