// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"slices"
	"strings"
)

// UnavailableError: looptrace cannot run here, for want of a privilege or of something in the
// kernel. Its text is one line that names what is missing.
type UnavailableError struct {
	missing []Check // the failed checks
	cause   error
}

// Error names what is missing and what to do about it; where the checks find nothing, what the kernel
// answered.
func (e *UnavailableError) Error() string {
	if len(e.missing) == 0 {
		return "cannot trace here: " + oneLine(e.cause) + " → " + e.advice()
	}
	var parts []string
	for _, c := range e.missing {
		parts = append(parts, c.Name+" "+c.Detail)
	}
	return "cannot trace here: " + strings.Join(parts, "; ") + " → " + e.advice()
}

// advice says what to do about it.
func (e *UnavailableError) advice() string {
	var parts []string
	for _, c := range e.missing {
		if c.Hint != "" && !slices.Contains(parts, c.Hint) {
			parts = append(parts, c.Hint)
		}
	}
	if len(parts) == 0 {
		return "run `looptrace doctor` for what each hook form met"
	}
	return strings.Join(parts, "; ")
}

func (e *UnavailableError) Unwrap() error { return e.cause }

// lookNeeds names the checks on what a look needs, which attaches nothing.
var lookNeeds = []string{"kernel", "BTF", "CAP_BPF", "CAP_PERFMON", "memlock", "lockdown"}

// unavailable explains why loading failed by what the host lacks, of what is needed; of everything where no check
// is named.
func unavailable(cause error, needs ...string) error {
	if cause == nil {
		return nil
	}
	e := &UnavailableError{cause: cause}
	for _, c := range hostChecks() {
		if !c.OK && !c.advice && (len(needs) == 0 || slices.Contains(needs, c.Name)) {
			e.missing = append(e.missing, c)
		}
	}
	return e
}
