// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const victoriaURL = "http://127.0.0.1:9428"

// TestVictoriaLogs has each of the three ways out in VictoriaLogs, as docs/pipelines.md says, and asks each the same.
func TestVictoriaLogs(t *testing.T) {
	engine := exec.Command(*victoriaLogs, "-storageDataPath="+t.TempDir(), "-httpListenAddr=127.0.0.1:9428", "-loggerLevel=ERROR")
	engine.Stderr = os.Stderr
	keep(t, engine, false)
	await(t, "VictoriaLogs", func() bool { return listens("127.0.0.1:9428") })

	traces := map[string]*exec.Cmd{}
	outputs := map[string]*bytes.Buffer{}
	for format, flags := range map[string][]string{"json": {"--otlp", victoriaURL + "/insert/opentelemetry"}, "ecs": nil} {
		args := append([]string{"-o", format, "--no-snapshot", "--netns", netns(t, "self"), "--port", "49342,5432", "--event", "connect"}, flags...)
		trace, out := exec.Command(*looptrace, args...), &lines{}
		trace.Stdout = out
		keep(t, trace, false)
		await(t, "start record", func() bool { return strings.Count(out.String(), "\n") == 1 })
		traces[format], outputs[format] = trace, &out.b
	}
	dir := t.TempDir()
	keep(t, program(t, dir, "shop", "serve 49342"), true)
	for name, act := range map[string]string{"cart": "taken 49342 17", "report": "refused 5432 11"} {
		if out, err := program(t, dir, name, act).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for format, trace := range traces {
		if err := trace.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := trace.Wait(); err != nil {
			t.Errorf("-o %s: %v", format, err)
		}
	}
	insert(t, 1, "_time_field=time&_msg_field=message&_stream_fields=event", outputs["json"])
	insert(t, 2, "_time_field=@timestamp&_msg_field=message&_stream_fields=event.action", outputs["ecs"])

	tests := []struct {
		name    string
		account int
		query   string
	}{
		{"OTLP", 0, `{service.name="looptrace"} event.name:=looptrace.connect | stats by (client.process.comm, outcome, server.port) count() n`},
		{"JSON", 1, `{event="connect"} | stats by (client.process.comm, outcome, server.port) count() n`},
		{"ECS", 2, `{event.action="connect"} | stats by (process.name, event.outcome, server.port) count() n`},
	}
	want := map[string]string{"cart success 49342": "17", "report failure 5432": "11"}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got map[string]string
			defer func() { t.Logf("%v", got) }()
			await(t, "answer", func() bool { got = query(t, test.account, test.query); return cmp.Equal(want, got) })
		})
	}
}

// lines is a buffer that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// victoria makes a request for an account of its own.
func victoria(t *testing.T, account int, path, kind string, body io.Reader) []byte {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, victoriaURL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("AccountID", fmt.Sprint(account))
	req.Header.Set("Content-Type", kind)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s, %v", path, resp.Status, text, err)
	}
	return text
}

func insert(t *testing.T, account int, fields string, body io.Reader) {
	t.Helper()
	victoria(t, account, "/insert/jsonline?"+fields, "application/stream+json", body)
}

// query gives the numbers of a query by its three labels.
func query(t *testing.T, account int, text string) map[string]string {
	t.Helper()
	answer := victoria(t, account, "/select/logsql/query", "application/x-www-form-urlencoded", strings.NewReader(url.Values{"query": {text}}.Encode()))
	m := map[string]string{}
	for line := range bytes.Lines(answer) {
		var r map[string]string
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		m[r["client.process.comm"]+r["process.name"]+" "+r["outcome"]+r["event.outcome"]+" "+r["server.port"]] = r["n"]
	}
	return m
}
