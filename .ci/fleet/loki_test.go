// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	lokiURL = "http://127.0.0.1:3100"
	storage = "127.0.0.1:9000"
	bucket  = "loki"
)

// startObjects has an object storage, which a Loki's end does not touch.
func startObjects(t *testing.T) {
	t.Helper()
	cmd := exec.Command(*objects, storage, bucket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	await(t, "object storage", func() bool { return listens(storage) })
}

// startLoki runs Loki as it is shipped, on an empty disk, and returns once it answers.
func startLoki(t *testing.T) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	config := rewrite(t, dir, "loki.yaml", "path_prefix: /loki", "path_prefix: "+dir)
	log, err := os.Create(filepath.Join(dir, "loki.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(*loki, "-config.file="+config, "-config.expand-env=true", "-server.http-listen-address=127.0.0.1")
	cmd.Env = append(os.Environ(), "S3_ENDPOINT="+storage, "S3_BUCKET="+bucket, "S3_INSECURE=true", "S3_ACCESS_KEY_ID=me", "S3_SECRET_ACCESS_KEY=secret")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kill(cmd)
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("loki:\n%s", text)
		}
	})
	await(t, "Loki", func() bool {
		resp, err := http.Get(lokiURL + "/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return cmd
}

// end asks a program to stop, and waits until it has.
func end(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
		t.Fatalf("%s: %v", cmd.Path, err)
	}
}

// rewrite copies a configuration that is shipped, with the places of this test.
func rewrite(t *testing.T, dir, name string, oldnew ...string) string {
	t.Helper()
	shipped, err := os.ReadFile(filepath.Join(*configs, name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(strings.NewReplacer(oldnew...).Replace(string(shipped))), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ask gives a query's answer at a time: for each set of labels, "a=1 b=2", a number.
func ask(t *testing.T, at time.Time, query string) map[string]int {
	t.Helper()
	resp, err := http.Get(lokiURL + "/loki/api/v1/query?" + url.Values{"query": {query}, "time": {strconv.FormatInt(at.UnixNano(), 10)}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %s: %v", query, resp.Status, err)
	}
	m := map[string]int{}
	for _, r := range answer.Data.Result {
		var labels []string
		for name, value := range r.Metric {
			labels = append(labels, name+"="+value)
		}
		slices.Sort(labels)
		n, err := strconv.Atoi(fmt.Sprint(r.Value[1]))
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		m[strings.Join(labels, " ")] = n
	}
	return m
}
