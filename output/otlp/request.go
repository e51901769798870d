// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"compress/gzip"
	"context"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	protoresource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The numbers of the fields around log records, from opentelemetry/proto/{collector/logs,logs}/v1.
const (
	requestResources protowire.Number = 1
	resourceScopes   protowire.Number = 2
	scopeRecords     protowire.Number = 2
)

// request makes the bodies of requests: log records of one resource and one scope.
type request struct {
	resource, scope []byte // fields of a ResourceLogs and of a ScopeLogs
	gzip            *gzip.Writer
}

func newRequest(ctx context.Context, cfg Config) (*request, error) {
	res, err := newResource(ctx, cfg.Version)
	if err != nil {
		return nil, err
	}
	own := &protoresource.Resource{}
	for _, attr := range res.Attributes() { // all are text
		value := &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: attr.Value.AsString()}}
		own.Attributes = append(own.Attributes, &common.KeyValue{Key: string(attr.Key), Value: value})
	}
	r := &request{}
	if r.resource, err = proto.Marshal(&logs.ResourceLogs{Resource: own, SchemaUrl: res.SchemaURL()}); err != nil {
		return nil, err
	}
	if r.scope, err = proto.Marshal(&logs.ScopeLogs{Scope: &common.InstrumentationScope{Name: "looptrace", Version: cfg.Version}}); err != nil {
		return nil, err
	}
	if cfg.gzip {
		r.gzip = gzip.NewWriter(nil) // the fastest level takes half the time, and half as many bytes more
	}
	return r, nil
}

// body is a request with these records, which an encoder made. It is new each time: the transport may read it for longer
// than until there is an answer.
func (r *request) body(records []byte) []byte {
	scope := len(r.scope) + len(records)
	resource := len(r.resource) + protowire.SizeTag(resourceScopes) + protowire.SizeBytes(scope)
	head := protowire.AppendTag(nil, requestResources, protowire.BytesType)
	head = append(protowire.AppendVarint(head, uint64(resource)), r.resource...)
	head = protowire.AppendTag(head, resourceScopes, protowire.BytesType)
	head = append(protowire.AppendVarint(head, uint64(scope)), r.scope...)
	if r.gzip == nil {
		return append(head, records...)
	}
	var packed bytes.Buffer
	r.gzip.Reset(&packed)
	for _, part := range [][]byte{head, records} {
		_, _ = r.gzip.Write(part) // of a Buffer's errors there are none
	}
	_ = r.gzip.Close()
	return packed.Bytes()
}
