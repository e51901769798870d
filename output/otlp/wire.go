// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"
)

// wire notes what the receiver answered: of the exporter's errors nobody can tell whether to try again, nor how many
// records of a request were refused.
type wire struct {
	*http.Transport
	answer answer // to the last request
}

func newWire(cfg *tls.Config) *wire {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = cfg
	return &wire{Transport: transport}
}

// answer is zero where none came.
type answer struct {
	status     int
	retryAfter time.Duration
	rejected   int
	problem    string // what the receiver says about those that it rejected
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

// maxAnswer bounds what is read of an answer; it has a sentence in it.
const maxAnswer = 1 << 20

// RoundTrip sends a request. A redirect is an answer like any other: OTLP has none.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 3 {
		resp.Body.Close()
		return nil, fmt.Errorf("the receiver redirects to %q", resp.Header.Get("Location"))
	}
	w.answer.status = resp.StatusCode
	w.answer.retryAfter = retryAfter(resp.Header.Get("Retry-After"))
	if !w.answer.ok() {
		return resp, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	resp.Body.Close()
	var answered collogs.ExportLogsServiceResponse
	if err == nil && resp.Header.Get("Content-Type") == "application/x-protobuf" && proto.Unmarshal(body, &answered) == nil {
		w.answer.rejected = int(answered.GetPartialSuccess().GetRejectedLogRecords())
		w.answer.problem = answered.GetPartialSuccess().GetErrorMessage()
	}
	resp.Body = io.NopCloser(bytes.NewReader(nil)) // it is understood
	return resp, nil
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
