// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer"
)

// The exit codes, all of them. Scripts rely on the numbers.
const (
	exitOK          = 0
	exitFailed      = 1 // while running
	exitUsage       = 2
	exitUnavailable = 3 // cannot run here: privilege or kernel
	exitUnknown     = 4 // explain: nothing is known about the target
	exitLost        = 5 // --strict, and events were lost

	// What `run` says about its command, as a shell does.
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // plus the signal's number
)

// usageError is a command line that cannot be understood: what is wrong with it, and what to type.
type usageError struct{ message, advice string }

func (e *usageError) Error() string { return e.message }

// Hint says what to try next.
func (e *usageError) Hint() string { return e.advice }

func usagef(hint, format string, args ...any) error {
	return &usageError{message: visible(fmt.Sprintf(format, args...)), advice: hint}
}

// deniedError: whoever runs looptrace may not do what was asked.
type deniedError struct {
	err    error
	advice string
}

func (e *deniedError) Error() string { return e.err.Error() }

// Hint says what to try next.
func (e *deniedError) Hint() string { return e.advice }

func (e *deniedError) Unwrap() error { return e.err }

// visible escapes a text that has in it what a terminal would act on: arguments may be anybody's words. What
// is quoted in it already stays as it is.
func visible(text string) string {
	for _, r := range text { // U+FFFD is what bytes that are no UTF-8 are read as
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			return string(output.Escape(nil, text))
		}
	}
	return text
}

// statusError carries the exit code of the command that `run` started. There is nothing to say about it.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// lostError ends a --strict run.
type lostError uint64

func (e lostError) Error() string { return fmt.Sprintf("%d events were lost", uint64(e)) }

// Hint says what to try next.
func (lostError) Hint() string {
	return "a filter (TARGET, --port, --event …) makes tracing cheaper; without --strict a loss is only reported"
}

// exitCode says how the process ends, and whether the error has to be said.
func exitCode(err error) (code int, say bool) {
	var (
		usage       *usageError
		unavailable *tracer.UnavailableError
		status      statusError
		lost        lostError
		unknown     unknownError
		noSource    *noSourceError
		denied      *deniedError
	)
	switch {
	case err == nil:
		return exitOK, false
	case errors.As(err, &lost): // before the others: it holds however the run ended
		return exitLost, true
	case errors.As(err, &status):
		return int(status), false
	case errors.Is(err, syscall.EPIPE): // nobody reads any more: the end that `| head` asks for
		return exitOK, false
	case errors.As(err, &usage):
		return exitUsage, true
	case errors.As(err, &unknown):
		return exitUnknown, true
	case errors.As(err, &unavailable), errors.As(err, &noSource), errors.As(err, &denied):
		return exitUnavailable, true
	default:
		return exitFailed, true
	}
}

// finish says what went wrong, if that is to be said, and gives the exit code.
func finish(stderr io.Writer, err error) int {
	code, say := exitCode(err)
	if say {
		complain(stderr, err)
	}
	return code
}

// complain writes an error, and below it what to do about it.
func complain(stderr io.Writer, err error) {
	lines := strings.Split(err.Error(), "\n") // joined errors
	for i := range lines {
		lines[i] = visible(lines[i])
	}
	fmt.Fprintf(stderr, "looptrace: %s\n", strings.Join(lines, "\n"))
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hinted.Hint())
	}
}
