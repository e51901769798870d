// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
)

// eventPrefix makes the kinds of records names that no other program has.
const eventPrefix = "looptrace."

// parse makes a log record of a JSON line: the keys joined with dots are the attributes, as the format promises.
// Lists are lists of maps. Numbers are integers: the format has no others.
func parse(line []byte) (log.Record, error) {
	p := parser{json.NewDecoder(bytes.NewReader(line)), nil, log.Record{}}
	p.decoder.UseNumber()
	if _, err := p.decoder.Token(); err != nil { // {
		return p.record, err
	}
	if err := p.object("", p.top); err != nil {
		return p.record, fmt.Errorf("read record: %w", err)
	}
	p.record.AddAttributes(p.attrs...)
	return p.record, nil
}

type parser struct {
	decoder *json.Decoder
	attrs   []attribute.KeyValue
	record  log.Record
}

// object gives each field down to its values to take, until the object ends.
func (p *parser) object(under string, take func(name string, value attribute.Value)) error {
	for p.decoder.More() {
		key, err := p.decoder.Token()
		if err != nil {
			return err
		}
		name := under + key.(string) // the decoder lets no other key through
		token, err := p.decoder.Token()
		if err != nil {
			return err
		}
		if token == json.Delim('{') {
			if err := p.object(name+".", take); err != nil {
				return err
			}
			continue
		}
		value, err := p.value(token)
		if err != nil {
			return err
		}
		take(name, value)
	}
	_, err := p.decoder.Token() // }
	return err
}

func (p *parser) value(token json.Token) (attribute.Value, error) {
	switch v := token.(type) {
	case string:
		return attribute.StringValue(v), nil
	case bool:
		return attribute.BoolValue(v), nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return attribute.Int64Value(n), nil
		}
		f, err := v.Float64()
		return attribute.Float64Value(f), err
	case json.Delim:
		return p.list()
	default:
		return attribute.Value{}, nil // null
	}
}

// list reads an array's elements.
func (p *parser) list() (attribute.Value, error) {
	var list []attribute.Value
	for p.decoder.More() {
		token, err := p.decoder.Token()
		if err != nil {
			return attribute.Value{}, err
		}
		var value attribute.Value
		if token == json.Delim('{') {
			var fields []attribute.KeyValue
			err = p.object("", func(name string, v attribute.Value) {
				fields = append(fields, attribute.KeyValue{Key: attribute.Key(name), Value: v})
			})
			value = attribute.MapValue(fields...)
		} else {
			value, err = p.value(token)
		}
		if err != nil {
			return attribute.Value{}, err
		}
		list = append(list, value)
	}
	_, err := p.decoder.Token() // ]
	return attribute.SliceValue(list...), err
}

// top puts a field where a log record has it.
func (p *parser) top(name string, value attribute.Value) {
	switch name {
	case "time":
		at, err := time.Parse(time.RFC3339Nano, value.AsString())
		if err == nil {
			p.record.SetTimestamp(at)
			p.record.SetObservedTimestamp(at)
		}
	case "level":
		p.record.SetSeverityText(value.AsString())
		p.record.SetSeverity(severities[value.AsString()])
	case "event":
		// Also as an attribute: many stores drop the event's name.
		event := eventPrefix + value.AsString()
		p.record.SetEventName(event)
		p.attrs = append(p.attrs, attribute.String("event.name", event))
	case "message":
		p.record.SetBody(value)
	default:
		p.attrs = append(p.attrs, attribute.KeyValue{Key: attribute.Key(name), Value: value})
	}
}

var severities = map[string]log.Severity{"info": log.SeverityInfo, "warn": log.SeverityWarn, "error": log.SeverityError}
