// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestSchemaAcceptsGoodRecords(t *testing.T) {
	validator := compileSchema(t)
	for name, record := range goodRecords {
		t.Run(name, func(t *testing.T) {
			if err := validator.Validate(decodeRecord(t, record)); err != nil {
				t.Fatalf("refused: %v", err)
			}
		})
	}
}

// TestSchemaRefusesSpoiledRecords changes one thing in a record that TestSchemaAcceptsGoodRecords
// has seen pass, so that the change is the only possible cause of the refusal.
func TestSchemaRefusesSpoiledRecords(t *testing.T) {
	validator := compileSchema(t)
	for _, tc := range spoiledRecords {
		t.Run(tc.name, func(t *testing.T) {
			good, ok := goodRecords[tc.of]
			if !ok {
				t.Fatalf("no good record %q", tc.of)
			}
			record := decodeRecord(t, good)
			spoil(t, record, tc.path, tc.value)
			if err := validator.Validate(record); err == nil {
				t.Fatal("accepted")
			}
		})
	}
}

// TestSchemaRefusesAnywhere spoils each object of each good record: an unknown field, or null for a known one,
// must not pass however deep it is.
func TestSchemaRefusesAnywhere(t *testing.T) {
	validator := compileSchema(t)
	for name, good := range goodRecords {
		t.Run(name, func(t *testing.T) {
			record := decodeRecord(t, good)
			walk("", record, func(path string, node map[string]any) {
				if path == "/filters" {
					return
				}
				node["bogus"] = json.Number("1")
				if validator.Validate(record) == nil {
					t.Errorf("accepted an unknown field in %s/", path)
				}
				delete(node, "bogus")
				for field, value := range node {
					node[field] = nil
					if validator.Validate(record) == nil {
						t.Errorf("accepted null for %s/%s", path, field)
					}
					node[field] = value
				}
			})
		})
	}
}

// TestSchemaIsClosed finds what the tables cannot: an object that lets unknown fields through, and
// a definition that nothing uses.
func TestSchemaIsClosed(t *testing.T) {
	var document map[string]any
	if err := json.Unmarshal(Schema(), &document); err != nil {
		t.Fatal(err)
	}
	// Free by contract: filter names are the command line's, and the root only hands over to oneOf.
	open := []string{"", "/$defs/start/properties/filters"}
	walk("", document, func(path string, node map[string]any) {
		if node["type"] != "object" || slices.Contains(open, path) {
			return
		}
		_, additional := node["additionalProperties"]
		_, unevaluated := node["unevaluatedProperties"]
		if !additional && !unevaluated {
			t.Errorf("%s is open", path)
		}
	})
	for name := range document["$defs"].(map[string]any) {
		if !bytes.Contains(Schema(), []byte(`"#/$defs/`+name+`"`)) {
			t.Errorf("$defs/%s is unused", name)
		}
	}
}

func TestSchemaReturnsACopy(t *testing.T) {
	Schema()[0] = 'x'
	if got := Schema()[0]; got != '{' {
		t.Fatalf("first byte is %q after a caller changed its copy", got)
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("record.json", document); err != nil {
		t.Fatal(err)
	}
	validator, err := compiler.Compile("record.json")
	if err != nil {
		t.Fatal(err)
	}
	return validator
}

func decodeRecord(t *testing.T, record string) any {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(record))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// remove is the value that takes a field away.
const remove = "\x00remove"

// spoil sets the field at a dotted path, whose numbers are indexes of arrays. Only the last step
// may be new: a path that leads nowhere would spoil nothing, and fails the test instead.
func spoil(t *testing.T, record any, path string, value any) {
	t.Helper()
	steps := strings.Split(path, ".")
	for _, step := range steps[:len(steps)-1] {
		switch node := record.(type) {
		case map[string]any:
			record = node[step]
		case []any:
			index, err := strconv.Atoi(step)
			if err != nil || index >= len(node) {
				t.Fatalf("no element %q on the way to %q", step, path)
			}
			record = node[index]
		}
	}
	object, ok := record.(map[string]any)
	if !ok {
		t.Fatalf("%q is not in an object", path)
	}
	last := steps[len(steps)-1]
	if value != remove {
		object[last] = value
		return
	}
	if _, ok := object[last]; !ok {
		t.Fatalf("%q is not there to remove", path)
	}
	delete(object, last)
}

// walk calls visit for each object of a JSON document, with its path.
func walk(path string, node any, visit func(string, map[string]any)) {
	switch node := node.(type) {
	case map[string]any:
		visit(path, node)
		for name, child := range node {
			walk(path+"/"+name, child, visit)
		}
	case []any:
		for i, child := range node {
			walk(path+"/"+strconv.Itoa(i), child, visit)
		}
	}
}

const (
	header = `"time":"2026-11-23T08:15:30.123456789Z","level":"info","message":"A plain sentence."`
	warned = `"time":"2026-11-23T08:15:30.123456789Z","level":"warn","message":"A plain sentence."`
	tcp4   = `"network":{"transport":"tcp","type":"ipv4"},"netns":4026531840`
	tcp6   = `"network":{"transport":"tcp","type":"ipv6"},"netns":4026531840`
	udp4   = `"network":{"transport":"udp","type":"ipv4"},"netns":4026531840`
	udp6   = `"network":{"transport":"udp","type":"ipv6"},"netns":4026531840`

	nginx = `{"pid":812,"parent_pid":1,"comm":"nginx","executable":{"name":"nginx","path":"/usr/sbin/nginx"},` +
		`"command_line":"nginx: master process /usr/sbin/nginx","owner":"root","user":{"id":"0"},` +
		`"creation":{"time":"2026-11-20T06:00:00.000000000Z"},"ancestors":[{"pid":1,"executable":{"name":"systemd"}}],` +
		`"systemd_unit":"nginx.service","attribution":"hook"}`
	curl = `{"pid":9001,"parent_pid":8000,"comm":"curl","thread":{"name":"dns"},"executable":{"name":"curl","path":"/usr/bin/curl"},` +
		`"command_line":"curl http://localhost:49342/","owner":"alice","user":{"id":"1000"},` +
		`"creation":{"time":"2026-11-23T08:15:30.120000000Z"},` +
		`"ancestors":[{"pid":8000,"executable":{"name":"bash"}},{"pid":1}],"attribution":"hook"}`
	curlCut  = `{"pid":9001,"creation":{"time":"2026-11-23T08:15:30.120000000Z"},"comm":"curl","executable":{"name":"curl"},"attribution":"hook"}`
	nginxCut = `{"pid":812,"creation":{"time":"2026-11-20T06:00:00.000000000Z"},"comm":"nginx","executable":{"name":"nginx"},"attribution":"hook"}`
	holders  = `[{"pid":901,"comm":"gunicorn","executable":{"name":"python3.11"}},{"pid":902,"comm":"gunicorn"}]`
	shared   = `{"pid":900,"comm":"gunicorn","attribution":"shared","holders":` + holders + `}`
	docker   = `{"id":"4f1c0d2e","runtime":{"name":"docker"},"name":"web"}`
	pool     = `{"range":[32768,60999],"in_use":28232,"top":[{"process":{"pid":77,"comm":"leaky"},"count":28000}]}`

	ends4 = `"port":49342,"client":{"address":"127.0.0.1","port":51234,"process":` + curl + `},` +
		`"server":{"address":"127.0.0.1","port":49342,"process":` + nginx + `,"container":` + docker + `}`
	ends6 = `"port":5432,"client":{"address":"::1","port":51234,"process":` + curl + `},` +
		`"server":{"address":"::1","port":5432,"process":` + shared + `}`
	endsCut = `"port":49342,"client":{"address":"127.0.0.1","port":51234,"process":` + curlCut + `},` +
		`"server":{"address":"127.0.0.1","port":49342,"process":` + nginxCut + `}`
	deadEnd4 = `"port":49342,"client":{"address":"127.0.0.1","port":51234,"process":` + curl + `},` +
		`"server":{"address":"127.0.0.1","port":49342}`
	inUse = `{"event":"bind",` + warned + `,"id":"s8","outcome":"failure","error":{"type":"EADDRINUSE"},` + tcp4 +
		`,"address":"127.0.0.1","port":49342,"process":` + curl + `,"requested":{"address":"127.0.0.1","port":49342},"holder":`
)

// goodRecords have one or more of each event; some are the contract's rare shapes.
var goodRecords = map[string]string{
	"bind": `{"event":"bind",` + header + `,"id":"s1","outcome":"success",` + tcp4 +
		`,"address":"127.0.0.1","port":49342,"process":` + nginx + `,"container":` + docker +
		`,"requested":{"address":"127.0.0.1","port":0},"ephemeral":true}`,
	"bind ipv6": `{"event":"bind",` + header + `,"id":"s2","outcome":"success",` + tcp6 +
		`,"address":"::","port":8080,"process":` + nginx + `,"requested":{"address":"::","port":8080},"ephemeral":false,"v6only":false}`,
	"bind udp implicit": `{"event":"bind",` + header + `,"id":"s3","outcome":"success",` + udp4 +
		`,"address":"0.0.0.0","port":40001,"process":` + curl + `,"ephemeral":true}`,
	"bind without a port": `{"event":"bind",` + header + `,"id":"s4","outcome":"success",` + tcp4 +
		`,"address":"127.0.0.1","process":` + curl + `,"requested":{"address":"127.0.0.1","port":0},"ephemeral":false}`,
	"bind preexisting": `{"event":"bind",` + header + `,"id":"s5","outcome":"success",` + udp6 +
		`,"address":"::1","port":5353,"process":{"pid":5,"comm":"mdns","attribution":"snapshot"},"preexisting":true}`,
	"bind preexisting without an owner": `{"event":"bind",` + header + `,"id":"s6","outcome":"success",` + tcp4 +
		`,"address":"127.0.0.1","port":2049,"ephemeral":false,"preexisting":true}`,
	"bind held by a listener": inUse + `{"kind":"listener","address":"0.0.0.0","port":49342,"process":` + nginx +
		`,"container":` + docker + `,"since":"2026-11-20T06:00:01.000000000Z"}}`,
	"bind held by a bound socket": inUse + `{"kind":"bound","address":"127.0.0.1","port":49342,"process":` + shared + `}}`,
	"bind held by a connection": inUse + `{"kind":"connection","address":"10.0.0.5","port":49342,"process":` + curl +
		`,"state":"ESTABLISHED","peer":{"address":"192.0.2.7","port":443},"since":"2026-11-20T06:00:01.000000000Z"}}`,
	"bind held by an orphan": inUse + `{"kind":"connection","address":"127.0.0.1","port":49342,"state":"FIN_WAIT2","peer":{"address":"127.0.0.1","port":51234}}}`,
	"bind held by time_wait": inUse + `{"kind":"time_wait","address":"127.0.0.1","port":49342,"process":` + curl + `,"expires_in_ns":59000000000}}`,
	"bind of a full range": `{"event":"bind",` + warned + `,"id":"s9","outcome":"failure","error":{"type":"EADDRINUSE"},` + tcp6 +
		`,"address":"::1","process":` + curl + `,"requested":{"address":"::1","port":0},"v6only":true,"ephemeral_ports":` + pool + `}`,
	"listen without a free port": `{"event":"listen",` + warned + `,"id":"s9","outcome":"failure","error":{"type":"EADDRINUSE"},` + tcp4 +
		`,"address":"0.0.0.0","process":` + curl + `,"backlog":16,"ephemeral_ports":` + pool + `}`,
	"bind refused": `{"event":"bind",` + warned + `,"id":"s10","outcome":"failure","error":{"type":"EACCES"},` + tcp4 +
		`,"address":"0.0.0.0","port":80,"process":` + curl + `,"requested":{"address":"0.0.0.0","port":80}}`,

	"listen": `{"event":"listen",` + header + `,"id":"s1","outcome":"success",` + tcp4 +
		`,"address":"127.0.0.1","port":49342,"process":` + nginx + `,"backlog":511,"exposure":"loopback"}`,
	"listen exposed": `{"event":"listen",` + warned + `,"id":"s2","outcome":"success",` + tcp6 +
		`,"address":"::","port":49342,"process":` + shared + `,"backlog":0,"exposure":"network"}`,
	"listen preexisting": `{"event":"listen",` + header + `,"id":"s3","outcome":"success",` + tcp4 +
		`,"address":"0.0.0.0","port":22,"exposure":"network","preexisting":true}`,
	"listen in use": `{"event":"listen",` + warned + `,"id":"s4","outcome":"failure","error":{"type":"EADDRINUSE"},` + tcp4 +
		`,"address":"127.0.0.1","port":49342,"process":` + curl + `,"backlog":5,"exposure":"loopback",` +
		`"holder":{"kind":"listener","address":"127.0.0.1","port":49342,"process":` + nginx + `}}`,

	"release": `{"event":"release",` + header + `,"id":"s1","outcome":"success",` + tcp4 +
		`,"address":"127.0.0.1","port":49342,"process":` + nginx + `,"held_ns":1500000000,"reason":"close"}`,
	"release by exit": `{"event":"release",` + header + `,"id":"s1","outcome":"success",` + tcp6 +
		`,"address":"::1","port":49342,"process":{"pid":3,"comm":"a","attribution":"hook","exit":{"code":0}},"held_ns":1,"reason":"exit"}`,
	"release by signal": `{"event":"release",` + header + `,"id":"s1","outcome":"success",` + udp4 +
		`,"address":"127.0.0.1","port":53,"process":{"pid":3,"comm":"a","attribution":"hook","exit":{"signal":"SIGKILL"}},` +
		`"reason":"exit","preexisting":true}`,

	"connect": `{"event":"connect",` + header + `,"id":"c1","outcome":"success",` + tcp4 + `,` + ends4 +
		`,"duration_ns":41000,"syn_retransmits":1,"accept_queue":{"length":3,"limit":128}}`,
	"connect shared": `{"event":"connect",` + header + `,"id":"c2","outcome":"success",` + tcp6 + `,` + ends6 + `,"duration_ns":41000}`,
	"connect with holders only": `{"event":"connect",` + header + `,"id":"c3","outcome":"success",` + tcp4 +
		`,"port":80,"client":{"address":"127.0.0.1","port":51234},"server":{"address":"127.0.0.1","port":80,"holders":` + holders + `},"duration_ns":9}`,
	"connect preexisting": `{"event":"connect",` + header + `,"id":"c4","outcome":"success",` + tcp4 + `,` + ends4 + `,"preexisting":true}`,
	"connect to itself": `{"event":"connect",` + header + `,"id":"c5","outcome":"success",` + tcp4 +
		`,"port":51234,"client":{"address":"127.0.0.1","port":51234,"process":` + curl +
		`},"server":{"address":"127.0.0.1","port":51234,"process":` + curl + `},"duration_ns":20000,"self":true}`,
	"connect refused": `{"event":"connect",` + warned + `,"id":"c6","outcome":"failure","error":{"type":"ECONNREFUSED"},` + tcp4 + `,` + deadEnd4 +
		`,"duration_ns":30000,"last_listener":{"process":` + nginx + `,"container":` + docker + `,"since":"2026-11-20T06:00:01.000000000Z",` +
		`"until":"2026-11-23T08:00:00.000000000Z","reason":"exit","exit":{"signal":"SIGSEGV"}},` +
		`"nearby":[{"address":"::1","port":49342,"process":` + nginx + `,"because":"family"},` +
		`{"address":"127.0.0.1","port":49342,"container":` + docker + `,"netns":4026532201,"because":"netns"}]}`,
	"connect timed out": `{"event":"connect",` + warned + `,"id":"c7","outcome":"failure","error":{"type":"ETIMEDOUT"},` + tcp4 + `,` + deadEnd4 +
		`,"duration_ns":130000000000,"syn_retransmits":6,"accept_queue":{"length":129,"limit":128}}`,
	"connect without a free port": `{"event":"connect",` + warned + `,"id":"c8","outcome":"failure","error":{"type":"EADDRNOTAVAIL"},` + tcp4 +
		`,"port":5432,"client":{"address":"127.0.0.1","process":` + curl + `},"server":{"address":"127.0.0.1","port":5432},"ephemeral_ports":` + pool + `}`,
	"connect udp":         `{"event":"connect",` + header + `,"id":"c9","outcome":"success",` + udp6 + `,` + ends6 + `}`,
	"connect udp refused": `{"event":"connect",` + warned + `,"id":"c10","outcome":"failure","error":{"type":"ECONNREFUSED"},` + udp4 + `,` + deadEnd4 + `}`,

	"accept": `{"event":"accept",` + header + `,"id":"c1","outcome":"success",` + tcp4 + `,` + endsCut +
		`,"duration_ns":12000,"listener":{"process":{"pid":700,"comm":"systemd","attribution":"snapshot"}}}`,
	"accept preexisting": `{"event":"accept",` + header + `,"id":"c4","outcome":"success",` + tcp6 + `,` + ends6 + `,"preexisting":true}`,
	"accept shared, cut": `{"event":"accept",` + header + `,"id":"c2","outcome":"success",` + tcp4 +
		`,"port":80,"client":{"address":"127.0.0.1","port":51234},"server":{"address":"127.0.0.1","port":80,` +
		`"process":{"pid":900,"comm":"gunicorn","attribution":"shared"}},"duration_ns":1}`,

	"close": `{"event":"close",` + header + `,"id":"c1","outcome":"success",` + tcp4 + `,` + endsCut +
		`,"duration_ns":5000000,"bytes":{"client_to_server":78,"server_to_client":0},"closed_by":"server"}`,
	"close by reset, never accepted": `{"event":"close",` + header + `,"id":"c2","outcome":"success",` + tcp6 + `,` + ends6 +
		`,"duration_ns":1,"bytes":{"client_to_server":0,"server_to_client":0},"closed_by":"client","reset":true,"accepted":false}`,
	"close of a dead peer": `{"event":"close",` + warned + `,"id":"c3","outcome":"failure","error":{"type":"ETIMEDOUT"},` + tcp4 + `,` + endsCut + `,"duration_ns":9}`,
	"close preexisting":    `{"event":"close",` + header + `,"id":"c4","outcome":"success",` + tcp4 + `,` + endsCut + `,"preexisting":true}`,
	"close udp":            `{"event":"close",` + header + `,"id":"c9","outcome":"success",` + udp6 + `,` + ends6 + `,"duration_ns":70}`,

	"summary": `{"event":"summary",` + header + `,"outcome":"success","network":{"transport":"tcp"},"port":5432,` +
		`"client":{"process":{"pid":31,"executable":{"name":"web"}}},"server":{"process":{"executable":{"name":"postgres"}}},` +
		`"count":120,"bytes":{"client_to_server":1,"server_to_client":0},"handshake_ns":{"p50":20000,"p90":30000,"p99":41000,"max":90000},` +
		`"first":"2026-11-23T08:15:20.000000001Z","last":"2026-11-23T08:15:29.999999999Z"}`,
	"summary of refusals": `{"event":"summary",` + warned + `,"outcome":"failure","error":{"type":"ECONNREFUSED"},"network":{"transport":"tcp"},"port":5433,` +
		`"client":{"process":{"comm":"web"}},"count":3,"first":"2026-11-23T08:15:20.000000001Z","last":"2026-11-23T08:15:29.999999999Z"}`,

	"start": `{"event":"start",` + header + `,"hooks":"fentry","kernel":"6.12.48+deb13-amd64","version":"1.0.0","schema_version":1,` +
		`"filters":{"port":[49342],"failed":true},"host":{"name":"box"},"boot_id":"3f2c1b0a-9d8e-4c7b-a6f5-0123456789ab","pid":4711,"self_excluded":true}`,
	"start unfiltered": `{"event":"start",` + header + `,"hooks":"tracepoint","kernel":"5.10.0-30-arm64","version":"1.0.0","schema_version":1,` +
		`"filters":{},"host":{"name":"box"},"boot_id":"3f2c1b0a-9d8e-4c7b-a6f5-0123456789ab","pid":1,"self_excluded":true}`,
	"lost": `{"event":"lost",` + warned + `,"count":17,"where":"ring buffer","since":"2026-11-23T08:15:29.000000000Z"}`,
	"stop": `{"event":"stop",` + header + `,"counts":{"start":1,"bind":3,"connect":0},"lost":0,"duration_ns":60000000000}`,
}

// spoiledRecords change one field of a good record: value replaces what is at path, or adds it.
var spoiledRecords = []struct {
	name  string
	of    string
	path  string
	value any
}{
	{"time missing", "bind", "time", remove},
	{"level missing", "connect", "level", remove},
	{"event missing", "close", "event", remove},
	{"message missing", "lost", "message", remove},
	{"id missing", "listen", "id", remove},
	{"outcome missing", "release", "outcome", remove},
	{"outcome missing from a summary", "summary", "outcome", remove},
	{"network missing", "accept", "network", remove},
	{"transport missing", "bind", "network.transport", remove},
	{"network type missing", "bind", "network.type", remove},
	{"netns missing", "connect", "netns", remove},
	{"connection port missing", "close", "port", remove},
	{"client missing", "connect", "client", remove},
	{"server missing", "accept", "server", remove},
	{"server port missing", "connect refused", "server.port", remove},
	{"server address missing", "connect", "server.address", remove},
	{"client port missing on success", "connect", "client.port", remove},
	{"duration missing from connect", "connect", "duration_ns", remove},
	{"duration missing from a refusal", "connect refused", "duration_ns", remove},
	{"duration missing from accept", "accept", "duration_ns", remove},
	{"duration missing from close", "close udp", "duration_ns", remove},
	{"exposure missing from listen", "listen", "exposure", remove},
	{"backlog missing from listen", "listen", "backlog", remove},
	{"address missing from bind", "bind", "address", remove},
	{"port missing from bind", "bind", "port", remove},
	{"ephemeral missing from bind", "bind", "ephemeral", remove},
	{"requested missing from an explicit bind", "bind ipv6", "requested", remove},
	{"pid missing", "connect", "client.process.pid", remove},
	{"attribution missing", "listen", "process.attribution", remove},
	{"holders missing from shared", "listen exposed", "process.holders", remove},
	{"because missing", "connect refused", "nearby.0.because", remove},
	{"holder kind missing", "bind held by a listener", "holder.kind", remove},
	{"container id missing", "bind", "container.id", remove},
	{"filters missing", "start unfiltered", "filters", remove},
	{"self_excluded missing", "start", "self_excluded", remove},
	{"since missing from lost", "lost", "since", remove},
	{"counts missing from stop", "stop", "counts", remove},
	{"handshake percentile missing", "summary", "handshake_ns.p99", remove},
	{"network missing from a summary", "summary", "network", remove},
	{"port missing from a summary", "summary", "port", remove},
	{"count missing from a summary", "summary", "count", remove},
	{"first missing from a summary", "summary", "first", remove},
	{"last missing from a summary", "summary", "last", remove},
	{"hooks missing", "start", "hooks", remove},
	{"kernel missing", "start", "kernel", remove},
	{"version missing", "start", "version", remove},
	{"schema version missing", "start", "schema_version", remove},
	{"host missing", "start", "host", remove},
	{"boot id missing", "start", "boot_id", remove},
	{"looptrace's pid missing", "start", "pid", remove},
	{"count missing from lost", "lost", "count", remove},
	{"where missing from lost", "lost", "where", remove},
	{"lost missing from stop", "stop", "lost", remove},
	{"duration missing from stop", "stop", "duration_ns", remove},
	{"address missing from listen", "listen", "address", remove},
	{"port missing from listen", "listen", "port", remove},
	{"address missing from release", "release", "address", remove},
	{"port missing from release", "release", "port", remove},
	{"address missing from a preexisting bind", "bind preexisting", "address", remove},
	{"port missing from a preexisting bind", "bind preexisting", "port", remove},
	{"client address missing on success", "close", "client.address", remove},
	{"pid missing from a cut process", "close", "client.process.pid", remove},
	{"attribution missing from a cut process", "close", "client.process.attribution", remove},
	{"address missing from holder", "bind held by time_wait", "holder.address", remove},
	{"port missing from holder", "bind held by time_wait", "holder.port", remove},
	{"address missing from nearby", "connect refused", "nearby.0.address", remove},
	{"port missing from nearby", "connect refused", "nearby.0.port", remove},
	{"length missing from the accept queue", "connect", "accept_queue.length", remove},
	{"limit missing from the accept queue", "connect", "accept_queue.limit", remove},
	{"pid missing from an ancestor", "connect", "client.process.ancestors.0.pid", remove},

	{"failure without an errno", "bind refused", "error", remove},
	{"error without a type", "bind refused", "error.type", remove},
	{"success with an errno", "connect", "error", map[string]any{"type": "ECONNREFUSED"}},
	{"failure at level info", "connect refused", "level", "info"},
	{"success at level warn", "connect", "level", "warn"},
	{"bind at level warn", "bind", "level", "warn"},
	{"release at level warn", "release", "level", "warn"},
	{"accept at level warn", "accept", "level", "warn"},
	{"close at level warn", "close", "level", "warn"},
	{"summary at level warn", "summary", "level", "warn"},
	{"network listener at level error", "listen exposed", "level", "error"},
	{"loopback listener at level warn", "listen", "level", "warn"},
	{"loss at level info", "lost", "level", "info"},

	{"time with six digits", "bind", "time", "2026-11-23T08:15:30.123456Z"},
	{"time without a fraction", "bind", "time", "2026-11-23T08:15:30Z"},
	{"time with an offset", "bind", "time", "2026-11-23T09:15:30.123456789+01:00"},
	{"time as a number", "bind", "time", json.Number("1700000000000000000")},
	{"month 13", "bind", "time", "2026-13-23T08:15:30.123456789Z"},
	{"since in seconds", "lost", "since", "2026-11-23T08:15:29Z"},
	{"creation time as a number", "connect", "client.process.creation.time", json.Number("17")},

	{"pid as a string", "connect", "client.process.pid", "9001"},
	{"pid zero", "connect", "client.process.pid", json.Number("0")},
	{"user id as a number", "connect", "client.process.user.id", json.Number("1000")},
	{"port as a string", "bind", "port", "49342"},
	{"port zero as a stand-in", "bind", "port", json.Number("0")},
	{"port too large", "connect", "client.port", json.Number("65536")},
	{"requested port negative", "bind", "requested.port", json.Number("-1")},
	{"netns as a string", "bind", "netns", "4026531840"},
	{"id as a number", "bind", "id", json.Number("1")},
	{"id empty", "bind", "id", ""},
	{"fractional duration", "connect", "duration_ns", json.Number("41000.5")},
	{"negative duration", "connect", "duration_ns", json.Number("-1")},
	{"fractional bytes", "close", "bytes.client_to_server", json.Number("0.5")},
	{"ephemeral as a string", "bind", "ephemeral", "true"},
	{"ephemeral on failure", "bind refused", "ephemeral", true},
	{"preexisting false", "listen", "preexisting", false},
	{"self_excluded false", "start", "self_excluded", false},
	{"requested empty", "bind", "requested", map[string]any{}},
	{"executable empty", "connect", "client.process.executable", map[string]any{}},
	{"process empty in a summary", "summary", "client.process", map[string]any{}},
	{"last_listener empty", "connect refused", "last_listener", map[string]any{}},
	{"nearby empty", "connect refused", "nearby", []any{}},
	{"ancestors empty", "connect", "client.process.ancestors", []any{}},
	{"nine ancestors", "connect", "client.process.ancestors", slices.Repeat([]any{map[string]any{"pid": json.Number("1")}}, 9)},
	{"one holder of several", "listen exposed", "process.holders", []any{map[string]any{"pid": json.Number("901")}}},
	{"command line too long", "connect", "client.process.command_line", strings.Repeat("x", 1025)},
	{"user id a name", "connect", "client.process.user.id", "alice"},
	{"count of connections negative", "summary", "count", json.Number("-1")},
	{"count of an event as a string", "stop", "counts.bind", "3"},
	{"self false", "connect", "self", false},
	{"reset false", "close", "reset", false},
	{"accepted as a string", "close", "accepted", "false"},
	{"null for unknown", "connect", "client.process.owner", nil},
	{"empty string for unknown", "connect", "client.process.owner", ""},
	{"container as an id", "bind", "container", "4f1c0d2e"},
	{"transport as an object", "bind", "network.transport", map[string]any{"name": "tcp"}},
	{"schema version as a string", "start", "schema_version", "1"},
	{"schema version 2", "start", "schema_version", json.Number("2")},
	{"filters as a list", "start", "filters", []any{}},
	{"count of lost zero", "lost", "count", json.Number("0")},
	{"no retransmits written", "connect", "syn_retransmits", json.Number("0")},

	{"level unknown", "bind", "level", "debug"},
	{"event unknown", "bind", "event", "bound"},
	{"event in capitals", "bind", "event", "Bind"},
	{"outcome unknown", "connect", "outcome", "ok"},
	{"transport unknown", "bind", "network.transport", "sctp"},
	{"transport in capitals", "bind", "network.transport", "TCP"},
	{"network type unknown", "bind", "network.type", "inet"},
	{"exposure unknown", "listen", "exposure", "public"},
	{"reason unknown", "release", "reason", "killed"},
	{"attribution unknown", "listen", "process.attribution", "guess"},
	{"holder kind unknown", "bind held by a listener", "holder.kind", "client"},
	{"because unknown", "connect refused", "nearby.0.because", "port"},
	{"closed_by unknown", "close", "closed_by", "kernel"},
	{"hooks unknown", "start", "hooks", "auto"},
	{"counts of an unknown event", "stop", "counts.closes", json.Number("1")},
	{"errno as a number", "bind refused", "error.type", json.Number("13")},
	{"errno as text", "bind refused", "error.type", "permission denied"},
	{"errno in small letters", "bind refused", "error.type", "eacces"},
	{"signal as a number", "release by signal", "process.exit.signal", json.Number("9")},
	{"signal without SIG", "release by signal", "process.exit.signal", "KILL"},
	{"exit code of 256", "release by exit", "process.exit.code", json.Number("256")},
	{"exit with code and signal", "release by exit", "process.exit.signal", "SIGTERM"},
	{"boot id cut", "start", "boot_id", "3f2c1b0a"},
	{"address with a port", "bind", "address", "127.0.0.1:49342"},
	{"address mapped", "bind", "requested.address", "::ffff:127.0.0.1"},
	{"address a name", "connect", "server.address", "localhost"},
	{"address of the other family", "connect", "server.address", "::1"},
	{"client of the other family", "connect shared", "client.address", "127.0.0.1"},
	{"bound address of the other family", "bind", "address", "::1"},
	{"IPv6 server of IPv4", "connect shared", "server.address", "127.0.0.1"},
	{"IPv4 client of IPv6", "connect", "client.address", "::1"},
	{"network type of the other family", "listen", "network.type", "ipv6"},
	{"address with an octet of 256", "bind", "address", "127.0.0.256"},

	{"unknown field", "bind", "in_range", true},
	{"misspelt field", "close", "closedby", "client"},
	{"camel case field", "connect", "durationNs", json.Number("1")},
	{"flattened field", "start", "host_name", "box"},
	{"unknown field in network", "bind", "network.protocol", "http"},
	{"unknown field in process", "bind", "process.tid", json.Number("812")},
	{"unknown field in executable", "bind", "process.executable.hash", "00"},
	{"unknown field in ancestor", "bind", "process.ancestors.0.comm", "systemd"},
	{"unknown field in container", "bind", "container.image", "nginx"},
	{"unknown field in runtime", "bind", "container.runtime.version", "27"},
	{"unknown field in client", "connect", "client.netns", json.Number("1")},
	{"unknown field in holder", "bind held by a listener", "holder.id", "s1"},
	{"unknown field in peer", "bind held by a connection", "holder.peer.name", "x"},
	{"unknown field in last_listener", "connect refused", "last_listener.port", json.Number("1")},
	{"unknown field in nearby", "connect refused", "nearby.1.distance", json.Number("1")},
	{"unknown field in ephemeral_ports", "bind of a full range", "ephemeral_ports.free", json.Number("0")},
	{"unknown field in requested", "bind", "requested.family", "ipv4"},
	{"unknown field in accept_queue", "connect", "accept_queue.dropped", json.Number("0")},
	{"unknown field in bytes", "close", "bytes.total", json.Number("78")},
	{"unknown field in handshake", "summary", "handshake_ns.p95", json.Number("1")},
	{"unknown field in error", "bind refused", "error.message", "x"},
	{"unknown field in listener", "accept", "listener.port", json.Number("80")},
	{"unknown field in host", "start", "host.id", "x"},
	{"unknown field in exit", "release by exit", "process.exit.core", true},
	{"unknown field in holders", "connect with holders only", "server.holders.0.fd", json.Number("3")},

	{"bind with a field of listen", "bind", "backlog", json.Number("1")},
	{"bind with a field of release", "bind", "held_ns", json.Number("1")},
	{"bind renamed listen", "bind", "event", "listen"},
	{"listen renamed bind", "listen", "event", "bind"},
	{"listen with requested", "listen", "requested", map[string]any{"port": json.Number("0")}},
	{"connect with bytes", "connect", "bytes", map[string]any{"client_to_server": json.Number("1")}},
	{"connect renamed accept", "connect", "event", "accept"},
	{"close with self", "close", "self", true},
	{"accept with closed_by", "accept", "closed_by", "client"},
	{"connect with an address", "connect", "address", "127.0.0.1"},
	{"bind with a client", "bind", "client", map[string]any{}},
	{"summary with an id", "summary", "id", "x"},
	{"summary with a network type", "summary", "network.type", "ipv4"},
	{"summary with an address", "summary", "client.address", "127.0.0.1"},
	{"stop with hooks", "stop", "hooks", "fentry"},
	{"lost with a lost of stop", "lost", "lost", json.Number("1")},

	{"listen over udp", "listen", "network.transport", "udp"},
	{"accept over udp", "accept", "network.transport", "udp"},
	{"udp flow with bytes", "close udp", "bytes", map[string]any{"client_to_server": json.Number("1")}},
	{"udp flow with a handshake", "connect udp", "duration_ns", json.Number("1")},
	{"preexisting connect with a handshake", "connect preexisting", "duration_ns", json.Number("1")},
	{"preexisting bind with a request", "bind preexisting", "requested", map[string]any{"port": json.Number("0")}},
	{"failed connect without an errno", "connect preexisting", "outcome", "failure"},
	{"self of a failure", "connect refused", "self", true},
	{"bind without a port that asked for one", "bind without a port", "requested.port", json.Number("80")},
	{"bind without a port by the kernel's choice", "bind without a port", "ephemeral", true},
	{"exit without any reason", "release by exit", "reason", remove},
	{"last_listener's exit without any reason", "connect refused", "last_listener.reason", remove},
	{"udp summary with bytes", "summary", "network.transport", "udp"},
	{"v6only of ipv4", "bind", "v6only", false},
	{"holder of a success", "bind", "holder", map[string]any{"kind": "bound", "address": "::", "port": json.Number("1")}},
	{"holder where the error is another", "bind held by a listener", "error.type", "EACCES"},
	{"holder of port 0", "bind held by a listener", "requested.port", json.Number("0")},
	{"ephemeral_ports of a port asked for", "bind of a full range", "requested.port", json.Number("80")},
	{"ephemeral_ports of a port that it had", "listen without a free port", "port", json.Number("80")},
	{"ephemeral_ports of a refusal", "connect without a free port", "error.type", "EACCES"},
	{"range of three", "bind of a full range", "ephemeral_ports.range", []any{json.Number("1"), json.Number("2"), json.Number("3")}},
	{"whether in a range that is not told", "bind", "in_ephemeral_range", true},
	{"range of a failure", "bind held by a listener", "ephemeral_range", []any{json.Number("1"), json.Number("2")}},
	{"ephemeral of a number", "connect", "ephemeral", json.Number("1")},
	{"state of a listener", "bind held by a listener", "holder.state", "LISTEN"},
	{"expiry of a listener", "bind held by a listener", "holder.expires_in_ns", json.Number("1")},
	{"exit of a process that closed", "release", "process.exit", map[string]any{"code": json.Number("0")}},
	{"exit outside release", "bind", "process.exit", map[string]any{"code": json.Number("0")}},
	{"exit without its reason", "connect refused", "last_listener.reason", "close"},
	{"last_listener of a timeout", "connect timed out", "last_listener", map[string]any{"reason": "close"}},
	{"nearby of a success", "connect", "nearby", []any{map[string]any{"address": "::1", "port": json.Number("1"), "because": "family"}}},
	{"holders without shared", "connect shared", "server.process.attribution", "hook"},
	{"holders beside a process", "connect with holders only", "server.process", map[string]any{"pid": json.Number("1"), "attribution": "hook"}},
	{"holders of a client", "connect with holders only", "client.holders", []any{map[string]any{"pid": json.Number("1")}, map[string]any{"pid": json.Number("2")}}},
}
