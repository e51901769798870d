// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	tests := []struct {
		name, flag, env string
		want            string // the URL; "": does not send
	}{
		{"nothing", "", "", ""},
		{"a flag", "http://127.0.0.1:4318", "", "http://127.0.0.1:4318/v1/logs"},
		{"a flag with a path", "https://loki/otlp/", "", "https://loki/otlp/v1/logs"},
		{"a flag with the whole path", "http://h:1/v1/logs", "", "http://h:1/v1/logs"},
		{"the flag goes first", "http://flag", "OTEL_EXPORTER_OTLP_ENDPOINT=http://env", "http://flag/v1/logs"},
		{"a variable", "", "OTEL_EXPORTER_OTLP_ENDPOINT=http://env:4318/x", "http://env:4318/x/v1/logs"},
		{"a variable for logs, as it is", "", "OTEL_EXPORTER_OTLP_ENDPOINT=http://env OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=http://logs/x", "http://logs/x"},
		{"switched off", "", "OTEL_EXPORTER_OTLP_ENDPOINT=http://env OTEL_SDK_DISABLED=true", ""},
		{"no logs", "", "OTEL_EXPORTER_OTLP_ENDPOINT=http://env OTEL_LOGS_EXPORTER=none", ""},
		{"asked for all the same", "http://flag", "OTEL_SDK_DISABLED=true", "http://flag/v1/logs"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, ok, err := ReadConfig(test.flag, environment(test.env))
			if err != nil || ok != (test.want != "") || c.URL != test.want {
				t.Errorf("got %q, %v, %v; want %q", c.URL, ok, err, test.want)
			}
		})
	}
}

func TestConfigErrors(t *testing.T) {
	tests := []struct{ name, flag, env, want string }{
		{"no scheme", "127.0.0.1:4318", "", "--otlp: not the URL"},
		{"another scheme", "grpc://h:4317", "", "--otlp: not the URL"},
		{"no host", "http://:4318", "", "--otlp: not the URL"},
		{"a password", "http://u:hunter2@h", "", "--otlp: a URL with a password"},
		{"a broken password", "http://u:hunter2%@h", "", "--otlp: not the URL"},
		{"a query", "http://h/?a=b", "", "--otlp: a URL with a query"},
		{"a variable", "", "OTEL_EXPORTER_OTLP_ENDPOINT=h:1", "OTEL_EXPORTER_OTLP_ENDPOINT: not the URL"},
		{"grpc", "http://h", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", `OTEL_EXPORTER_OTLP_PROTOCOL "grpc": looptrace speaks`},
		{"compression", "http://h", "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION=zstd", `OTEL_EXPORTER_OTLP_LOGS_COMPRESSION "zstd": unknown value`},
		{"time", "http://h", "OTEL_EXPORTER_OTLP_TIMEOUT=10s", `OTEL_EXPORTER_OTLP_TIMEOUT "10s": not a time`},
		{"a header without a value", "http://h", "OTEL_EXPORTER_OTLP_HEADERS=hunter2", "OTEL_EXPORTER_OTLP_HEADERS: not headers"},
		{"a header that is not escaped", "http://h", "OTEL_EXPORTER_OTLP_LOGS_HEADERS=a=hunter2%", "OTEL_EXPORTER_OTLP_LOGS_HEADERS: not headers"},
		{"queue", "http://h", "OTEL_BLRP_MAX_QUEUE_SIZE=0", `OTEL_BLRP_MAX_QUEUE_SIZE "0": not a count`},
		{"no certificate", "http://h", "OTEL_EXPORTER_OTLP_CERTIFICATE=/no/such", `OTEL_EXPORTER_OTLP_CERTIFICATE "/no/such": no such file`},
		{"not a certificate", "http://h", "OTEL_EXPORTER_OTLP_CERTIFICATE=config.go", `OTEL_EXPORTER_OTLP_CERTIFICATE "config.go": no certificate in it`},
		{"a key alone", "http://h", "OTEL_EXPORTER_OTLP_CLIENT_KEY=k", "one without the other"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, ok, err := ReadConfig(test.flag, environment(test.env))
			var setting *SettingError
			if !errors.As(err, &setting) || ok || !strings.HasPrefix(err.Error(), test.want) && !strings.Contains(err.Error(), test.want) || setting.Hint() == "" {
				t.Errorf("got %v, hint %v; want %q", err, setting, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("the password is in the message")
			}
		})
	}
}

func environment(text string) func(string) string {
	env := map[string]string{}
	for pair := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return func(name string) string { return env[name] }
}

func TestPodOf(t *testing.T) {
	tests := []struct{ name, path, want string }{
		{"systemd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f8a6c1e_1b2c_4d3e_8f90_a1b2c3d4e5f6.slice/cri-containerd-ab.scope", "0f8a6c1e-1b2c-4d3e-8f90-a1b2c3d4e5f6"},
		{"cgroupfs", "/kubepods/besteffort/pod0f8a6c1e-1b2c-4d3e-8f90-a1b2c3d4e5f6/ab", "0f8a6c1e-1b2c-4d3e-8f90-a1b2c3d4e5f6"},
		{"podman", "/machine.slice/libpod_pod_ab.slice/libpod-cd.scope", ""},
		{"none", "/user.slice/user-0.slice/session-1.scope", ""},
		{"own root", "/", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := podOf(test.path); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
