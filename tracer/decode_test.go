// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/looptrace/looptrace/tracer/flow"
)

// TestWireLayout holds each Go struct that is cast onto a record against its C twin, as the
// compiler laid it out: field by field, in order, by offset and size.
func TestWireLayout(t *testing.T) {
	for _, tc := range []struct {
		c      string
		goType any
		fields [][2]string // C name, Go name
	}{
		{"event_header", flow.Header{}, [][2]string{{"time", "Time"}, {"kind", "Kind"}, {"flags", "Flags"}, {"netns", "Netns"}}},
		{"owner", flow.Owner{}, [][2]string{{"start", "Start"}, {"tgid", "PID"}, {"uid", "UID"}, {"thread", "Thread"}}},
		{"process_id", flow.ProcessID{}, [][2]string{{"start", "Start"}, {"tgid", "PID"}, {"uid", "UID"}}},
		{"sock_event", flow.SockEvent{}, [][2]string{
			{"h", "Header"},
			{"id", "ID"},
			{"since", "Since"},
			{"actor", "Actor"},
			{"addr", "Addr"},
			{"req_addr", "ReqAddr"},
			{"port", "Port"},
			{"req_port", "ReqPort"},
			{"proto", "Proto"},
			{"reason", "Reason"},
			{"error", "Error"},
			{"backlog", "Backlog"},
			{"exit_code", "ExitCode"},
			{"state", "State"},
			{"range_low", "RangeLow"},
			{"range_high", "RangeHigh"},
			{"pad", "_"},
		}},
		{"conn_event", flow.ConnEvent{}, [][2]string{
			{"h", "Header"},
			{"id", "ID"},
			{"started", "Started"},
			{"c2s_bytes", "C2S"},
			{"s2c_bytes", "S2C"},
			{"client", "Client"},
			{"server", "Server"},
			{"last", "Last"},
			{"server_sock", "ServerSock"},
			{"client_sock", "ClientSock"},
			{"client_addr", "ClientAddr"},
			{"server_addr", "ServerAddr"},
			{"client_port", "ClientPort"},
			{"server_port", "ServerPort"},
			{"proto", "Proto"},
			{"closer", "Closer"},
			{"error", "Error"},
			{"retransmits", "Retransmits"},
			{"queue_length", "QueueLength"},
			{"queue_limit", "QueueLimit"},
			{"thread", "Thread"},
		}},
		{"task_event", flow.TaskEvent{}, [][2]string{
			{"h", "Header"},
			{"task", "Task"},
			{"parent_start", "ParentStart"},
			{"parent_tgid", "ParentPID"},
			{"exit_code", "ExitCode"},
			{"comm", "Comm"},
		}},
		{"tally_key", flow.TallyKey{}, [][2]string{
			{"client", "Client"},
			{"server", "Server"},
			{"error", "Error"},
			{"port", "Port"},
			{"pad", "_"},
		}},
		{"tally", flow.Tally{}, [][2]string{
			{"count", "Count"},
			{"c2s_bytes", "C2S"},
			{"s2c_bytes", "S2C"},
			{"longest", "Longest"},
			{"first", "First"},
			{"last", "Last"},
			{"client", "Client"},
			{"server", "Server"},
			{"many_clients", "ManyClients"},
			{"many_servers", "ManyServers"},
			{"slots", "Slots"},
		}},
		{"held_row", flow.HeldRow{}, [][2]string{
			{"sock", "Sock"},
			{"id", "ID"},
			{"expires", "Expires"},
			{"jiffies", "Jiffies"},
			{"owner", "Owner"},
			{"since", "Since"},
			{"known", "Known"},
			{"local", "Local"},
			{"remote", "Remote"},
			{"lport", "LPort"},
			{"rport", "RPort"},
			{"proto", "Proto"},
			{"flags", "Flags"},
			{"netns", "Netns"},
			{"state", "State"},
		}},
		{"in_use_event", struct {
			S   flow.SockEvent
			Way flow.HeldRow
		}{}, [][2]string{
			{"s", "S"},
			{"way", "Way"},
		}},
		{"list_row", flow.ListRow{}, [][2]string{
			{"sock", "Sock"},
			{"inode", "Inode"},
			{"id", "ID"},
			{"owner", "Owner"},
			{"local", "Local"},
			{"remote", "Remote"},
			{"lport", "LPort"},
			{"rport", "RPort"},
			{"proto", "Proto"},
			{"flags", "Flags"},
			{"netns", "Netns"},
			{"state", "State"},
			{"backlog", "Backlog"},
			{"range_low", "RangeLow"},
			{"range_high", "RangeHigh"},
		}},
	} {
		t.Run(tc.c, func(t *testing.T) {
			var want, got []string
			c := cStruct(t, tc.c)
			for i, m := range c.Members {
				want = append(want, layout(goName(tc.fields, i, m.Name), uint(m.Offset.Bytes()), sizeOf(t, m.Type)))
			}
			typ := reflect.TypeOf(tc.goType)
			for i := range typ.NumField() {
				f := typ.Field(i)
				got = append(got, layout(f.Name, uint(f.Offset), uint(f.Type.Size())))
			}
			want, got = append(want, layout("size", 0, uint(c.Size))), append(got, layout("size", 0, uint(typ.Size())))
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("Go and C differ (-C +Go):\n%s", d)
			}
		})
	}
}

// TestExecLayout holds what execEvent reads by offset against struct exec_event.
func TestExecLayout(t *testing.T) {
	c := cStruct(t, "exec_event")
	var want []string
	for _, m := range c.Members {
		want = append(want, layout(m.Name, uint(m.Offset.Bytes()), sizeOf(t, m.Type)))
	}
	want = append(want, layout("size", 0, uint(c.Size)))
	got := []string{
		layout("t", 0, uint(taskSize)),
		layout("cgroup", uint(taskSize), 8),
		layout("args_len", uint(taskSize)+8, 2),
		layout("path_len", uint(taskSize)+10, 2),
		layout("cgroup_len", uint(taskSize)+12, 2),
		layout("path_cut", uint(taskSize)+14, 2),
		layout("pad", uint(taskSize)+16, 4),
		layout("args", uint(execHead), argsMax),
		layout("path", uint(execHead)+argsMax, pathBytes),
		layout("cgroup_path", uint(execHead)+argsMax+pathBytes, pathBytes),
		// The C compiler pads the end to eight bytes: execSize is what is read.
		layout("size", 0, uint(execSize+7)/8*8),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Go and C differ (-C +Go):\n%s", d)
	}
}

func layout(name string, offset, size uint) string {
	return fmt.Sprintf("%s at %d, %d bytes", name, offset, size)
}

// goName gives what the i-th field of the C struct is called in Go.
func goName(fields [][2]string, i int, c string) string {
	if i < len(fields) && fields[i][0] == c {
		return fields[i][1]
	}
	return "nothing for " + c
}

func cStruct(t *testing.T, name string) *btf.Struct {
	t.Helper()
	for _, spec := range objects(t) {
		var s *btf.Struct
		if spec.Types.TypeByName(name, &s) == nil {
			return s
		}
	}
	t.Fatalf("no object has a struct %s", name)
	return nil
}

func sizeOf(t *testing.T, typ btf.Type) uint {
	t.Helper()
	n, err := btf.Sizeof(typ)
	if err != nil {
		t.Fatal(err)
	}
	return uint(n)
}

// TestWireConstants holds the numbers that both sides write by hand against the C header: the
// object's BTF does not have enums that no type uses.
func TestWireConstants(t *testing.T) {
	header, err := os.ReadFile("../bpf/event.h")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		prefix string
		want   map[string]uint64
	}{
		{"KIND", map[string]uint64{
			"KIND_BIND": uint64(flow.KindBind), "KIND_LISTEN": uint64(flow.KindListen), "KIND_RELEASE": uint64(flow.KindRelease),
			"KIND_CONNECT": uint64(flow.KindConnect), "KIND_ACCEPT": uint64(flow.KindAccept), "KIND_CLOSE": uint64(flow.KindClose),
			"KIND_EXEC": uint64(flow.KindExec), "KIND_FORK": uint64(flow.KindFork), "KIND_EXIT": uint64(flow.KindExit),
			"KIND_RENAME": uint64(flow.KindRename), "KIND_REFUSED": uint64(flow.KindRefused),
			"KIND_RECEIVED": uint64(flow.KindReceived), "KIND_MOVED": uint64(flow.KindMoved), "KIND_PEER": uint64(flow.KindPeer),
		}},
		{"FLAG", map[string]uint64{
			"FLAG_EPHEMERAL": uint64(flow.FlagEphemeral), "FLAG_V6ONLY": uint64(flow.FlagV6Only), "FLAG_IMPLICIT": uint64(flow.FlagImplicit),
			"FLAG_REQUESTED": uint64(flow.FlagRequested), "FLAG_KEPT": uint64(flow.FlagKept), "FLAG_SELF": uint64(flow.FlagSelf),
			"FLAG_RESET": uint64(flow.FlagReset), "FLAG_ACCEPTED": uint64(flow.FlagAccepted), "FLAG_PREEXISTING": uint64(flow.FlagPreexisting),
			"FLAG_LIVE": uint64(flow.FlagLive), "FLAG_SERVER": uint64(flow.FlagServer), "FLAG_IPV6": uint64(flow.FlagIPv6),
			"FLAG_REUSE": uint64(flow.FlagReuse), "FLAG_REUSEPORT": uint64(flow.FlagReusePort),
			"FLAG_QUEUE": uint64(flow.FlagQueue), "FLAG_ENDING": uint64(flow.FlagEnding), "FLAG_ORPHAN": uint64(flow.FlagOrphan),
		}},
		{"CLOSER", map[string]uint64{
			"CLOSER_UNKNOWN": uint64(flow.CloserUnknown), "CLOSER_CLIENT": uint64(flow.CloserClient), "CLOSER_SERVER": uint64(flow.CloserServer),
		}},
		{"REASON", map[string]uint64{
			"REASON_UNKNOWN": uint64(flow.ReasonUnknown), "REASON_CLOSE": uint64(flow.ReasonClose),
			"REASON_EXIT": uint64(flow.ReasonExit), "REASON_SHUTDOWN": uint64(flow.ReasonShutdown),
		}},
		{"COUNTERS", map[string]uint64{"COUNTERS": uint64(len(places))}},
	} {
		t.Run(tc.prefix, func(t *testing.T) {
			if d := cmp.Diff(tc.want, enumerators(header, tc.prefix)); d != "" {
				t.Errorf("Go and C differ (-Go +C):\n%s", d)
			}
		})
	}
}

var enumerator = regexp.MustCompile(`\b([A-Z]+)(_\w+)? = (\d+)(?: << (\d+))?\b`)

// enumerators reads NAME = n and NAME = n << m off a C header.
func enumerators(header []byte, prefix string) map[string]uint64 {
	found := map[string]uint64{}
	for _, m := range enumerator.FindAllStringSubmatch(string(header), -1) {
		if m[1] != prefix {
			continue
		}
		n, _ := strconv.ParseUint(m[3], 10, 64) // \d+
		shift, _ := strconv.ParseUint(m[4], 10, 64)
		found[m[1]+m[2]] = n << shift
	}
	return found
}

// What the kernel side sends, as bytes.

func raw[T any](ev *T) []byte {
	return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(ev)), unsafe.Sizeof(*ev)))
}

var loopback = netip.MustParseAddr("127.0.0.1").As16()

func header(kind flow.Kind, at uint64) flow.Header {
	return flow.Header{Time: at, Kind: kind, Netns: 4026531840}
}

func sockRecord(kind flow.Kind, at uint64) []byte {
	return raw(&flow.SockEvent{
		Header: header(kind, at), ID: 1, Actor: flow.Owner{Start: 5e9, PID: 100, UID: 1000}, Addr: loopback,
		ReqAddr: loopback, Port: 8080, ReqPort: 8080, Proto: flow.TCP, Backlog: 128, Reason: flow.ReasonClose,
	})
}

func connRecord(kind flow.Kind, at uint64) []byte {
	return raw(&flow.ConnEvent{
		Header: header(kind, at), ID: 7, Started: at - 1e6, Client: flow.ProcessID{Start: 6e9, PID: 101, UID: 1000},
		Server: flow.ProcessID{Start: 5e9, PID: 100, UID: 1000}, ClientAddr: loopback, ServerAddr: loopback, ClientPort: 40000, ServerPort: 8080, Proto: flow.TCP,
	})
}

func flowRecord(kind flow.Kind, at uint64) []byte {
	return raw(&flow.ConnEvent{
		Header: header(kind, at), ID: 8, Client: flow.ProcessID{Start: 6e9, PID: 101, UID: 1000}, ServerSock: 1, ClientSock: 1,
		ClientAddr: loopback, ServerAddr: loopback, ClientPort: 40000, ServerPort: 53, Proto: flow.UDP, Error: 111,
	})
}

func taskRecord(kind flow.Kind, at uint64) []byte {
	ev := &flow.TaskEvent{Header: header(kind, at), Task: flow.ProcessID{Start: 6e9, PID: 101, UID: 1000}, ParentStart: 5e9, ParentPID: 100}
	copy(ev.Comm[:], "curl")
	return raw(ev)
}

// execRecord has its lengths as they are given, whatever is in the buffers.
func execRecord(args, path, cgroup string, lens ...uint16) []byte {
	b := append(taskRecord(flow.KindExec, 10e9), make([]byte, execSize-taskSize)...)
	if lens == nil {
		lens = []uint16{uint16(len(args)), uint16(len(path)), uint16(len(cgroup)), 0}
	}
	for i, n := range lens {
		binary.NativeEndian.PutUint16(b[taskSize+8+2*i:], n)
	}
	copy(b[execHead:execHead+argsMax], args)
	copy(b[execHead+argsMax:execHead+argsMax+pathBytes], path)
	copy(b[execHead+argsMax+pathBytes:], cgroup)
	return b
}

func newTable() *flow.Table {
	return flow.New(flow.Config{Emit: func(*flow.Record) {}, BootTime: time.Unix(0, 0)})
}

// feed gives a record to a tracer that has no kernel behind it.
func feed(table *flow.Table, raw []byte) error { return (&Tracer{table: table}).observe(raw) }

func TestObserveMalformed(t *testing.T) {
	cut := func(b []byte, n int) []byte { return b[:n] }
	for _, tc := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"nothing", nil, errShort},
		{"empty", []byte{}, errShort},
		{"one byte", []byte{1}, errShort},
		{"a header but one byte", cut(sockRecord(flow.KindBind, 1), headerSize-1), errShort},
		{"a header alone", cut(sockRecord(flow.KindBind, 1), headerSize), errShort},
		{"bind but one byte", cut(sockRecord(flow.KindBind, 1), sockSize-1), errShort},
		{"bind", sockRecord(flow.KindBind, 1), nil},
		{"listen but one byte", cut(sockRecord(flow.KindListen, 1), sockSize-1), errShort},
		{"listen", sockRecord(flow.KindListen, 1), nil},
		{"release but one byte", cut(sockRecord(flow.KindRelease, 1), sockSize-1), errShort},
		{"release", sockRecord(flow.KindRelease, 1), nil},
		{"connect but one byte", cut(connRecord(flow.KindConnect, 1), connSize-1), errShort},
		{"connect as long as a bind", cut(connRecord(flow.KindConnect, 1), sockSize), errShort},
		{"connect", connRecord(flow.KindConnect, 1), nil},
		{"accept but one byte", cut(connRecord(flow.KindAccept, 1), connSize-1), errShort},
		{"accept", connRecord(flow.KindAccept, 1), nil},
		{"close but one byte", cut(connRecord(flow.KindClose, 1), connSize-1), errShort},
		{"close", connRecord(flow.KindClose, 1), nil},
		{"refused but one byte", cut(flowRecord(flow.KindRefused, 1), connSize-1), errShort},
		{"refused", flowRecord(flow.KindRefused, 1), nil},
		{"fork but one byte", cut(taskRecord(flow.KindFork, 1), taskSize-1), errShort},
		{"fork", taskRecord(flow.KindFork, 1), nil},
		{"exit but one byte", cut(taskRecord(flow.KindExit, 1), taskSize-1), errShort},
		{"exit", taskRecord(flow.KindExit, 1), nil},
		{"rename but one byte", cut(taskRecord(flow.KindRename, 1), taskSize-1), errShort},
		{"rename", taskRecord(flow.KindRename, 1), nil},
		{"received", taskRecord(flow.KindReceived, 1), nil},
		{"peer but one byte", cut(sockRecord(flow.KindPeer, 1), sockSize-1), errShort},
		{"peer", sockRecord(flow.KindPeer, 1), nil},
		{"exec as long as a fork", cut(execRecord("", "", ""), taskSize), errShort},
		{"exec but one byte", cut(execRecord("", "", ""), execSize-1), errShort},
		{"exec", execRecord("", "", ""), nil},
		{"exec whose lengths are beyond its buffers", execRecord("a", "a", "a", 65535, 65535, 65535, 0), nil},
		{"longer than its kind", append(connRecord(flow.KindConnect, 1), 1, 2, 3), nil},
		{"kind 0", sockRecord(0, 1), errKind},
		{"the next kind", sockRecord(flow.KindPeer+1, 1), errKind},
		{"the last kind", sockRecord(65535, 1), errKind},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := feed(newTable(), tc.raw); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestExecEvent(t *testing.T) {
	for _, tc := range []struct {
		name               string
		raw                []byte
		args, path, cgroup string
	}{
		{"all", execRecord("curl\x00-s\x00", "curl\x00bin\x00usr\x00", "a.service\x00system.slice\x00"), "curl\x00-s\x00", "/usr/bin/curl", "/system.slice/a.service"},
		{"no arguments", execRecord("", "curl\x00", "a\x00"), "", "/curl", "/a"},
		{"nothing could be read", execRecord("", "", ""), "", "", ""},
		{"a path that was cut is left out", execRecord("a", "leaf\x00deep\x00", "a\x00", 1, 10, 2, 1), "a", "", "/a"},
		{"lengths say how much counts", execRecord("curl\x00-s\x00", "curl\x00bin\x00usr\x00", "a\x00b\x00", 5, 9, 2, 0), "curl\x00", "/bin/curl", "/a"},
		{"arguments as long as they may be", execRecord(string(bytes.Repeat([]byte{'x'}, argsMax)), "a\x00", "a\x00"), string(bytes.Repeat([]byte{'x'}, argsMax)), "/a", "/a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ev, err := execEvent(tc.raw)
			if err != nil {
				t.Fatal(err)
			}
			want := [...]string{tc.args, tc.path, tc.cgroup}
			if d := cmp.Diff(want, [...]string{string(ev.Args), ev.Path, ev.Cgroup}); d != "" {
				t.Errorf("arguments, path, cgroup (-want +got):\n%s", d)
			}
		})
	}
}

// TestObserveUnaligned: the ring's records are aligned, but nothing may hang on it.
func TestObserveUnaligned(t *testing.T) {
	for offset := range 9 {
		var got []string
		table := flow.New(flow.Config{BootTime: time.Unix(0, 0), Emit: func(r *flow.Record) {
			got = append(got, fmt.Sprint(r.Event, " ", r.ID, " ", r.Port))
		}})
		for _, rec := range [][]byte{sockRecord(flow.KindBind, 1e9), sockRecord(flow.KindListen, 1e9), connRecord(flow.KindConnect, 2e9), execRecord("a", "a\x00", "")} {
			moved := append(make([]byte, offset, offset+len(rec)), rec...)[offset:]
			if err := feed(table, moved); err != nil {
				t.Fatalf("offset %d: %v", offset, err)
			}
		}
		if d := cmp.Diff([]string{"bind 1 8080", "listen 1 8080", "connect 7 8080"}, got); d != "" {
			t.Errorf("offset %d (-want +got):\n%s", offset, d)
		}
	}
}

// TestObserveKeepsNothing: the reader uses a record's bytes again for the next one.
func TestObserveKeepsNothing(t *testing.T) {
	var got []string
	table := flow.New(flow.Config{BootTime: time.Unix(0, 0), Emit: func(r *flow.Record) {
		p := r.Sock.Process.P
		got = append(got, fmt.Sprintf("%s %s %s", p.Comm, p.ExePath, p.CommandLine))
	}})
	exec := execRecord("curl\x00-s\x00", "curl\x00bin\x00", "")
	bind := raw(&flow.SockEvent{Header: header(flow.KindBind, 11e9), ID: 1, Actor: flow.Owner{Start: 6e9, PID: 101}, Addr: loopback, Port: 80, Proto: flow.TCP})
	if err := feed(table, exec); err != nil {
		t.Fatal(err)
	}
	for i := range exec {
		exec[i] = 0xff
	}
	if err := feed(table, bind); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"curl /bin/curl curl -s"}, got); d != "" {
		t.Errorf("process (-want +got):\n%s", d)
	}
}

// lifetime is a connection's three events, whose times move on with each round.
func lifetime() (records [][]byte, next func()) {
	records = [][]byte{connRecord(flow.KindConnect, 20e9), connRecord(flow.KindAccept, 21e9), connRecord(flow.KindClose, 22e9)}
	(*flow.ConnEvent)(unsafe.Pointer(&records[0][0])).Server = flow.ProcessID{}
	return records, func() {
		for _, r := range records {
			(*flow.Header)(unsafe.Pointer(&r[0])).Time += 3e9
		}
	}
}

func mustObserve(tb testing.TB, table *flow.Table, records ...[]byte) {
	for _, r := range records {
		if err := feed(table, r); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestDecodeAllocs(t *testing.T) {
	table := newTable()
	mustObserve(t, table, taskRecord(flow.KindFork, 1), sockRecord(flow.KindBind, 1e9), sockRecord(flow.KindListen, 1e9))
	records, next := lifetime()
	stray := flowRecord(flow.KindRefused, 1e9) // of a flow that the table does not know: decoded, and no more
	for _, tc := range []struct {
		name string
		run  func()
	}{
		{"decode", func() { mustObserve(t, table, stray) }},
		{"decode and observe a connection", func() { next(); mustObserve(t, table, records...) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.run()
			if n := testing.AllocsPerRun(1000, tc.run); n != 0 {
				t.Errorf("%v allocations, want none", n)
			}
		})
	}
}

// FuzzObserve feeds bytes as the ring would, one record after another, and as the rows of an
// iterator. Anything may be an error; nothing may panic.
func FuzzObserve(f *testing.F) {
	story := [][]byte{
		execRecord("srv\x00", "srv\x00bin\x00", "a\x00"), taskRecord(flow.KindFork, 1e9), taskRecord(flow.KindRename, 2e9),
		sockRecord(flow.KindBind, 3e9), sockRecord(flow.KindListen, 3e9),
		connRecord(flow.KindConnect, 4e9), connRecord(flow.KindAccept, 5e9), connRecord(flow.KindClose, 6e9),
		flowRecord(flow.KindConnect, 7e9), flowRecord(flow.KindRefused, 7e9),
		sockRecord(flow.KindRelease, 8e9), taskRecord(flow.KindExit, 9e9),
	}
	for _, r := range story {
		f.Add(r, false)
	}
	f.Add(bytes.Join(story, nil), false)
	f.Add(bytes.Join(story, nil), true)
	f.Add(execRecord("a", "b", "c", 65535, 65535, 65535, 65535), false)
	f.Fuzz(func(t *testing.T, data []byte, rows bool) {
		table := newTable()
		for n := 0; len(data) > 0; data = data[n:] {
			n = min(recordSize(data), len(data))
			_ = feed(table, data[:n]) // an error is an answer
			if !rows {
				continue
			}
			if ev, err := sockEvent(bytes.Clone(data[:n])); err == nil {
				table.SnapshotSock(ev)
			}
			if ev, err := connEvent(bytes.Clone(data[:n])); err == nil {
				table.SnapshotConn(ev)
			}
		}
		table.FinishSnapshot(true)
		table.Drain()
	})
}

// recordSize gives how long the record is that begins here, by its kind.
func recordSize(b []byte) int {
	if len(b) < headerSize {
		return len(b)
	}
	switch flow.Kind(binary.NativeEndian.Uint16(b[8:])) {
	case flow.KindBind, flow.KindListen, flow.KindRelease:
		return sockSize
	case flow.KindExec:
		return execSize
	case flow.KindFork, flow.KindExit, flow.KindRename, flow.KindReceived:
		return taskSize
	}
	return connSize
}

func BenchmarkDecode(b *testing.B) {
	for _, bm := range []struct {
		name string
		raw  []byte
	}{
		{"connection", flowRecord(flow.KindRefused, 1e9)}, // a stray one: the table does nothing with it
		{"exec", execRecord("curl\x00-s\x00http://127.0.0.1:8080/\x00", "curl\x00bin\x00usr\x00", "a.service\x00system.slice\x00")},
	} {
		b.Run(bm.name, func(b *testing.B) {
			table := newTable()
			b.SetBytes(int64(len(bm.raw)))
			b.ReportAllocs()
			for b.Loop() {
				mustObserve(b, table, bm.raw)
			}
		})
	}
	b.Run("and observe a connection", func(b *testing.B) {
		table := newTable()
		mustObserve(b, table, sockRecord(flow.KindBind, 1e9), sockRecord(flow.KindListen, 1e9))
		records, next := lifetime()
		b.ReportAllocs()
		for b.Loop() {
			next()
			mustObserve(b, table, records...)
		}
	})
}
