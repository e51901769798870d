// SPDX-License-Identifier: Apache-2.0

package output

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const referencePath = "../docs/records.md"

// TestReference: the field reference says what the schema says.
func TestReference(t *testing.T) {
	want := reference(t)
	if *update {
		if err := os.WriteFile(referencePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("%s is stale; rewrite it with go test ./output -run TestReference -update (-want +got):\n%s", referencePath, d)
	}
}

const referenceHead = `# The fields of a record

Written from [output/schema.json](../output/schema.json) by output/reference_test.go; do not edit. The schema itself, which
` + "`looptrace schema`" + ` prints and packages hold, says more: which fields go together, and when one has to be there.

One JSON object a line. A dot stands for nesting: ` + "`client.port` is `{\"client\":{\"port\":…}}`" + `; ` + "`[]`" + ` for the elements of an array.
A field that is not known is absent, never a stand-in; ● is in every record of that event.
`

// parts are what several records have, told once and linked to.
var parts = []string{"process", "container", "holder", "ephemeralPorts", "exit"}

// variants are shown as the part that they are made of, and how they differ.
var variants = map[string]string{
	"closer":       "[process](#process), with `exit`",
	"laterProcess": "[process](#process), cut where an earlier record gave it in full",
	"holders":      "array of [process](#process), each without `holders`",
	"briefProcess": "[process](#process), some of its fields",
}

func reference(t *testing.T) string {
	t.Helper()
	schema := parseOrdered(t, Schema())
	r := referenceOf{t: t, defs: schema.at("$defs")}
	var b strings.Builder
	b.WriteString(referenceHead)
	shared := r.fields(r.defs.at("record"), "", true)
	writeFields(&b, "Every record", "", shared)
	for _, event := range schema.at("oneOf").items {
		name := refName(event)
		def := r.defs.at(name)
		rows := r.fields(def, "", true)
		succeeds := slices.ContainsFunc(rows, func(f field) bool { return f.name == "outcome" && f.value == "`success`" })
		rows = slices.DeleteFunc(rows, func(f field) bool {
			return succeeds && f.name == "error.type" || slices.ContainsFunc(shared, func(s field) bool { return s.name == f.name })
		})
		writeFields(&b, name, r.describe(def), rows)
	}
	for _, name := range parts {
		def := r.defs.at(name)
		writeFields(&b, name, r.describe(def), r.fields(def, "", true))
	}
	return b.String()
}

func writeFields(b *strings.Builder, title, about string, rows []field) {
	fmt.Fprintf(b, "\n## %s\n\n", title)
	if about != "" {
		fmt.Fprintf(b, "%s\n\n", about)
	}
	b.WriteString("| field | | value | |\n| --- | --- | --- | --- |\n")
	for _, f := range rows {
		mark := ""
		if f.always {
			mark = "●"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.name, mark, f.value, f.about)
	}
}

// field is a row: a name with dots, what it holds, and whether it is always there.
type field struct {
	name, value, about string
	always             bool
}

// referenceOf reads a schema for people. It knows the words that schema.json uses, and fails on a property
// that it cannot tell the type of.
type referenceOf struct {
	t    *testing.T
	defs *ordered
}

// fields flattens an object. What it is made of (allOf) comes first; what it says itself replaces that.
func (r *referenceOf) fields(def *ordered, prefix string, always bool) []field {
	var rows []field
	for _, base := range def.at("allOf").list() {
		if name := refName(base); name != "" {
			rows = merge(rows, r.fields(r.defs.at(name), prefix, always))
		}
	}
	for _, name := range def.at("required").words() {
		for i := range rows {
			rows[i].always = rows[i].always || always && rows[i].name == prefix+name
		}
	}
	required := r.required(def)
	for _, name := range def.at("properties").names() {
		property := def.at("properties").at(name)
		rows = merge(rows, r.property(property, prefix+name, always && slices.Contains(required, name)))
	}
	return rows
}

// required are the names that an object has to have by itself or by what it is made of.
func (r *referenceOf) required(def *ordered) []string {
	names := def.at("required").words()
	for _, base := range def.at("allOf").list() {
		if name := refName(base); name != "" {
			names = append(names, r.required(r.defs.at(name))...)
		}
	}
	return names
}

func (r *referenceOf) property(p *ordered, name string, always bool) []field {
	if p.scalar != nil {
		return nil // false: a field that this one has not
	}
	about := r.describe(p)
	target := p
	if ref := refName(p); ref != "" {
		target = r.defs.at(ref)
		if variant, ok := variants[ref]; ok {
			return []field{{name, variant, about, always}}
		}
		if slices.Contains(parts, ref) {
			return []field{{name, fmt.Sprintf("[%s](#%s)", ref, strings.ToLower(ref)), about, always}}
		}
	}
	if items := target.at("items"); items != nil && items.at("properties") != nil {
		return append([]field{{name, "array", about, always}}, r.fields(items, name+"[].", false)...)
	}
	if (name == "client" || name == "server") && refName(p) == "" {
		return r.end(p, name, about, always)
	}
	if rows := r.fields(target, name+".", always); len(rows) > 0 {
		if about != "" && rows[0].about == "" {
			rows[0].about = about
		}
		return rows
	}
	return []field{{name, r.value(p, name), about, always}}
}

// end holds the place of an end of which only the event says what it is made of.
func (r *referenceOf) end(p *ordered, name, about string, always bool) []field {
	required := p.at("required").words()
	return []field{
		{name + ".address", "", about, always && slices.Contains(required, "address")},
		{name + ".port", "", "", always && slices.Contains(required, "port")},
	}
}

// describe is an own description, else that of what is referred to.
func (r *referenceOf) describe(p *ordered) string {
	if text := p.at("description"); text != nil {
		return fmt.Sprint(text.scalar)
	}
	if ref := refName(p); ref != "" {
		return r.describe(r.defs.at(ref))
	}
	return ""
}

// value is what a field holds.
func (r *referenceOf) value(p *ordered, name string) string {
	ref := refName(p)
	switch {
	case ref == "address":
		return "IPv4 or IPv6 address"
	case ref == "time":
		return "time"
	case ref == "portRange":
		return "array of two ports"
	case ref == "nanoseconds":
		return "integer, ns"
	case ref != "":
		return r.value(r.defs.at(ref), name)
	case p.at("const") != nil:
		return fmt.Sprintf("`%v`", p.at("const").scalar)
	case p.at("enum") != nil:
		return "`" + strings.Join(p.at("enum").words(), "`, `") + "`"
	case p.at("type") != nil:
		return fmt.Sprint(p.at("type").scalar)
	}
	r.t.Errorf("%s: the schema gives no type that the reference knows", name)
	return ""
}

func refName(p *ordered) string {
	if ref := p.at("$ref"); ref != nil {
		return strings.TrimPrefix(fmt.Sprint(ref.scalar), "#/$defs/")
	}
	return ""
}

// merge replaces rows of the same name and appends the others. What holds a place keeps its description, and
// what was required stays so.
func merge(rows, more []field) []field {
	for _, f := range more {
		i := slices.IndexFunc(rows, func(r field) bool { return r.name == f.name })
		if i < 0 {
			rows = append(rows, f)
			continue
		}
		if f.about == "" || rows[i].value == "" && rows[i].about != "" {
			f.about = rows[i].about
		}
		f.always = f.always || rows[i].always
		rows[i] = f
	}
	return rows
}
