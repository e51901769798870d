// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

const (
	untraced = "untraced"
	stream   = "stream"
	summed   = "summary"
)

// tool is a tracer: how it is started, how one sees that it is ready, and how many connections are in
// what it wrote.
type tool struct {
	name   string
	argv   []string
	names  string                                         // whose processes it names
	ready  string                                         // what it writes when it traces; else it is ready when its programs are loaded
	count  func(out io.Reader, load *runner) (int, error) // TCP connections; nil: it does not see them
	flows  func(out io.Reader, load *runner) (int, error) // UDP flows
	inside bool                                           // it sees only the network namespace that it is in
	quiet  bool                                           // it has no BPF programs, and does not say that it is ready
	ours   bool
}

// serverPID stands for the load's server among a tool's arguments.
const serverPID = "{server}"

func allTools(binary string) []tool {
	started := `"event":"start"`
	argv := []string{binary, "-o", "json", "--no-snapshot"}
	established := fmt.Sprintf(`tracepoint:sock:inet_sock_set_state /args->newstate == 1/ { printf("est %%s %%d %%d \n", comm, args->sport, args->dport); }`)
	return []tool{
		{name: untraced},
		{name: stream, argv: argv, ready: started, count: countStream("connect", "accept", "close"), flows: countStream("connect", "close"), names: "both", ours: true},
		{name: summed, argv: append(slices.Clip(argv), "--summary", "1s"), ready: started, count: countSummaries, flows: countSummaries, names: "both", ours: true},
		{name: "tcplife", argv: []string{"tcplife-bpfcc"}, count: halved(" 127.0.0.1 "), names: "both"},
		{name: "tcpstates", argv: []string{"tcpstates-bpfcc"}, count: halved("-> ESTABLISHED"), names: "both"},
		{name: "tcptracer", argv: []string{"tcptracer-bpfcc"}, count: halved("127.0.0.1"), names: "both"},
		{name: "bpftrace", argv: []string{"bpftrace", "-e", established}, count: halved("est "), names: "both"},
		{name: "tcpdump", argv: []string{"tcpdump", "-i", "lo", "-w", "-"}, count: countSYNs, flows: countDatagrams, names: "none", inside: true, quiet: true},
		{name: "strace", argv: []string{"strace", "-f", "-e", "trace=accept4,close", "-o", "/dev/stdout", "-p", serverPID}, count: countAccepts, names: "its own", quiet: true},
	}
}

// installed gives those of the tools that this machine has and that are asked for.
func installed(tools []tool, only string) []tool {
	return slices.DeleteFunc(tools, func(t tool) bool {
		if t.name == untraced {
			return false
		}
		if only != "" && !slices.Contains(strings.Split(only, ","), t.name) {
			return true
		}
		_, err := exec.LookPath(t.argv[0])
		return err != nil
	})
}

// sees gives what counts the load's connections in the tool's output; nil: it does not see such.
func (t *tool) sees(load string) func(io.Reader, *runner) (int, error) {
	switch load {
	case idle:
		return nil
	case udp:
		return t.flows
	default:
		return t.count
	}
}

// surroundings make a place where peers can work, in a mount namespace of their own: tracefs, and for bcc
// the headers of a kernel, if need be of another (sizes of what was sent are wrong then, costs are not).
const surroundings = `
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
here=/lib/modules/$(uname -r)
for other in /lib/modules/*; do
	[ -e "$other/build" ] || continue
	[ ! -e "$here/build" ] || break
	build=$(readlink -f "$other/build") source=$(readlink -f "$other/source")
	mount -t tmpfs tmpfs /lib/modules
	mkdir "$here"
	ln -s "$build" "$here/build"
	ln -s "$source" "$here/source"
	break
done
exec "$@"`

// command gives what starts the tool beside a load.
func (t *tool) command(r *runner) *exec.Cmd {
	argv := slices.Clone(t.argv)
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], serverPID, fmt.Sprint(r.pid))
	}
	if t.inside {
		argv = append([]string{"nsenter", "-t", fmt.Sprint(r.pid), "-n", "--"}, argv...)
	}
	if !t.ours {
		argv = append([]string{"unshare", "-m", "sh", "-c", surroundings, "sh"}, argv...)
	}
	return exec.Command(argv[0], argv[1:]...)
}
