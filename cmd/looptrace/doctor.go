// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/looptrace/looptrace/tracer"
)

// doctorCommand is `looptrace doctor`.
func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "say what this kernel and these privileges allow, and what to do about the rest",
		Description: `It tries what a run would do and reports what it saw: each thing that tracing needs, which
form of kernel hooks is used and why not a better one. Exits with 0 if looptrace can run here,
with 3 if not.`,
		Action: doctor,
	}
}

func doctor(c *cli.Context) error {
	p := parser{given: given{c}}
	format := p.word("output", plainFormats, formatText)
	if p.err != nil {
		return p.err
	}
	report := tracer.Diagnose()
	write := writeDoctorText
	if format == formatJSON {
		write = writeDoctorJSON
	}
	if err := write(c.App.Writer, report); err != nil {
		return err
	}
	if report.Chosen == "" {
		return statusError(exitUnavailable) // all is said
	}
	return nil
}

func writeDoctorText(w io.Writer, r tracer.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Linux %s, %s\n\n", r.Kernel, r.Arch)
	width := 0
	for _, c := range r.Checks {
		width = max(width, len(c.Name))
	}
	for _, f := range r.Forms {
		width = max(width, len("hooks ")+len(f.Form))
	}
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-4s %-*s  %s\n", mark(c.OK), width, c.Name, c.Detail)
		if !c.OK && c.Hint != "" {
			fmt.Fprintf(&b, "     %*s  → %s\n", width, "", c.Hint)
		}
	}
	for _, f := range r.Forms {
		fmt.Fprintf(&b, "%-4s %-*s  %s\n", mark(f.Available), width, "hooks "+string(f.Form), f.Why)
	}
	if r.Chosen == "" {
		b.WriteString("\nlooptrace cannot run here.\n")
	} else {
		fmt.Fprintf(&b, "\nlooptrace can run here, with %s hooks.\n", r.Chosen)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func mark(ok bool) string {
	if ok {
		return "ok"
	}
	return "no"
}

// The report in JSON, apart from the tracer's own types: its names are for scripts to rely on.
type (
	doctorReport struct {
		Kernel string        `json:"kernel"`
		Arch   string        `json:"arch"`
		Hooks  string        `json:"hooks,omitempty"` // absent: cannot run
		Forms  []doctorForm  `json:"forms"`
		Checks []doctorCheck `json:"checks"`
	}
	doctorForm struct {
		Form      string `json:"form"`
		Available bool   `json:"available"`
		Why       string `json:"why,omitempty"`
	}
	doctorCheck struct {
		Name   string `json:"name"`
		OK     bool   `json:"ok"`
		Detail string `json:"detail,omitempty"`
		Hint   string `json:"hint,omitempty"`
	}
)

func writeDoctorJSON(w io.Writer, r tracer.Report) error {
	out := doctorReport{Kernel: r.Kernel, Arch: r.Arch, Hooks: string(r.Chosen), Forms: []doctorForm{}, Checks: []doctorCheck{}}
	for _, f := range r.Forms {
		out.Forms = append(out.Forms, doctorForm{Form: string(f.Form), Available: f.Available, Why: f.Why})
	}
	for _, c := range r.Checks {
		out.Checks = append(out.Checks, doctorCheck{Name: c.Name, OK: c.OK, Detail: c.Detail, Hint: c.Hint})
	}
	return json.NewEncoder(w).Encode(out)
}
