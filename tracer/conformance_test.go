// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"encoding/json"
	cmdline "flag"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var update = cmdline.Bool("update", false, "rewrite docs/conformance.md")

// scene is a small real program and everything that must be recorded of it: no more, no less.
type scene struct {
	name string
	does string // for a person
	// early scenes begin before tracing does: they call stage.trace themselves, and have a tracer of
	// their own, which reports what was there before.
	early bool
	play  func(s *stage)
	show  []string // fields to compare beside the usual ones
	want  []string // a row for each record, in the order of their time
	// folded rows are counted: those of many that happen at once are alike, and in no order.
	folded bool
	// needs is what a kernel must have for the scene, by form; Auto is every form.
	needs map[Form]need
	// differs says, for a form that cannot see all of it, what is recorded instead, and why.
	differs map[Form]difference
}

// need is the first kernel that has something.
type need struct{ since, what string }

type difference struct {
	want []string
	why  string
}

// usual are the fields that every row shows where the record has them. A process is shown by its
// name in the scene, with how it is known unless that is by its own call.
var usual = []string{
	"error.type", "preexisting", "process", "address", "port", "reason", "process.exit.code", "process.exit.signal",
	"client.process", "server.process", "server.holders", "listener.process", "self", "closed_by", "reset", "accepted",
}

// allScenes are those of the conformance_*_test.go files, in the order of the table.
func allScenes() []scene {
	return slices.Concat(holderScenes(), refusalScenes(), handoverScenes(), processScenes(), connectionScenes(),
		portScenes(), udpScenes(), uringScenes(), snapshotScenes(), reuseScenes(), peerScenes())
}

// TestKernelScenes plays each scene in a network namespace of its own. Those that need nothing else
// share a tracer, as programs on a host do: what one leaves behind must not show in the next.
func TestKernelScenes(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		shared := start(t, Config{Hooks: form})
		for _, sc := range allScenes() {
			t.Run(sc.name, func(t *testing.T) { sc.run(t, form, shared) })
		}
	})
}

func (sc *scene) run(t *testing.T, form Form, shared *trace) {
	for _, f := range []Form{Auto, form} {
		if n, ok := sc.needs[f]; ok {
			needKernel(t, n.since, n.what)
		}
	}
	s := newStage(t, shared.t)
	s.shared = shared
	if sc.early {
		s.trace = func() { s.shared = start(t, Config{Hooks: form, Snapshot: true}) }
	}
	sc.play(s)
	all := s.recorded(s.shared)
	s.lawful(all, maxDisorder)
	s.truthful(all)
	want := sc.want
	if d, ok := sc.differs[form]; ok {
		want = d.want
	}
	rows := s.rows(all, append(slices.Clone(usual), sc.show...))
	if sc.folded {
		rows = fold(rows)
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Errorf("%s (-want +got):\n%s", sc.does, d)
	}
}

// recorded gives the scene's records, once all are there. Some wait before they go out: a connection
// to a listener that others could hide, and a failure that only the kernel's tables explain. When the
// last of each kind is out, every other is.
func (s *stage) recorded(tr *trace) []record {
	s.t.Helper()
	settle(s.t)
	s.sysctl("ip_local_port_range", "32768 60999") // the kernel's own, which the scene may have used up
	last := s.actor("last")
	last.do("socket l tcp4")
	last.do("bind l 0.0.0.0:0")
	last.do("listen l 1")
	last.do("socket c tcp4")
	last.do("connect c %s", on("127.0.0.1", last.addr("l")))
	last.do("socket x tcp4")
	last.fail(unix.EADDRINUSE, "bind x %s", last.addr("c"))
	var all []record
	is := func(r record, event string) bool {
		return r.at("event") == event && (r.number("process.pid") == last.pid || r.number("client.process.pid") == last.pid)
	}
	eventually(s.t, "the last records", func() bool {
		// The number of a namespace may have been that of another, which is gone.
		all = slices.DeleteFunc(tr.rec.records(s.t), func(r record) bool {
			return !s.netns[r.number("netns")] || r.time().Before(s.began)
		})
		out := func(event string) bool {
			return slices.ContainsFunc(all, func(r record) bool { return is(r, event) && (event == "connect") != (r.at("outcome") == "failure") })
		}
		return out("connect") && out("bind")
	})
	for _, r := range all[:min(len(all), maxValidated)] {
		if err := schema().Validate(plain(r)); err != nil {
			s.t.Errorf("%v\n%v", r, err)
		}
	}
	final := -1
	for i, r := range all {
		if r.number("process.pid") == s.lastOf {
			final = i
		}
	}
	var list []record
	for i, r := range all {
		if !is(r, "bind") && !is(r, "listen") && !is(r, "connect") && (r.number("process.pid") != s.lastOf || i == final) {
			list = append(list, r)
		}
	}
	return list
}

// rows gives the records by these fields, in the order of their time: those of different sockets
// may come up to 100 ms out of it.
func (s *stage) rows(all []record, fields []string) []string {
	ordered := slices.Clone(all)
	sort.SliceStable(ordered, func(i, j int) bool { return ordered[i].time().Before(ordered[j].time()) })
	var rows []string
	for _, r := range ordered {
		row := fmt.Sprint(r.at("event"))
		for _, f := range fields {
			if v := s.value(f, r.at(f)); v != "" {
				row += " " + f + "=" + v
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// maxValidated is how many records of a scene are held against the schema, which takes a millisecond
// for each: in scenes with thousands they are alike.
const maxValidated = 500

// fold counts equal rows, in the order in which each came first.
func fold(rows []string) []string {
	counts := map[string]int{}
	var order []string
	for _, r := range rows {
		if counts[r]++; counts[r] == 1 {
			order = append(order, r)
		}
	}
	for i, r := range order {
		order[i] = fmt.Sprintf("%d × %s", counts[r], r)
	}
	return order
}

func (r record) time() time.Time {
	at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(r.at("time")))
	if err != nil {
		panic(err)
	}
	return at
}

// value shows a field by the names that the scene has for processes and ports; "" where it is absent.
func (s *stage) value(field string, v any) string {
	last := field[strings.LastIndex(field, ".")+1:]
	switch v := v.(type) {
	case nil:
		return ""
	case map[string]any:
		return s.object(last, v)
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, s.value(last+".item", e))
		}
		sort.Strings(parts)
		return "[" + strings.Join(parts, ", ") + "]"
	case json.Number:
		if name, ok := s.ports[v.String()]; ok && strings.HasSuffix(field, "port") {
			return name
		}
		return v.String()
	}
	return fmt.Sprint(v)
}

func (s *stage) object(field string, v map[string]any) string {
	if v["pid"] != nil {
		name := s.nameOf(v)
		switch v["attribution"] {
		case "hook", nil:
			return name
		case "shared":
			return name + "(shared" + s.value("holders", v["holders"]) + ")"
		}
		return name + "(" + fmt.Sprint(v["attribution"]) + ")"
	}
	if id, ok := v["id"].(string); ok {
		return "container " + id[:min(len(id), 12)]
	}
	var parts []string
	for _, key := range []string{"kind", "address", "port", "process", "container", "because", "count", "state", "reason", "exit"} {
		if text := s.value(key, v[key]); text != "" {
			parts = append(parts, text)
		}
	}
	if len(parts) == 0 {
		return fmt.Sprintf("%s?%v", field, v)
	}
	return strings.Join(parts, " ")
}

// nameOf gives the scene's name for a process: the role that it had, told by number and start, and
// across execs by what the record says of its program.
func (s *stage) nameOf(v map[string]any) string {
	roles := s.rolesOf(v)
	for _, r := range slices.Backward(roles) {
		if r.is(v) {
			return r.name
		}
	}
	if len(roles) > 0 {
		return "(wrong facts) " + roles[0].name
	}
	return fmt.Sprintf("(pid %v)", v["pid"])
}

// maxSkew is how far creation.time may be from what /proc says: a clock tick, and the drift that
// the clock of records allows itself.
const maxSkew = clockTick*time.Nanosecond + 2*maxDrift

func (s *stage) rolesOf(v map[string]any) []*role {
	born, err := time.Parse(time.RFC3339Nano, fmt.Sprint(record(v).at("creation.time")))
	if err != nil {
		return nil
	}
	var list []*role
	for _, r := range s.roles {
		if skew := born.Sub(r.born); fmt.Sprint(r.pid) == fmt.Sprint(v["pid"]) && skew > -maxSkew && skew < maxSkew {
			list = append(list, r)
		}
	}
	return list
}

// is says whether a record's process has the facts of a role: all of them, or those of a process
// that an earlier record gave in full.
func (r *role) is(v map[string]any) bool {
	p := record(v)
	name := r.exe[strings.LastIndex(r.exe, "/")+1:]
	if p.at("comm") != r.comm || p.at("executable.name") != name {
		return false
	}
	if p.at("command_line") == nil {
		return true
	}
	return p.at("command_line") == r.args && p.at("executable.path") == r.exe &&
		p.number("parent_pid") == r.parent && p.at("user.id") == strconv.Itoa(r.uid)
}

// maxDisorder is how late a record may be after others: the contract's 100 ms, and as much again for a
// reader that waits for a busy machine.
const maxDisorder = 200 * time.Millisecond

// lawful holds records against the contract: their order, and that a process which one record of a
// connection gave in full is cut in its later ones, and only then.
func (s *stage) lawful(all []record, disorder time.Duration) {
	s.t.Helper()
	rank := map[string]int{"bind": 1, "listen": 2, "release": 3, "connect": 4, "accept": 5, "close": 6}
	stage := map[string]int{}
	given := map[string]map[string]bool{}
	var latest time.Time
	for _, r := range all {
		id, event := fmt.Sprint(r.at("id")), fmt.Sprint(r.at("event"))
		if event == "bind" && r.at("outcome") == "failure" && stage[id] != 0 {
			continue // a second bind() of a socket that has a port
		}
		if n := rank[event]; n <= stage[id] && (n != 1 || stage[id] != 3) || stage[id] >= 4 != (n >= 4) && stage[id] != 0 {
			s.t.Errorf("%s of %s comes after rank %d: %v", event, id, stage[id], r)
		}
		stage[id] = rank[event]
		if at := r.time(); at.After(latest) {
			latest = at
		} else if latest.Sub(at) > disorder {
			s.t.Errorf("%s at %v is %v late: %v", event, at, latest.Sub(at), r)
		}
		if given[id] == nil {
			given[id] = map[string]bool{}
		}
		var full []string
		for _, at := range []string{"client.process", "server.process", "listener.process"} {
			v, ok := r.at(at).(map[string]any)
			if !ok || r.at("preexisting") != nil {
				continue
			}
			pid := fmt.Sprint(v["pid"])
			if short := v["command_line"] == nil; short != given[id][pid] {
				s.t.Errorf("%s of %s: %s %s cut: %v, given before: %v", event, id, at, pid, short, given[id][pid])
			}
			full = append(full, pid)
		}
		for _, pid := range full {
			given[id][pid] = true
		}
	}
}

// truthful holds every process of every record, however deep, against what the stage knows of it.
func (s *stage) truthful(all []record) {
	s.t.Helper()
	for _, r := range all {
		for _, v := range processesIn(map[string]any(r)) {
			roles := s.rolesOf(v)
			if len(roles) == 0 {
				s.t.Errorf("the scene has no process %v, named by: %v", v["pid"], r.at("message"))
				continue
			}
			if !slices.ContainsFunc(roles, func(r *role) bool { return r.is(v) }) {
				s.t.Errorf("wrong facts: %v\nof: %+v\nin: %v", v, *roles[0], r.at("message"))
			}
		}
	}
}

// processesIn gives every process object inside a value; ancestors have a name and a number only.
func processesIn(v any) []map[string]any {
	var list []map[string]any
	switch v := v.(type) {
	case map[string]any:
		if v["pid"] != nil {
			list = append(list, v)
		}
		for key, sub := range v {
			if key != "ancestors" {
				list = append(list, processesIn(sub)...)
			}
		}
	case []any:
		for _, sub := range v {
			list = append(list, processesIn(sub)...)
		}
	}
	return list
}
