// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"os"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/looptrace/looptrace/tracer/flow"
)

// newResource says who sends: looptrace, on this host, in its container if it is in one. What OTEL_SERVICE_NAME and
// OTEL_RESOURCE_ATTRIBUTES say comes before that.
func newResource(ctx context.Context, version string) (*resource.Resource, error) {
	attrs := []attribute.KeyValue{semconv.ServiceName("looptrace"), semconv.OSTypeLinux}
	if version != "" {
		attrs = append(attrs, semconv.ServiceVersion(version))
	}
	if host, err := os.Hostname(); err == nil && host != "" {
		attrs = append(attrs, semconv.HostName(host))
	}
	if id := machineID(); id != "" {
		attrs = append(attrs, semconv.HostID(id))
	}
	attrs = append(attrs, ownContainer()...)
	res, err := resource.New(ctx, resource.WithSchemaURL(semconv.SchemaURL), resource.WithAttributes(attrs...), resource.WithFromEnv())
	if err != nil {
		return nil, &SettingError{
			"OTEL_RESOURCE_ATTRIBUTES", "", "cannot be read",
			"give key=value pairs with commas between them, such as deployment.environment.name=test",
		}
	}
	return res, nil
}

// machineID is what machine-id(5) has, "" where this machine has none.
func machineID() string {
	text, _ := os.ReadFile("/etc/machine-id")
	id := strings.TrimSpace(string(text))
	if len(id) != 32 {
		return "" // systemd's "uninitialized"
	}
	return id
}

func ownContainer() []attribute.KeyValue {
	text, _ := os.ReadFile("/proc/self/cgroup")
	var attrs []attribute.KeyValue
	for line := range strings.Lines(string(text)) {
		_, path, _ := strings.Cut(strings.TrimSpace(line), "::") // cgroup v2's
		container, _ := flow.ParseCgroup(path)
		if container.ID != "" {
			attrs = append(attrs, semconv.ContainerID(container.ID))
		}
		if uid := podOf(path); uid != "" {
			attrs = append(attrs, semconv.K8SPodUID(uid))
		}
	}
	return attrs
}

// podOf takes the UID of a Kubernetes pod from a cgroup's path: "…/kubepods/burstable/pod<uid>/…" of the cgroupfs
// driver, "…/kubepods-burstable-pod<uid with _ for ->.slice/…" of systemd's. It is "" in no pod, and of a static pod,
// whose UID is no UUID.
func podOf(path string) string {
	const uuidLength = 36
	for part := range strings.SplitSeq(path, "/") {
		part = strings.TrimSuffix(part, ".slice")
		i := strings.LastIndex(part, "pod")
		if i < 0 || i > 0 && !strings.HasPrefix(part, "kubepods-") {
			continue
		}
		uid := strings.ReplaceAll(part[i+len("pod"):], "_", "-")
		if len(uid) == uuidLength && strings.Count(uid, "-") == 4 {
			return uid
		}
	}
	return ""
}
