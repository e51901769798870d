// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckKernel(t *testing.T) {
	for release, ok := range map[string]bool{
		"4.19.0-27-amd64":    false,
		"5.4.0":              false,
		"5.7.19":             false,
		"5.8.0":              true,
		"5.10.0-32-amd64":    true,
		"6.18.1":             true,
		"10.0-rc1":           true,
		"a kernel of my own": true, // not known to be older: loading will tell
	} {
		t.Run(release, func(t *testing.T) {
			c := checkKernel(release)
			if c.OK != ok {
				t.Errorf("OK = %v, want %v", c.OK, ok)
			}
			if !ok && (c.Hint == "" || !strings.Contains(c.Detail, release)) {
				t.Errorf("an old kernel needs its name and a hint: %+v", c)
			}
		})
	}
}

func TestUnavailable(t *testing.T) {
	old := checkKernel("4.19.0")
	bpf := Check{Name: "CAP_BPF", Detail: "missing, needed to load programs", Hint: "run as root: sudo looptrace"}
	perfmon := Check{Name: "CAP_PERFMON", Detail: "missing, needed to attach them", Hint: bpf.Hint}
	for name, tc := range map[string]struct {
		err        UnavailableError
		text, hint string
	}{
		"old kernel": {
			UnavailableError{missing: []Check{old}},
			"cannot trace here: kernel 4.19.0 is older than 5.8, which brought the BPF ring buffer",
			"use a kernel of 5.8 or later (5.10 or later is tested)",
		},
		"capabilities, one hint": {
			UnavailableError{missing: []Check{bpf, perfmon}},
			"cannot trace here: CAP_BPF missing, needed to load programs; CAP_PERFMON missing, needed to attach them",
			"run as root: sudo looptrace",
		},
		"nothing known to be missing": {
			UnavailableError{cause: errors.Join(errors.New("fentry: no"), errors.New("kprobe: no"))},
			"cannot trace here: fentry: no; kprobe: no",
			"run `looptrace doctor` for what each hook form met",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got, want := tc.err.Error(), tc.text+" → "+tc.hint; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestKernelDiagnose: every form that doctor calls available must open, and one must be chosen.
func TestKernelDiagnose(t *testing.T) {
	needRoot(t)
	r := Diagnose()
	if r.Chosen == "" {
		t.Fatalf("no form works: %+v", r.Forms)
	}
	tr := start(t, Config{})
	rec := of(tr.rec.records(t), "start")
	tr.finish()
	if len(rec) != 1 || rec[0].at("hooks") != string(r.Chosen) {
		t.Errorf("auto took %v, doctor chose %s", rec, r.Chosen)
	}
}
