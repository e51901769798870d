// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/urfave/cli/v2"

	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

// parse reads a command line as main does, up to where tracing would begin.
func parse(t *testing.T, args ...string) (*options, error) {
	t.Helper()
	var o *options
	app := newApp(io.Discard, io.Discard)
	app.Action = func(c *cli.Context) (err error) {
		o, err = parseOptions(given{c}, c.Args().Slice())
		return err
	}
	err := app.Run(arrange(append([]string{"looptrace"}, args...), app))
	return o, err
}

func TestOptions(t *testing.T) {
	self := uint32(os.Getuid())
	tests := []struct {
		name string
		args []string
		want options
	}{
		{name: "nothing", want: options{format: "text", redactLog: true, cfg: tracer.Config{Snapshot: true}}},
		{
			name: "filters", args: []string{"--port", "80,!22", "--proto=udp", "--event", "bind, listen", "--failed", "--no-snapshot"},
			want: options{format: "text", redactLog: true, cfg: tracer.Config{Filter: flow.Filter{
				Ports:  flow.Set[uint16]{Include: []uint16{80}, Exclude: []uint16{22}},
				Protos: flow.Set[uint16]{Include: []uint16{17}},
				Events: flow.Set[string]{Include: []string{"bind", "listen"}},
				Failed: true,
			}}},
		},
		{
			name: "some of what is listed left out", args: []string{"--port", "1,2,!1", "--proto", "!udp"},
			want: options{format: "text", redactLog: true, cfg: tracer.Config{Snapshot: true, Filter: flow.Filter{
				Ports:  flow.Set[uint16]{Include: []uint16{1, 2}, Exclude: []uint16{1}},
				Protos: flow.Set[uint16]{Exclude: []uint16{17}},
			}}},
		},
		{
			name: "a repeated flag", args: []string{"--pid", "1", "--pid", "2,3"},
			want: options{format: "text", redactLog: true, cfg: tracer.Config{Snapshot: true, Filter: flow.Filter{PIDs: flow.Set[uint32]{Include: []uint32{1, 2, 3}}}}},
		},
		{
			name: "names cut as the kernel does", args: []string{"--comm", "chromium-browser", "--user", "!root"},
			want: options{format: "text", redactLog: true, cfg: tracer.Config{Snapshot: true, Filter: flow.Filter{
				Comms: flow.Set[string]{Include: []string{"chromium-browse"}}, UIDs: flow.Set[uint32]{Exclude: []uint32{0}},
			}}},
		},
		{
			name: "flags after targets", args: []string{"8080", "-o", "json", "127.0.0.1:1", "--count=3", "--duration", "1m", "--strict", "--local"},
			want: options{format: "json", redactLog: true, count: 3, duration: time.Minute, strict: true, cfg: tracer.Config{Snapshot: true, Filter: flow.Filter{
				Local: true, Targets: []flow.Target{{Port: 8080}, {Addr: netip.MustParseAddr("127.0.0.1"), Port: 1}},
			}}},
		},
		{
			name: "a namespace by path", args: []string{"--netns", "/proc/self/ns/net"},
			want: options{format: "text", redactLog: true, cfg: tracer.Config{Snapshot: true, Filter: flow.Filter{Netns: flow.Set[uint32]{Include: []uint32{ownNetns(t)}}}}},
		},
		{
			name: "a namespace by number", args: []string{"--netns", "4026531840,!net:[4026531841]"},
			want: options{format: "text", redactLog: true, cfg: tracer.Config{Snapshot: true, Filter: flow.Filter{
				Netns: flow.Set[uint32]{Include: []uint32{4026531840}, Exclude: []uint32{4026531841}},
			}}},
		},
		{
			name: "command lines as asked, in the log file too", args: []string{"--cmdline", "full", "--log-file", "x", "--hooks", "kprobe"},
			want: options{format: "text", logFile: "x", cfg: tracer.Config{Snapshot: true, Hooks: tracer.Kprobe}},
		},
		{
			name: "a user by number", args: []string{"--user", itoa(self)},
			want: options{format: "text", redactLog: true, cfg: tracer.Config{Snapshot: true, Filter: flow.Filter{UIDs: flow.Set[uint32]{Include: []uint32{self}}}}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parse(t, test.args...)
			if err != nil {
				t.Fatal(err)
			}
			test.want.cfg.Version = version
			if test.want.cfg.Hooks == "" {
				test.want.cfg.Hooks = tracer.Auto
			}
			if diff := cmp.Diff(&test.want, got, cmp.AllowUnexported(options{}), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}),
				cmpopts.IgnoreFields(tracer.Config{}, "Filters", "Args")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestMetricsAddr: on loopback, unless another address is said.
func TestMetricsAddr(t *testing.T) {
	tests := []struct{ given, want string }{
		{"9464", "127.0.0.1:9464"},
		{":9464", "127.0.0.1:9464"},
		{":0", "127.0.0.1:0"},
		{"localhost:9464", "127.0.0.1:9464"},
		{"127.0.0.2:9464", "127.0.0.2:9464"},
		{"[::1]:9464", "[::1]:9464"},
		{"0.0.0.0:9464", "0.0.0.0:9464"},
		{"[::]:9464", "[::]:9464"},
	}
	for _, test := range tests {
		t.Run(test.given, func(t *testing.T) {
			o, err := parse(t, "--metrics", test.given)
			if err != nil {
				t.Fatal(err)
			}
			if got := o.metrics.String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestFiltersGiven: the start record has the user's own words, and of targets what was understood.
func TestFiltersGiven(t *testing.T) {
	o, err := parse(t, "--port", "80,!22", "--failed", "http://u:hunter6@localhost/", "5432", "dial tcp 127.0.0.2:9: refused")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"port": "80,!22", "failed": true, "target": []string{"127.0.0.1:80", "[::1]:80", ":5432", "127.0.0.2:9"}}
	if diff := cmp.Diff(want, o.cfg.Filters); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCommandLineModes(t *testing.T) {
	argv := []string{"curl", "--password", "hunter2"}
	tests := []struct {
		mode string
		want []string
	}{
		{"", argv},
		{"full", argv},
		{"redacted", flow.RedactArgs(argv)},
		{"none", nil},
	}
	for _, test := range tests {
		t.Run("mode "+test.mode, func(t *testing.T) {
			var flags []string
			if test.mode != "" {
				flags = []string{"--cmdline", test.mode}
			}
			o, err := parse(t, flags...)
			if err != nil {
				t.Fatal(err)
			}
			got := argv
			if o.cfg.Args != nil {
				got = o.cfg.Args(argv)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{"14d": 14 * 24 * time.Hour, "1h30m": 90 * time.Minute, "0d": 0, "-1d": 0, "d": 0, "0s": 0, "soon": 0, "99999d": 0} {
		if got, ok := parseSpan(text); ok != (want > 0) || ok && got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, ok, want)
		}
	}
}
