// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/json"
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

// lokiConfig is one Loki with its files in a directory, ready as soon as it can be.
const lokiConfig = `auth_enabled: false
analytics: { reporting_enabled: false }
server: { http_listen_address: 127.0.0.1, http_listen_port: 3100, grpc_listen_address: 127.0.0.1, grpc_listen_port: 9096, log_level: warn }
common:
  instance_addr: 127.0.0.1
  path_prefix: %[1]s
  replication_factor: 1
  ring: { kvstore: { store: inmemory } }
  storage: { filesystem: { chunks_directory: %[1]s/chunks, rules_directory: %[1]s/rules } }
ingester: { lifecycler: { min_ready_duration: 0s } }
schema_config:
  configs: [{ from: 2024-01-01, store: tsdb, object_store: filesystem, schema: v13, index: { prefix: index_, period: 24h } }]
`

const lokiURL = "http://127.0.0.1:3100"

// startLoki returns once it answers.
func startLoki(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "loki.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, lokiConfig, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "loki.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(*loki, "-config.file="+config)
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
