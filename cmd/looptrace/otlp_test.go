// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/output/otlp/otlptest"
)

// TestKernelOTLP: what goes to a receiver on loopback is what is on stdout, and nothing of it is about the
// receiver's connections to looptrace. A host on which nothing happens sends nothing.
func TestKernelOTLP(t *testing.T) {
	needRoot(t)
	runtime.LockOSThread() // what is opened and started here is in a network namespace of its own
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWNET), loopbackUp()); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	rc := &otlptest.Receiver{}
	server := httptest.NewUnstartedServer(rc)
	server.Listener.Close()
	var err error
	if server.Listener, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	server.Start()
	defer server.Close()

	cmd := exec.Command("looptrace", "-o", "json", "--netns", fmt.Sprint(st.Ino), "--otlp", server.URL)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no %s within %v: %s", what, patience, &stderr)
			}
		}
	}
	await("records", func() bool { return len(rc.Records()) == 2 }) // start, and the receiver's own listener
	const idle = 3 * time.Second                                    // three times what a record waits for others
	before := rc.Requests()
	time.Sleep(idle)
	if n := rc.Requests() - before; n != 0 {
		t.Errorf("%d requests of a host on which nothing happens", n)
	}

	server.CloseClientConnections() // the next record needs a new connection: that is not recorded either
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	await("more records", func() bool { return len(rc.Records()) >= 5 })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
		t.Errorf("looptrace: %v: %s", err, &stderr)
	}

	var onStdout, sent []string
	for line := range bytes.Lines(stdout.Bytes()) {
		var r struct{ Event, ID string }
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		onStdout = append(onStdout, "looptrace."+r.Event+" "+r.ID)
	}
	kinds := map[string]int{}
	for _, r := range rc.Records() {
		sent = append(sent, r.EventName+" "+otlptest.Attributes(r.Attributes)["id"])
		kinds[r.EventName]++
	}
	if diff := cmp.Diff(onStdout, sent); diff != "" {
		t.Errorf("(-stdout +sent):\n%s", diff)
	}
	want := map[string]int{"looptrace.start": 1, "looptrace.bind": 1, "looptrace.listen": 2, "looptrace.release": 1, "looptrace.stop": 1}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("(-want +sent):\n%s", diff)
	}
}
