// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/looptrace/looptrace/output/otlp/otlptest"
)

// TestFleet asks one place about three hosts. Each sends over a wire to the Collector, which knows it by its
// certificate and hands on to Loki: what anybody would ask has the answer that the traffic gave, to the connection,
// also once Loki has nothing left but its object storage. Collector and Loki are configured as they are shipped.
func TestFleet(t *testing.T) {
	run(t, "ip", "link", "add", "fleet", "type", "bridge")
	run(t, "ip", "addr", "add", centre+"/24", "dev", "fleet")
	run(t, "ip", "link", "set", "fleet", "up")
	dir := t.TempDir()
	if err := otlptest.Certificates(dir, centre); err != nil {
		t.Fatal(err)
	}
	startObjects(t)
	store := startLoki(t)
	config := rewrite(t, dir, "collector.yaml", "0.0.0.0:", centre+":", "http://loki:3100", lokiURL, "/etc/otelcol/", dir+"/")
	running := startCollector(t, config, centre+":4318")
	defer kill(running)

	hosts := map[string]*host{}
	for i, name := range []string{"a", "b", "c"} {
		hosts[name] = startHost(t, name, i+2,
			"OTEL_EXPORTER_OTLP_CERTIFICATE="+dir+"/ca.pem", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE="+dir+"/client.pem", "OTEL_EXPORTER_OTLP_CLIENT_KEY="+dir+"/client.key")
	}
	a, b, c := hosts["a"], hosts["b"], hosts["c"]

	a.serve("shop", "49342")
	b.serve("shop", "49342", "5432")
	b.dial("cart", "taken", "49342", 3) // too early
	t1 := edge()
	a.dial("cart", "taken", "49342", 20) // another host
	b.dial("cart", "taken", "49342", 17)
	b.dial("report", "taken", "49342", 5)
	b.dial("report", "taken", "5432", 9) // another port
	t2 := edge()
	b.dial("cart", "taken", "49342", 4) // too late

	a.dial("report", "refused", "5432", 11)
	c.dial("cart", "refused", "5432", 6)
	c.dial("migrate", "refused", "5432", 2)
	c.dial("migrate", "refused", "5433", 1) // another port

	wrote := map[string]int{}
	for name, h := range hosts {
		wrote["host_name="+name] = h.stop()
	}
	const all = `sum by (host_name) (count_over_time({service_name="looptrace"} [1h]))`
	await(t, "records in Loki", func() bool { return cmp.Equal(wrote, ask(t, time.Now(), all)) })
	t.Logf("records: %v", wrote)

	questions := []struct {
		name, query string
		at          time.Time
		want        map[string]int
	}{
		{
			"who connected to port 49342 on host b between T1 and T2?",
			fmt.Sprintf(`sum by (client_process_comm) (count_over_time({service_name="looptrace"} | event_name="looptrace.connect" | outcome="success" | server_port="49342" | host_name="b" [%dms]))`,
				t2.Sub(t1).Milliseconds()),
			t2,
			map[string]int{"client_process_comm=cart": 17, "client_process_comm=report": 5},
		},
		{
			"which hosts refused connections to 5432 in the last hour, from what program?",
			`sum by (host_name, client_process_comm) (count_over_time({service_name="looptrace"} | event_name="looptrace.connect" | error_type="ECONNREFUSED" | port="5432" [1h]))`,
			time.Now(),
			map[string]int{
				"client_process_comm=report host_name=a": 11, "client_process_comm=cart host_name=c": 6, "client_process_comm=migrate host_name=c": 2,
			},
		},
	}
	for _, from := range []string{"memory", "object storage"} {
		for _, q := range questions {
			if diff := cmp.Diff(q.want, ask(t, q.at, q.query)); diff != "" {
				t.Errorf("from %s: %s\n%s\n(-want +got):\n%s", from, q.name, q.query, diff)
			}
		}
		if from == "memory" {
			end(t, store)
			startLoki(t)
		}
	}
}

// edge is a moment with nothing near it, in whole milliseconds as a query has them.
func edge() time.Time {
	const clear = 200 * time.Millisecond
	time.Sleep(clear)
	defer time.Sleep(clear)
	return time.Now().Truncate(time.Millisecond)
}
