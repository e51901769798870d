// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer/flow"
)

const nsEnv = "LOOPTRACE_TEST_NETNS"

// The main thread stays TestMain's: /proc/self is its, and a scene's thread enters a namespace of its own
// for good.
func init() { runtime.LockOSThread() }

// TestMain runs the kernel tests in a network namespace of their own: what the host does on its
// loopback is not theirs, and counts are exact.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(actorEnv) != "":
		act()
	case os.Geteuid() != 0 || os.Getenv(nsEnv) != "":
		if os.Getenv(nsEnv) != "" {
			if err := loopbackUp(); err != nil {
				fmt.Fprintln(os.Stderr, "bring lo up:", err)
				os.Exit(1)
			}
		}
		os.Exit(m.Run())
	default:
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), nsEnv+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
		if err := cmd.Run(); err != nil {
			os.Exit(1)
		}
	}
}

// loopbackUp sets IFF_UP on lo (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// needRoot: kernel tests skip without root on a developer's machine, and fail in CI.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("kernel tests need root")
	}
	t.Skip("kernel tests need root")
}

// record is a line of JSON, looked at by paths such as "client.process.pid".
type record map[string]any

func (r record) at(path string) any {
	var v any = map[string]any(r)
	for _, key := range strings.Split(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

// number gives an integer field, -1 where it is absent.
func (r record) number(path string) int {
	n, ok := r.at(path).(json.Number)
	if !ok {
		return -1
	}
	v, err := n.Int64()
	if err != nil {
		return -1
	}
	return int(v)
}

// pick gives the fields at these paths, as text.
func (r record) pick(paths ...string) string {
	var parts []string
	for _, p := range paths {
		parts = append(parts, fmt.Sprint(r.at(p)))
	}
	return strings.Join(parts, " ")
}

// recorder is a sink that keeps what the JSON sink writes.
type recorder struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	json *output.JSON
	done []record // parsed so far
}

func newRecorder() *recorder {
	r := &recorder{}
	r.json = output.NewJSON(&r.buf)
	return r
}

func (r *recorder) Write(rec *flow.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.json.Write(rec)
}

func (r *recorder) Flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.json.Flush()
}

func (r *recorder) records(t *testing.T) []record {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range bytes.Split(bytes.TrimSpace(r.buf.Next(r.buf.Len())), []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		rec := record{}
		if err := d.Decode(&rec); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		r.done = append(r.done, rec)
	}
	return slices.Clone(r.done)
}

// trace is a run of the tracer under a test.
type trace struct {
	t    *testing.T
	rec  *recorder
	stop func()

	missing []string             // what this form cannot see on this kernel
	maps    map[string]*ebpf.Map // of the kernel side
	mayLose bool                 // the scene looks at losses itself
	lost    uint64
}

// hookForms are the forms that this host must have tested: those that doctor says it has.
var hookForms = sync.OnceValue(func() []Form {
	var forms []Form
	for _, f := range Diagnose().Forms {
		if f.Available {
			forms = append(forms, f.Form)
		}
	}
	return forms
})

// formsEnv names the forms of an emulated guest, so that one which should be there fails where it is not.
const formsEnv = "LOOPTRACE_FORMS"

// inGuest says whether this is a guest of .ci/kernels: every call takes ten to fifty times its time.
func inGuest() bool { return os.Getenv(formsEnv) != "" }

// needKernel skips a test on kernels older than a version, given as "6.3". In guests, only that may skip.
func needKernel(t *testing.T, version, what string) {
	t.Helper()
	var have, want [2]int
	if _, err := fmt.Sscanf(kernelRelease(), "%d.%d", &have[0], &have[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(version, "%d.%d", &want[0], &want[1]); err != nil {
		t.Fatal(err)
	}
	if slices.Compare(have[:], want[:]) < 0 {
		t.Skipf("needs Linux %s: %s", version, what)
	}
}

// eachForm runs a scene with every hook form that this kernel has.
func eachForm(t *testing.T, scene func(t *testing.T, form Form)) {
	needRoot(t)
	forms := hookForms()
	if inGuest() {
		forms = nil
		for _, f := range strings.Split(os.Getenv(formsEnv), ",") {
			forms = append(forms, Form(f))
		}
	}
	if len(forms) == 0 {
		t.Fatal("no hook form works on this kernel")
	}
	for _, form := range forms {
		t.Run(string(form), func(t *testing.T) { scene(t, form) })
	}
}

// start traces this test's network namespace until stop.
func start(t *testing.T, cfg Config) *trace {
	t.Helper()
	return startWith(t, cfg, func(*Tracer) error { return nil })
}

// startWith lets prepare see the tracer before it runs.
func startWith(t *testing.T, cfg Config, prepare func(*Tracer) error) *trace {
	t.Helper()
	cfg.Version = "test"
	if inGuest() {
		cfg.MaxDoubt = max(cfg.MaxDoubt, 5*time.Second) // its tables take longer to walk than a record may wait elsewhere
	}
	tracer, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := prepare(tracer); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	tr := &trace{t: t, rec: newRecorder(), missing: tracer.hooks.missing, maps: tracer.hooks.coll.Maps}
	done := make(chan error, 1)
	go func() { done <- tracer.Run(ctx, tr.rec) }() // ends with ctx
	<-tracer.Ready()
	tr.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if tr.lost = tracer.Lost(); tr.lost != 0 && !tr.mayLose {
			lost := tr.lost
			t.Errorf("lost %d events: %v", lost, of(tr.rec.records(t), "lost"))
		}
		if err := tracer.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(tr.stop)
	return tr
}

// finish stops tracing and gives the records of this namespace. Each of them obeys the schema, and
// those of tracing itself do.
func (tr *trace) finish() []record {
	tr.t.Helper()
	own := tr.finishUnchecked()
	ofTracing := slices.DeleteFunc(tr.rec.records(tr.t), func(r record) bool { return r.at("netns") != nil })
	for _, r := range slices.Concat(ofTracing, own) {
		if err := schema().Validate(plain(r)); err != nil {
			tr.t.Errorf("%v\n%v", r, err)
		}
	}
	return own
}

// finishUnchecked is for records that are held against others: the schema takes 20 ms a record in a guest.
func (tr *trace) finishUnchecked() []record {
	tr.t.Helper()
	settle(tr.t)
	tr.stop()
	return ownRecords(tr.t, tr.rec.records(tr.t))
}

// settle waits until no connection of this namespace is about to end: on a slow machine the last
// acknowledgement may be with ksoftirqd when close() has long returned, and its record is not out.
func settle(t *testing.T) {
	t.Helper()
	const finWait1, lastAck, closing = "04", "09", "0B" // include/net/tcp_states.h
	eventually(t, "connections that end", func() bool {
		for _, file := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
			text, err := os.ReadFile(file)
			if err != nil && !errors.Is(err, os.ErrNotExist) { // no IPv6
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				if f := strings.Fields(line); len(f) > 3 && slices.Contains([]string{finWait1, lastAck, closing}, f[3]) {
					return false
				}
			}
		}
		return true
	})
}

// ownRecords leaves out what the rest of the host does meanwhile.
func ownRecords(t *testing.T, all []record) []record {
	own := ownNetns(t)
	return slices.DeleteFunc(all, func(r record) bool { return r.number("netns") != own })
}

// plain gives a record as the schema library takes it.
func plain(r record) any { return map[string]any(r) }

var schema = sync.OnceValue(func() *jsonschema.Schema {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(output.Schema()))
	if err != nil {
		panic(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		panic(err)
	}
	return c.MustCompile("schema.json")
})

func ownNetns(t *testing.T) int {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	return int(st.Ino)
}

// of gives the records of one event.
func of(all []record, event string) []record {
	return slices.DeleteFunc(slices.Clone(all), func(r record) bool { return r.at("event") != event })
}

// wantRows compares what was recorded, field by field at these paths, with what must be.
func wantRows(t *testing.T, got []record, paths []string, want ...string) {
	t.Helper()
	var rows []string
	for _, r := range got {
		rows = append(rows, r.pick(paths...))
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Errorf("%v (-want +got):\n%s", paths, d)
	}
}

var (
	socketFields = []string{"event", "outcome", "port", "address", "process.pid", "error.type"}
	connFields   = []string{"event", "outcome", "client.process.pid", "server.process.pid", "server.port", "error.type"}
)

func TestKernelStory(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		tr := start(t, Config{Hooks: form})
		server, client, other := newActor(t), newActor(t), newActor(t)

		server.do("socket l tcp4")
		server.do("bind l 127.0.0.1:0")
		server.do("listen l 16")
		at := server.addr("l")
		client.do("socket c tcp4")
		client.do("connect c %s", at)
		server.do("accept l s")
		client.do("send c 100")
		server.do("recv s 100")
		server.do("send s 7")
		client.do("recv c 7")
		server.do("close s")
		client.do("recv c 1") // the FIN
		client.do("close c")
		other.do("socket x tcp4")
		other.fail(unix.EADDRINUSE, "bind x %s", at)
		server.kill()
		client.do("socket d tcp4")
		client.fail(unix.ECONNREFUSED, "connect d %s", at)

		all := tr.finish()
		p, s, c, o := at.Port(), server.pid, client.pid, other.pid
		wantRows(t, slices.DeleteFunc(slices.Clone(all), isConn), socketFields,
			fmt.Sprintf("bind success %d 127.0.0.1 %d <nil>", p, s),
			fmt.Sprintf("listen success %d 127.0.0.1 %d <nil>", p, s),
			fmt.Sprintf("bind failure %d 127.0.0.1 %d EADDRINUSE", p, o),
			fmt.Sprintf("release success %d 127.0.0.1 %d <nil>", p, s))
		wantRows(t, slices.DeleteFunc(slices.Clone(all), isSock), connFields,
			fmt.Sprintf("connect success %d %d %d <nil>", c, s, p),
			fmt.Sprintf("accept success %d %d %d <nil>", c, s, p),
			fmt.Sprintf("close success %d %d %d <nil>", c, s, p),
			fmt.Sprintf("connect failure %d <nil> %d ECONNREFUSED", c, p))

		bind := of(all, "bind")
		wantRows(t, bind, []string{"requested.port", "ephemeral", "in_ephemeral_range", "holder.kind", "holder.process.pid"},
			"0 true true <nil> <nil>", fmt.Sprintf("%d <nil> <nil> listener %d", p, s))
		wantRows(t, of(all, "connect"), []string{"ephemeral"}, "true", "true")
		wantRows(t, of(all, "listen"), []string{"backlog", "exposure"}, "16 loopback")
		wantRows(t, of(all, "release"), []string{"reason", "process.exit.signal"}, "exit SIGKILL")
		wantRows(t, of(all, "close"), []string{"closed_by", "bytes.client_to_server", "bytes.server_to_client", "reset"},
			"server 100 7 <nil>")
		refused := of(all, "connect")[1]
		wantRows(t, []record{refused}, []string{"last_listener.process.pid", "last_listener.reason", "last_listener.exit.signal"},
			fmt.Sprintf("%d exit SIGKILL", s))
	})
}

func isConn(r record) bool { return r.at("client") != nil }
func isSock(r record) bool { return r.at("client") == nil }

// TestKernelBurst is the scene in which peers name the right server in 1-3 of 100 connections:
// the server closes first, and each end's state changes run in the other's process.
func TestKernelBurst(t *testing.T) {
	n := 300
	if inGuest() {
		n = 60 // an emulated guest takes minutes to hold thousands of records against the schema
	}
	for _, kind := range []string{"tcp4", "tcp6", "mptcp4"} {
		t.Run(kind, func(t *testing.T) {
			eachForm(t, func(t *testing.T, form Form) { burst(t, form, kind, n) })
		})
	}
}

func burst(t *testing.T, form Form, kind string, n int) {
	if _, err := os.Stat("/proc/sys/net/mptcp"); kind == "mptcp4" && err != nil {
		needKernel(t, "5.11", "MPTCP (Debian builds 5.10 without CONFIG_MPTCP)")
		t.Fatal(err)
	}
	tr := start(t, Config{Hooks: form})
	server, client := newActor(t), newActor(t)
	server.do("socket l %s", kind)
	server.do("bind l %s", map[bool]string{true: "[::1]:0", false: "127.0.0.1:0"}[kind == "tcp6"])
	server.do("listen l 128")
	at := server.addr("l")
	for range n {
		client.do("socket c %s", strings.TrimPrefix(kind, "mp"))
		client.do("connect c %s", at)
		server.do("accept l s")
		server.do("send s 3")
		server.do("close s")
		client.do("recv c 3")
		client.do("recv c 1")
		client.do("close c")
	}
	all := tr.finish()
	for _, event := range []string{"connect", "accept", "close"} {
		var want []string
		for range n {
			want = append(want, fmt.Sprintf("%s success %d %d %d <nil>", event, client.pid, server.pid, at.Port()))
		}
		wantRows(t, of(all, event), connFields, want...)
	}
	for _, r := range of(all, "close") {
		if got := r.pick("closed_by", "bytes.client_to_server", "bytes.server_to_client", "accepted"); got != "server 0 3 <nil>" {
			t.Fatalf("close: %s", got)
		}
	}
	ids := map[string]int{}
	for _, r := range all {
		if isConn(r) {
			ids[r.at("id").(string)]++
		}
	}
	if len(ids) != n {
		t.Errorf("%d connection ids, want %d", len(ids), n)
	}
}

// TestKernelUDP: a flow is a pair of sockets; its first sender is the client.
func TestKernelUDP(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		if form == Tracepoint {
			needKernel(t, "6.3", "sock_send_length, which tells of connected sockets' datagrams")
		} else {
			needKernel(t, "5.14", "inet_sk_error_report, which tells of refused datagrams")
		}
		tr := start(t, Config{Hooks: form})
		server, client := newActor(t), newActor(t)
		server.do("socket s udp4")
		server.do("bind s 127.0.0.1:0")
		at := server.addr("s")
		client.do("socket c udp4")
		for range 3 {
			client.do("sendto c 10 %s", at)
			server.do("recv s 10")
			server.do("sendto s 20 %s", netip.AddrPortFrom(at.Addr(), client.addr("c").Port()))
			client.do("recv c 20")
		}
		client.do("close c")
		server.do("close s")
		client.do("socket d udp4")
		client.do("connect d %s", at)
		client.do("send d 1")
		client.fail(unix.ECONNREFUSED, "recv d 1")
		client.do("close d")

		all := tr.finish()
		refused := fmt.Sprintf("connect failure %d <nil> %d ECONNREFUSED", client.pid, at.Port())
		wantRows(t, slices.DeleteFunc(slices.Clone(all), isSock), connFields,
			fmt.Sprintf("connect success %d %d %d <nil>", client.pid, server.pid, at.Port()),
			fmt.Sprintf("close success %d %d %d <nil>", client.pid, server.pid, at.Port()),
			refused)
		wantRows(t, slices.DeleteFunc(slices.Clone(all), isConn), []string{"event", "process.pid", "ephemeral", "reason"},
			fmt.Sprintf("bind %d true <nil>", server.pid), fmt.Sprintf("bind %d true <nil>", client.pid),
			fmt.Sprintf("release %d <nil> close", client.pid), fmt.Sprintf("release %d <nil> close", server.pid),
			fmt.Sprintf("bind %d true <nil>", client.pid), fmt.Sprintf("release %d <nil> close", client.pid))
	})
}

// TestKernelSnapshot: what was there before is told once, with both ends, and its end is seen.
func TestKernelSnapshot(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		server, client := newActor(t), newActor(t)
		server.do("socket l tcp6")
		server.do("bind l [::]:0")
		server.do("listen l 16")
		at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), server.addr("l").Port())
		client.do("socket c tcp4")
		client.do("connect c %s", at)
		server.do("accept l s")
		client.do("socket b tcp4")
		client.do("bind b 127.0.0.1:0")

		tr := start(t, Config{Hooks: form, Snapshot: true})
		client.do("close c")
		server.do("recv s 1")
		server.do("close s")
		settle(t)
		server.do("close l")
		all := tr.finish()
		wantRows(t, all, []string{"event", "preexisting", "process.pid", "client.process.pid", "server.process.pid", "port"},
			fmt.Sprintf("listen true %d <nil> <nil> %d", server.pid, at.Port()),
			fmt.Sprintf("bind true %d <nil> <nil> %d", client.pid, client.addr("b").Port()),
			fmt.Sprintf("connect true <nil> %d %d %d", client.pid, server.pid, at.Port()),
			fmt.Sprintf("close true <nil> %d %d %d", client.pid, server.pid, at.Port()),
			fmt.Sprintf("release true %d <nil> <nil> %d", server.pid, at.Port()))
	})
}

// TestKernelIdle: an event wakes the sleeping reader, and is a line within the contract's 200 ms.
func TestKernelIdle(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		tr := start(t, Config{Hooks: form})
		a := newActor(t)
		for i := range 5 {
			time.Sleep(120 * time.Millisecond) // the reader sleeps: that is the scene
			a.do("socket s%d tcp4", i)
			a.do("bind s%d 127.0.0.1:0", i)
			began := time.Now()
			eventually(t, "bind record", func() bool { return len(of(ownRecords(t, tr.rec.records(t)), "bind")) == i+1 })
			if took := time.Since(began); took > 200*time.Millisecond {
				t.Errorf("a record took %v", took)
			}
		}
	})
}

// TestKernelNeverAccepted: a connection that the kernel made and no process took. It is over when
// its listener closes, or when it is reset in the queue and the listener closes after that.
func TestKernelNeverAccepted(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		tr := start(t, Config{Hooks: form})
		server, client := newActor(t), newActor(t)
		server.do("socket l tcp4")
		server.do("bind l 127.0.0.1:0")
		server.do("listen l 8")
		at := server.addr("l")
		for _, name := range []string{"reset", "closed", "open", "late"} {
			client.do("socket %s tcp4", name)
			client.do("connect %s %s", name, at)
		}
		client.do("set late linger0")
		client.do("close late")
		server.do("accept l r") // in the order that they came: the first three are dropped, one by one
		server.do("accept l c")
		client.do("set reset linger0")
		client.do("close reset")
		client.do("close closed")
		server.do("close r")
		server.do("close c")
		client.do("socket dead tcp4")
		client.do("connect dead %s", at)
		client.do("set dead linger0")
		client.do("close dead") // reset in the queue
		server.do("close l")
		client.do("close open")
		all := tr.finish()
		wantRows(t, of(all, "close"), []string{"client.process.pid", "closed_by", "reset", "accepted"},
			fmt.Sprintf("%d client true <nil>", client.pid),  // reset
			fmt.Sprintf("%d client <nil> <nil>", client.pid), // closed
			fmt.Sprintf("%d server true false", client.pid),  // open: its listener closed
			fmt.Sprintf("%d client true false", client.pid),  // late
			fmt.Sprintf("%d client true false", client.pid))  // dead
		if n := len(of(all, "connect")); n != 5 {
			t.Errorf("%d connects, want 5", n)
		}
	})
}

// TestKernelFork: who inherits a listener is known within a second, and the one that called
// listen() stands for it until it is gone.
func TestKernelFork(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		tr := start(t, Config{Hooks: form})
		parent, client := newActor(t), newActor(t)
		parent.do("socket l tcp4 inherit")
		parent.do("bind l 127.0.0.1:0")
		parent.do("listen l 16")
		at := parent.addr("l")
		child := parent.do("fork")
		dial := func() record {
			client.do("socket c tcp4")
			client.do("connect c %s", at)
			parent.do("accept l s")
			parent.do("close s")
			client.do("close c")
			var last record
			eventually(t, "connect record", func() bool {
				all := of(ownRecords(t, tr.rec.records(t)), "connect")
				if len(all) == 0 || fmt.Sprint(last) == fmt.Sprint(all[len(all)-1]) {
					return false
				}
				last = all[len(all)-1]
				return true
			})
			return last
		}
		eventually(t, "shared holders", func() bool {
			r := dial()
			return r.pick("server.process.pid", "server.process.attribution") == fmt.Sprintf("%d shared", parent.pid) &&
				strings.Contains(fmt.Sprint(r.at("server.process.holders")), "pid:"+child)
		})
		tr.finish()
	})
}
