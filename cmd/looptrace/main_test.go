// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// The scripts run this test binary as looptrace, and as a program for it to trace.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"looptrace": main, "listener": listener, "ask": ask})
}

// TestScripts specifies what the command line does without privileges.
func TestScripts(t *testing.T) {
	testscript.Run(t, params("testdata"))
}

// TestKernelScripts specifies what it does with them.
func TestKernelScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	// Whoever ignores it, as nohup does, hands that on: the scripts' programs would wait for ever.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	defer signal.Stop(hangups)
	testscript.Run(t, params("testdata/kernel"))
}

func params(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"await": await,
			"json":  isJSON,
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "root":
				return os.Geteuid() == 0, nil
			case "guest": // an emulated one, which has busybox's programs only
				return os.Getenv("LOOPTRACE_FORMS") != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
	}
}

// listener is a program to trace: it listens on a port that the kernel picks, and ends. With an argument
// it does so that many times. Package net would bind sockets of its own, to see whether IPv6 works.
func listener() {
	times := 1
	if len(os.Args) > 1 {
		times, _ = strconv.Atoi(os.Args[1])
	}
	for range times {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		err = errors.Join(err, unix.Bind(s, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(s, 1))
		if len(os.Args) > 2 && os.Args[2] == "stay" {
			_ = unix.Pause() // until it is killed
		}
		err = errors.Join(err, unix.Close(s))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// ask prints what looptrace serves for Prometheus: `ask PORT`.
func ask() {
	resp, err := http.Get("http://127.0.0.1:" + os.Args[1] + "/metrics")
	if err == nil {
		defer resp.Body.Close()
		_, err = io.Copy(os.Stdout, resp.Body)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// exits runs a command and wants an exit code: `exits CODE COMMAND [ARG …]`.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG …]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// awaitTime bounds await: attaching takes a second or two, and half a minute in an emulated guest (.ci/kernels/run).
func awaitTime() time.Duration {
	if os.Getenv("LOOPTRACE_FORMS") != "" {
		return 2 * time.Minute
	}
	return 20 * time.Second
}

// await waits until a file has a line: `await FILE REGEXP`.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE REGEXP")
	}
	want := regexp.MustCompile("(?m)" + args[1])
	path := ts.MkAbs(args[0])
	for end := time.Now().Add(awaitTime()); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(path); err == nil && want.Match(text) {
			return
		}
	}
	text, _ := os.ReadFile(path)
	ts.Fatalf("no %q in %s within %v:\n%s", args[1], args[0], awaitTime(), text)
}

// isJSON wants every line of a file to be a JSON object: `json FILE`, or stdout.
func isJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: json FILE")
	}
	text := bytes.TrimSpace([]byte(ts.ReadFile(args[0])))
	var whole map[string]any
	if json.Unmarshal(text, &whole) == nil {
		return
	}
	for line := range bytes.Lines(text) {
		var object map[string]any
		if err := json.Unmarshal(line, &object); err != nil {
			ts.Fatalf("%s: %v: %s", args[0], err, line)
		}
	}
}
