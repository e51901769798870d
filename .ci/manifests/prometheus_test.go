// SPDX-License-Identifier: Apache-2.0

// Package manifests holds what ships beside the program against what reads it.
package manifests

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
)

const (
	rulesFile     = "../../packaging/prometheus/looptrace.rules.yml"
	dashboardFile = "../../packaging/prometheus/looptrace.dashboard.json"
	// metricsFile is everything that looptrace serves: output/metrics holds it against the program.
	metricsFile = "../../output/metrics/testdata/metrics.txt"
)

// scraped are the labels that Prometheus adds itself.
var scraped = []string{"instance", "job"}

// served gives the labels of each metric.
func served(t *testing.T) map[string][]string {
	t.Helper()
	f, err := os.Open(metricsFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line := regexp.MustCompile(`^([a-z_]+)(?:{(.*)})? \S+$`)
	name := regexp.MustCompile(`([a-z_]+)="`)
	metrics := map[string][]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		m := line.FindStringSubmatch(lines.Text())
		if m == nil {
			t.Fatalf("no metric: %q", lines.Text())
		}
		labels := slices.Clone(scraped)
		for _, l := range name.FindAllStringSubmatch(m[2], -1) {
			labels = append(labels, l[1])
		}
		metrics[m[1]] = labels
	}
	if err := lines.Err(); err != nil || len(metrics) < 20 {
		t.Fatalf("%d metrics, %v", len(metrics), err)
	}
	return metrics
}

// labelsNamed are the labels that a template names.
func labelsNamed(text string, pattern string) (labels []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		labels = append(labels, m[1])
	}
	return labels
}

// TestAlerts: Prometheus takes the rules, and each can fire: it is about metrics that there are.
func TestAlerts(t *testing.T) {
	groups, errs := rulefmt.ParseFile(rulesFile, false, model.UTF8Validation, promQL, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil {
		t.FailNow()
	}
	metrics := served(t)
	n := 0
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			n++
			t.Run(r.Alert, func(t *testing.T) {
				labels := check(t, r.Expr, metrics)
				for _, text := range r.Annotations {
					for _, l := range labelsNamed(text, `\$labels\.(\w+)`) {
						if !slices.Contains(labels, l) {
							t.Errorf("%q: the result has no label %q", text, l)
						}
					}
				}
				if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
					t.Error("it lacks a summary, a description or a severity")
				}
			})
		}
	}
	t.Logf("%d alerts, each PromQL expression parsed and about metrics that exist", n)
	if n < 8 {
		t.Errorf("%d alerts", n)
	}
}

// dashboard is what of Grafana's format is looked at.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Definition string }
	}
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr, LegendFormat string }
	}
}

// grafana replaces Grafana's variables by values: PromQL has none.
var grafana = strings.NewReplacer("$__rate_interval", "5m", "$__range", "6h", "$job", ".*", "$instance", ".*")

// TestDashboard: each panel asks for metrics that there are, by expressions that are PromQL, and none lies on another.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	metrics := served(t)
	exprs, ids, cells := 0, map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: another panel has id %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if on := cells[[2]int{x, y}]; on != "" || x >= 24 {
					t.Fatalf("%s lies on %q, or outside", p.Title, on)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("%s: nothing is asked for", p.Title)
		}
		for _, target := range p.Targets {
			exprs++
			labels := check(t, grafana.Replace(target.Expr), metrics)
			for _, l := range labelsNamed(target.LegendFormat, `{{(\w+)}}`) {
				if !slices.Contains(labels, l) {
					t.Errorf("%s: the result of %s has no label %q", p.Title, target.Expr, l)
				}
			}
		}
	}
	for _, v := range d.Templating.List {
		if v.Definition == "" {
			continue
		}
		m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(v.Definition)
		if m == nil {
			t.Errorf("%s: %s", v.Name, v.Definition)
			continue
		}
		exprs++
		if labels := check(t, grafana.Replace(m[1]), metrics); !slices.Contains(labels, m[2]) {
			t.Errorf("%s: %s has no label %q", v.Name, m[1], m[2])
		}
	}
	t.Logf("%d expressions in %d panels, each PromQL and about metrics that exist", exprs, len(d.Panels))
	if exprs < 15 {
		t.Errorf("%d expressions", exprs)
	}
}

// TestEveryMetricIsDescribed: docs/metrics.md has each, and none that there is not.
func TestEveryMetricIsDescribed(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	metrics := served(t)
	described := map[string]bool{}
	for _, m := range regexp.MustCompile("`(looptrace_[a-z_]+)[`{]").FindAllStringSubmatch(string(text), -1) {
		described[m[1]] = true
		if metrics[m[1]] == nil {
			t.Errorf("docs/metrics.md: no metric %s", m[1])
		}
	}
	for name := range metrics {
		if strings.HasPrefix(name, "looptrace_") && !described[name] {
			t.Errorf("docs/metrics.md lacks %s", name)
		}
	}
}
