// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"slices"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

var promQL = parser.NewParser(parser.Options{})

// check parses an expression, wants each metric and label of it to exist, and gives the labels of its result.
func check(t *testing.T, text string, metrics map[string][]string) (labels []string) {
	t.Helper()
	expr, err := promQL.ParseExpr(text)
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return nil
	}
	c := checker{metrics: metrics, fail: func(what, name string) { t.Errorf("%s: %s %q", text, what, name) }}
	return c.labels(expr)
}

type checker struct {
	metrics map[string][]string
	fail    func(what, name string)
}

// labels are those of an expression's result.
func (c *checker) labels(expr parser.Expr) []string {
	switch e := expr.(type) {
	case *parser.VectorSelector:
		return c.selected(e)
	case *parser.MatrixSelector:
		return c.labels(e.VectorSelector)
	case *parser.ParenExpr:
		return c.labels(e.Expr)
	case *parser.Call:
		var labels []string
		for _, arg := range e.Args {
			labels = append(labels, c.labels(arg)...)
		}
		return labels
	case *parser.AggregateExpr:
		of := c.labels(e.Expr)
		c.known(e.Grouping, of)
		switch {
		case e.Op == parser.TOPK:
			return of
		case e.Without:
			return without(of, e.Grouping)
		default:
			return e.Grouping
		}
	case *parser.BinaryExpr:
		return c.joined(e)
	case *parser.NumberLiteral, *parser.StringLiteral:
		return nil
	default:
		c.fail("this check knows no", expr.String())
		return nil
	}
}

func (c *checker) selected(e *parser.VectorSelector) []string {
	labels, ok := c.metrics[e.Name]
	if !ok {
		c.fail("there is no metric", e.Name)
	}
	for _, m := range e.LabelMatchers {
		if m.Name != model.MetricNameLabel {
			c.known([]string{m.Name}, labels)
		}
	}
	return labels
}

// joined are the labels of an operation on two vectors, or on a vector and a number.
func (c *checker) joined(e *parser.BinaryExpr) []string {
	left, right := c.labels(e.LHS), c.labels(e.RHS)
	m := e.VectorMatching
	switch {
	case m == nil && left == nil:
		return right
	case m == nil:
		return left
	}
	if m.On {
		c.known(m.MatchingLabels, left)
		c.known(m.MatchingLabels, right)
	} else if !equal(without(left, m.MatchingLabels), without(right, m.MatchingLabels)) {
		c.fail("both sides never match", e.String())
	}
	switch {
	case m.Card == parser.CardOneToOne && m.On:
		return m.MatchingLabels
	case m.Card == parser.CardOneToOne:
		return without(left, m.MatchingLabels)
	default:
		return left
	}
}

func (c *checker) known(labels, of []string) {
	for _, l := range labels {
		if !slices.Contains(of, l) {
			c.fail("there is no label", l)
		}
	}
}

func without(labels, gone []string) []string {
	return slices.DeleteFunc(slices.Clone(labels), func(l string) bool { return slices.Contains(gone, l) })
}

func equal(a, b []string) bool {
	return slices.Equal(slices.Compact(slices.Sorted(slices.Values(a))), slices.Compact(slices.Sorted(slices.Values(b))))
}

// TestCheck: what it is to find, it finds.
func TestCheck(t *testing.T) {
	metrics := map[string][]string{"a_total": {"instance", "x"}, "b": {"instance"}}
	tests := []struct {
		name, expr string
		fails      int
		labels     []string
	}{
		{"a metric", "rate(a_total[5m]) > 0", 0, []string{"instance", "x"}},
		{"a metric that is not there", "rate(c_total[5m]) > 0", 1, nil},
		{"a label that is not there", `b{x="1"}`, 1, []string{"instance"}},
		{"a group that is not there", "sum by (y) (a_total)", 1, []string{"y"}},
		{"a group", "topk(3, sum by (x) (a_total) > 0)", 0, []string{"x"}},
		{"a join", "a_total / ignoring (x) group_left () b", 0, []string{"instance", "x"}},
		{"a join of what never matches", "a_total / b", 1, []string{"instance", "x"}},
		{"a join on a label that one side lacks", "b and on (x) a_total", 1, []string{"instance"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			expr, err := promQL.ParseExpr(test.expr)
			if err != nil {
				t.Fatal(err)
			}
			fails := 0
			c := checker{metrics: metrics, fail: func(string, string) { fails++ }}
			if labels := c.labels(expr); fails != test.fails || !equal(labels, test.labels) {
				t.Errorf("%d failures, want %d; labels %v, want %v", fails, test.fails, labels, test.labels)
			}
		})
	}
}
