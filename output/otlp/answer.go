// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// answer is what the receiver said to a request.
type answer struct {
	status     int
	retryAfter time.Duration
	rejected   int
	problem    string // in its words
}

func (a answer) ok() bool { return a.status/100 == 2 }

// final says whether the same request would be refused again.
//
// See https://opentelemetry.io/docs/specs/otlp/#failures-1.
func (a answer) final() bool {
	switch a.status {
	case 0, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	default:
		return !a.ok()
	}
}

// err is why the records did not all arrive.
func (a answer) err() error {
	text := a.problem
	if !a.ok() {
		text = fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
		if a.problem != "" {
			text += ": " + a.problem
		}
	}
	return errors.New(text)
}

// maxAnswer bounds what is read of an answer; it has a sentence in it.
const maxAnswer = 64 << 10

// readAnswer reads a response to its end, so that its connection serves again. A redirect is none: OTLP has no redirects.
func readAnswer(resp *http.Response) (answer, error) {
	defer resp.Body.Close()
	if resp.StatusCode/100 == 3 {
		return answer{}, fmt.Errorf("the receiver redirects to %q", resp.Header.Get("Location"))
	}
	a := answer{status: resp.StatusCode, retryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a, nil // the status has come, and says what became of the records
	}
	const (
		partialSuccess, rejectedRecords, errorMessage protowire.Number = 1, 1, 2 // ExportLogsServiceResponse
		statusMessage                                 protowire.Number = 2       // google.rpc.Status
	)
	switch isProto := resp.Header.Get("Content-Type") == "application/x-protobuf"; {
	case isProto && a.ok():
		_, partial := field(body, partialSuccess)
		rejected, _ := field(partial, rejectedRecords)
		_, problem := field(partial, errorMessage)
		a.rejected, a.problem = int(rejected), string(problem)
	case isProto:
		_, problem := field(body, statusMessage)
		a.problem = string(problem)
	case !a.ok():
		a.problem = firstLine(body)
	}
	return a, nil
}

// firstLine is what a person reads of a page that some proxy wrote.
func firstLine(body []byte) string {
	const width = 200
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	return strings.ToValidUTF8(line[:min(len(line), width)], "")
}

// field gives a field of a message, as a number or as bytes; zero where it has none, or is no message.
func field(message []byte, want protowire.Number) (n uint64, b []byte) {
	for len(message) > 0 {
		number, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return 0, nil
		}
		message = message[size:]
		if number == want && kind == protowire.VarintType {
			n, _ = protowire.ConsumeVarint(message)
			return n, nil
		}
		if number == want && kind == protowire.BytesType {
			b, _ = protowire.ConsumeBytes(message)
			return 0, b
		}
		if size = protowire.ConsumeFieldValue(number, kind, message); size < 0 {
			return 0, nil
		}
		message = message[size:]
	}
	return 0, nil
}

// maxRetryAfter bounds what a receiver can ask for.
const maxRetryAfter = 5 * time.Minute

// retryAfter is zero where the header has no number of seconds.
func retryAfter(header string) time.Duration {
	seconds, err := strconv.ParseUint(header, 10, 16)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}
