// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

// explainLabels are what stands before a sentence; those that open an answer have none.
var explainLabels = map[string]string{
	flow.FindAddress: "address", flow.FindHolder: "held by", flow.FindProcess: "process", flow.FindReach: "reach",
	flow.FindOrigin: "expected", flow.FindSeen: "expected", flow.FindConnected: "connected", flow.FindVisitor: "visitors",
	flow.FindRefused: "refused", flow.FindInUse: "in use", flow.FindFailed: "failed", flow.FindBefore: "before",
	flow.FindReused: "later", flow.FindTaken: "odd", flow.FindElsewhere: "odd", flow.FindShadowed: "odd", flow.FindLocalhost: "odd", flow.FindSelf: "odd",
	flow.FindNotListening: "odd", flow.FindUnaccepted: "odd", flow.FindOwners: "odd", flow.FindPicked: "odd",
	flow.FindAdvice: "to do", flow.FindKnown: "known",
	flow.FindUnwatched: "known", flow.FindLost: "known", flow.FindFiltered: "known",
}

// labelWidth is the longest label and two spaces.
const labelWidth = 11

// ExplainText writes an answer for people, a sentence a line. The error is the writer's.
func ExplainText(to io.Writer, e *flow.Explanation, opts TextOptions) error {
	if opts.Location == nil {
		opts.Location = time.Local
	}
	w := explainWords(e, opts.Location, opts.Color)
	last := ""
	for i := range e.Findings {
		f := &e.Findings[i]
		label := explainLabel(f)
		if label != "" && last == "" && i > 0 {
			w.str("\n")
		}
		w.labelled(label, last)
		if last = label; last == "" {
			last = " " // an opening sentence was written
		}
		if label == "" {
			w.style(styleBold)
		} else if f.Level != flow.Info {
			w.style(styleYellow)
		}
		w.finding(f)
		w.style(styleNone)
		w.str("\n")
		if label == "" {
			last = ""
		}
	}
	_, err := to.Write(w.dst)
	return err
}

func explainLabel(f *flow.Finding) string {
	if f.Kind == flow.FindTimeWait && f.Why != "" {
		return "odd"
	}
	return explainLabels[f.Kind]
}

func (w *words) labelled(label, last string) {
	if label == "" {
		return
	}
	shown := label
	if label == last {
		shown = ""
	}
	w.styled(styleDim, shown)
	w.str(strings.Repeat(" ", labelWidth-len(shown)))
}

func explainWords(e *flow.Explanation, loc *time.Location, color bool) *words {
	return &words{loc: loc, now: e.Inquiry.Now, color: color, colon: ": ", inquiry: e.Inquiry}
}

// The answer in JSON, apart from the model's own types: its names are for scripts to rely on.
type (
	explainReport struct {
		Target   explainTarget     `json:"target"`
		Time     string            `json:"time"`
		Sources  explainSources    `json:"sources"`
		Now      []json.RawMessage `json:"now"`
		History  []json.RawMessage `json:"history"`
		Refused  []json.RawMessage `json:"refused"`
		LeftOut  int               `json:"left_out,omitempty"`
		Findings []explainFinding  `json:"findings"`
	}
	explainTarget struct {
		Text      string            `json:"text"`
		Endpoints []explainEndpoint `json:"endpoints"`
		At        *explainSpan      `json:"at,omitempty"`
		Since     string            `json:"since,omitempty"`
	}
	explainEndpoint struct {
		Address string `json:"address,omitempty"`
		Port    uint16 `json:"port"`
	}
	explainSpan struct {
		Since string `json:"since"`
		Until string `json:"until"`
	}
	explainSources struct {
		Live  bool          `json:"live"`
		Store *explainSince `json:"store,omitempty"`
	}
	explainSince struct {
		Since   string `json:"since"`
		Looked  string `json:"looked_since,omitempty"`
		Partial bool   `json:"partial,omitempty"` // counts are of a part of it
	}
	explainFinding struct {
		Kind    string           `json:"kind"`
		Level   string           `json:"level"`
		Message string           `json:"message"`
		Reason  string           `json:"reason,omitempty"`
		Command string           `json:"command,omitempty"`
		Address string           `json:"address,omitempty"`
		Port    uint16           `json:"port,omitempty"`
		Process *explainProcess  `json:"process,omitempty"`
		Count   uint64           `json:"count,omitempty"`
		AtLeast bool             `json:"at_least,omitempty"` // there may have been more
		Since   string           `json:"since,omitempty"`
		Until   string           `json:"until,omitempty"`
		First   string           `json:"first,omitempty"`
		Last    string           `json:"last,omitempty"`
		Every   int64            `json:"every_ns,omitempty"`
		Bytes   *explainBytes    `json:"bytes,omitempty"`
		Records []explainPointer `json:"records,omitempty"`
	}
	explainProcess struct {
		PID        uint32             `json:"pid,omitempty"`
		Creation   *explainCreation   `json:"creation,omitempty"`
		Comm       string             `json:"comm,omitempty"`
		Executable *explainExecutable `json:"executable,omitempty"`
	}
	explainCreation struct {
		Time string `json:"time"`
	}
	explainExecutable struct {
		Name string `json:"name"`
	}
	explainBytes struct {
		ClientToServer uint64 `json:"client_to_server"`
		ServerToClient uint64 `json:"server_to_client"`
	}
	// explainPointer names a record that a finding rests on: its time, kind and id are those of one in the lists.
	explainPointer struct {
		Time  string `json:"time"`
		Event string `json:"event"`
	}
)

// ExplainJSON writes an answer as one object on one line, with the contract's records in it.
func ExplainJSON(to io.Writer, e *flow.Explanation) error {
	q := e.Inquiry
	out := explainReport{
		Target:  explainTarget{Text: q.Text, Endpoints: []explainEndpoint{}, Since: timeText(q.Since)},
		Time:    timeText(q.Now),
		Sources: explainSources{Live: q.Looked},
		LeftOut: e.LeftOut,
		Now:     rawRecords(e.Now), History: rawRecords(e.History), Refused: rawRecords(e.Refused),
		Findings: []explainFinding{},
	}
	if q.OfPast() {
		out.Target.At = &explainSpan{timeText(q.At), timeText(q.AtEnd)}
	}
	if !q.Remembers.IsZero() {
		out.Sources.Store = &explainSince{timeText(q.Remembers), timeText(q.LookedFrom), q.Partial}
	}
	for _, t := range q.Targets {
		out.Target.Endpoints = append(out.Target.Endpoints, explainEndpoint{Address: addrText(t), Port: t.Port})
	}
	w := explainWords(e, nil, false)
	for i := range e.Findings {
		w.dst = w.dst[:0]
		w.finding(&e.Findings[i])
		out.Findings = append(out.Findings, findingJSON(&e.Findings[i], q.Partial, string(w.dst)))
	}
	encoder := json.NewEncoder(to)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(out)
}

func findingJSON(f *flow.Finding, partial bool, message string) explainFinding {
	out := explainFinding{
		Kind: f.Kind, Level: f.Level.String(), Message: message, Reason: f.Why, Command: f.Command,
		Address: addrText(f.Target), Port: f.Target.Port, Count: f.Count, Every: f.Every.Nanoseconds(),
	}
	switch f.Kind {
	case flow.FindConnected, flow.FindVisitor, flow.FindRefused, flow.FindInUse, flow.FindFailed, flow.FindUnaccepted:
		out.First, out.Last = timeText(f.From), timeText(f.Until)
		if out.AtLeast = partial && ofPastVisits(f); out.AtLeast {
			out.First = ""
		}
	default:
		out.Since, out.Until = timeText(f.From), timeText(f.Until)
	}
	if p := f.Process.P; p != nil {
		out.Process = &explainProcess{PID: p.PID, Comm: p.Comm}
		if p.ExeName != "" {
			out.Process.Executable = &explainExecutable{p.ExeName}
		}
		if !p.Created.IsZero() {
			out.Process.Creation = &explainCreation{timeText(p.Created)}
		}
	}
	if f.HasBytes {
		out.Bytes = &explainBytes{f.C2S, f.S2C}
	}
	for _, r := range []*flow.Record{f.Record, f.Other} {
		if r != nil {
			out.Records = append(out.Records, explainPointer{timeText(r.Time), r.Event})
		}
	}
	return out
}

// ofPastVisits says whether a finding counts what the store has: where it was too much, there may have been more.
func ofPastVisits(f *flow.Finding) bool {
	switch f.Kind {
	case flow.FindVisitor, flow.FindRefused, flow.FindInUse, flow.FindFailed:
		return f.Why != "more"
	}
	return false
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeLayout)
}

func addrText(t flow.Target) string {
	if !t.Addr.IsValid() {
		return ""
	}
	return t.Addr.String()
}

// rawRecords are the records as the stream writes them.
func rawRecords(records []*flow.Record) []json.RawMessage {
	var buf bytes.Buffer
	j := NewJSON(&buf)
	for _, r := range records {
		_ = j.Write(r) // to memory
	}
	_ = j.Flush()
	raw := make([]json.RawMessage, 0, len(records))
	for line := range bytes.Lines(buf.Bytes()) {
		raw = append(raw, json.RawMessage(bytes.TrimSuffix(line, []byte("\n"))))
	}
	return raw
}
