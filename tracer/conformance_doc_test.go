// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const docPath = "../docs/conformance.md"

// TestConformanceDoc: the table says what the scenes declare.
func TestConformanceDoc(t *testing.T) {
	want := conformanceDoc()
	if *update {
		if err := os.MkdirAll(filepath.Dir(docPath), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(docPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("%s is stale; rewrite it with go test ./tracer -run TestConformanceDoc -update (-want +got):\n%s", docPath, d)
	}
}

const docHead = `# What is recorded, scene by scene

Written by the conformance suite (tracer/conformance_*_test.go) from what its scenes declare; do not edit. Each
scene is a small real program, and each hook form that the kernel has must record exactly these lines of it: no more,
no less. A process is shown by its name in the scene, a port by a capital; (snapshot) and (shared …) say how a
process is known where that is not by its own call. Fields that are not listed are checked too where every record
has them: times, ids, order, and for each process its program, command line, parent, user and start.

● all of it · ◐ less, as said below the table

| scene | what happens | fentry | kprobe | tracepoint |
| --- | --- | --- | --- | --- |
`

func conformanceDoc() string {
	var b, notes, rows strings.Builder
	b.WriteString(docHead)
	for _, sc := range allScenes() {
		fmt.Fprintf(&b, "| [%s](#%s) | %s |", sc.name, sc.name, sc.does)
		for _, form := range []Form{Fentry, Kprobe, Tracepoint} {
			mark := "●"
			if d, ok := sc.differs[form]; ok {
				mark = "◐"
				fmt.Fprintf(&notes, "- %s, %s: %s.\n", sc.name, form, d.why)
			}
			fmt.Fprintf(&b, " %s |", mark)
		}
		b.WriteString("\n")
		fmt.Fprintf(&rows, "\n### %s\n\n%s.\n\n", sc.name, strings.ToUpper(sc.does[:1])+sc.does[1:])
		writeRows(&rows, sc.want)
		for _, form := range []Form{Fentry, Kprobe, Tracepoint} {
			if d, ok := sc.differs[form]; ok {
				fmt.Fprintf(&rows, "\nIn the %s form, because %s:\n\n", form, d.why)
				writeRows(&rows, d.want)
			}
		}
	}
	fmt.Fprintf(&b, "\n## What a form cannot see\n\n%s%s\n## The lines\n%s", notes.String(), docUnknown, rows.String())
	return b.String()
}

// docUnknown is what no form sees, which scenes show by its absence.
const docUnknown = `- Every form: a listener that was passed on (SCM_RIGHTS, pidfd_getfd) is its former holder's alone for up to a
  second: the passing is seen, and who holds it since is looked up (shared_by_scm_rights). io_uring's recvmsg is not
  seen by the tracepoint form: there it takes until the next look.
- Every form: a datagram of a socket that is not connected is never told to have met a dead port, by the kernel's own
  rule (udp_refused_unconnected).
`

func writeRows(b *strings.Builder, rows []string) {
	if len(rows) == 0 {
		b.WriteString("Nothing.\n")
		return
	}
	for _, r := range rows {
		fmt.Fprintf(b, "    %s\n", r)
	}
}
