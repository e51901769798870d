// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/looptrace/looptrace/output/otlp"
	"github.com/looptrace/looptrace/tracer/flow"
)

// readOTLP is where to send logs by --otlp and the environment, nil where neither says so.
func readOTLP(url string) (*otlp.Config, error) {
	cfg, ok, err := otlp.ReadConfig(url, os.Getenv)
	if err != nil {
		return nil, otlpUsage(err)
	}
	if !ok {
		return nil, nil
	}
	cfg.Version = version
	cfg.Say = func(message string) { fmt.Fprintf(os.Stderr, "looptrace: %s\n", visible(message)) }
	return &cfg, nil
}

// otlpUsage makes a wrong setting a usage error.
func otlpUsage(err error) error {
	var setting *otlp.SettingError
	if errors.As(err, &setting) {
		return usagef(setting.Hint(), "%v", err)
	}
	return err
}

// exporter is the sink of --otlp: what leaves the machine is redacted as a log file is.
type exporter struct {
	*otlp.Sink
	redact *redactor // nil: command lines as they are
}

func openOTLP(cfg otlp.Config, redact bool) (*exporter, error) {
	sink, err := otlp.Open(cfg)
	if err != nil {
		return nil, otlpUsage(err)
	}
	x := &exporter{Sink: sink}
	if redact {
		x.redact = newRedactor(flow.RedactArgs)
	}
	return x, nil
}

// Write queues a record.
func (x *exporter) Write(r *flow.Record) error {
	if x.redact != nil {
		r = x.redact.record(r)
	}
	return x.Sink.Write(r)
}
