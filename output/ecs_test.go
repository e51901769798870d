// SPDX-License-Identifier: Apache-2.0

package output

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func openECS(w io.Writer) sink { return NewECS(w) }

// ecsTop are the names at the top that the schema has, and the one that is ours.
var ecsTop = []string{
	"@timestamp", "agent", "client", "container", "destination", "ecs", "error", "event", "host", "log",
	"looptrace", "message", "network", "process", "server", "source",
}

// TestECSHasNoOtherNames: a field at the top that the schema does not know would be mapped by guess.
func TestECSHasNoOtherNames(t *testing.T) {
	used := map[string]bool{}
	for _, s := range samples() {
		var fields map[string]any
		if err := json.Unmarshal([]byte(lineOf(t, openECS, s.record)), &fields); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		for name := range fields {
			used[name] = true
		}
	}
	if diff := cmp.Diff(ecsTop, slices.Sorted(maps.Keys(used))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestECSFieldsHaveOneType: Elasticsearch refuses a document in which a field is something else than before.
func TestECSFieldsHaveOneType(t *testing.T) {
	types := map[string]string{}
	for _, s := range samples() {
		var fields map[string]any
		if err := json.Unmarshal([]byte(lineOf(t, openECS, s.record)), &fields); err != nil {
			t.Fatal(err)
		}
		for name, kind := range flatTypes("", fields) {
			if strings.HasPrefix(name, "looptrace.filters.") {
				continue // the user's own
			}
			if had, ok := types[name]; ok && had != kind {
				t.Errorf("%s: %s is %s, and was %s", s.name, name, kind, had)
			}
			types[name] = kind
		}
	}
}

// flatTypes gives the type of each field by its whole name, of an array's that of its elements.
func flatTypes(prefix string, value any) map[string]string {
	types := map[string]string{}
	switch v := value.(type) {
	case map[string]any:
		for key, field := range v {
			maps.Copy(types, flatTypes(strings.TrimPrefix(prefix+"."+key, "."), field))
		}
	case []any:
		for _, element := range v {
			maps.Copy(types, flatTypes(prefix, element))
		}
	case string:
		types[prefix] = "string"
	case float64:
		types[prefix] = "number"
	case bool:
		types[prefix] = "bool"
	}
	return types
}

// TestECSSaysWhatJSONSays: every value of the JSON line is in the ECS line of the same record, under whatever name.
func TestECSSaysWhatJSONSays(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			var asJSON, asECS any
			if err := json.Unmarshal([]byte(lineOf(t, openJSON, s.record)), &asJSON); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(lineOf(t, openECS, s.record)), &asECS); err != nil {
				t.Fatal(err)
			}
			has := map[string]bool{}
			leaves(asECS, has)
			want := map[string]bool{}
			leaves(asJSON, want)
			for value := range want {
				if !has[value] {
					t.Errorf("ECS lacks %s", value)
				}
			}
		})
	}
}

// leaves collects the values as JSON has them.
func leaves(value any, into map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		for _, field := range v {
			leaves(field, into)
		}
	case []any:
		for _, element := range v {
			leaves(element, into)
		}
	default:
		text, _ := json.Marshal(v)
		into[string(text)] = true
	}
}
