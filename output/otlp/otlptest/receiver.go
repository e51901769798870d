// SPDX-License-Identifier: Apache-2.0

// Package otlptest has an OTLP receiver for tests.
package otlptest

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"
)

// Receiver is an http.Handler that takes logs in, keeps them, and answers as it is told. Its methods may be called from
// any goroutine.
type Receiver struct {
	mu       sync.Mutex
	records  []*logs.LogRecord
	resource map[string]string
	headers  http.Header
	requests int
	answer   Answer
}

// Answer writes the answer to a request of n records, which are not kept then.
type Answer func(w http.ResponseWriter, n int)

// Decode reads a request for /v1/logs.
func Decode(r *http.Request) (*collogs.ExportLogsServiceRequest, error) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		body = unpacked
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	if r.URL.Path != "/v1/logs" {
		return nil, fmt.Errorf("no logs at %s", r.URL.Path)
	}
	request := &collogs.ExportLogsServiceRequest{}
	return request, proto.Unmarshal(raw, request)
}

// ServeHTTP takes one request.
func (rc *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := Decode(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.requests++
	rc.headers = r.Header
	var got []*logs.LogRecord
	for _, of := range request.ResourceLogs {
		rc.resource = Attributes(of.Resource.Attributes)
		for _, scope := range of.ScopeLogs {
			got = append(got, scope.LogRecords...)
		}
	}
	if rc.answer != nil {
		rc.answer(w, len(got))
		return
	}
	rc.records = append(rc.records, got...)
}

// Set changes the answer; nil takes everything, as the zero Receiver does.
func (rc *Receiver) Set(answer Answer) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.answer = answer
}

// Records are those that were kept, in the order of their arrival.
func (rc *Receiver) Records() []*logs.LogRecord {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return slices.Clone(rc.records)
}

// Resource has the attributes of the last request's resource.
func (rc *Receiver) Resource() map[string]string {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return rc.resource
}

// Headers are those of the last request.
func (rc *Receiver) Headers() http.Header {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return rc.headers
}

// Requests is how many there were.
func (rc *Receiver) Requests() int {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return rc.requests
}

// Attributes gives each value as text.
func Attributes(list []*common.KeyValue) map[string]string {
	m := map[string]string{}
	for _, kv := range list {
		m[kv.Key] = Text(kv.Value)
	}
	return m
}

// Text gives a value as text: lists in brackets, maps in braces with their keys sorted.
func Text(v *common.AnyValue) string {
	switch v := v.Value.(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_IntValue:
		return fmt.Sprint(v.IntValue)
	case *common.AnyValue_BoolValue:
		return fmt.Sprint(v.BoolValue)
	case *common.AnyValue_ArrayValue:
		var parts []string
		for _, e := range v.ArrayValue.Values {
			parts = append(parts, Text(e))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case *common.AnyValue_KvlistValue:
		var parts []string
		for _, kv := range v.KvlistValue.Values {
			parts = append(parts, kv.Key+"="+Text(kv.Value))
		}
		slices.Sort(parts)
		return "{" + strings.Join(parts, " ") + "}"
	}
	return "?"
}
