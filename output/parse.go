// SPDX-License-Identifier: Apache-2.0

package output

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/tracer/flow"
)

// Parse reads a line that JSON wrote back into a record, which has its own memory. Written again, the record
// says the same; only its message may name less. What the contract does not know is ignored, as fields are added; what has the wrong type,
// or is no record, is an error.
func Parse(text []byte) (*flow.Record, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, fmt.Errorf("parse record: %w", err)
	}
	r, err := l.record()
	if err != nil {
		return nil, fmt.Errorf("parse record: %w", err)
	}
	return r, nil
}

var errNoRecord = errors.New("it has no time and event that looptrace knows")

// line is every field that a record may have. Pointers tell what is absent from what is zero.
type line struct {
	Time        time.Time     `json:"time"`
	Level       string        `json:"level"`
	Event       string        `json:"event"`
	ID          string        `json:"id"`
	Outcome     string        `json:"outcome"`
	Error       *lineError    `json:"error"`
	Network     lineNetwork   `json:"network"`
	Port        *uint16       `json:"port"`
	Netns       uint32        `json:"netns"`
	Preexisting bool          `json:"preexisting"`
	Address     netip.Addr    `json:"address"`
	Process     *lineProcess  `json:"process"`
	Container   *lineContain  `json:"container"`
	Requested   *lineEnd      `json:"requested"`
	Ephemeral   *bool         `json:"ephemeral"`
	Range       []uint16      `json:"ephemeral_range"`
	V6Only      bool          `json:"v6only"`
	Holder      *lineHolder   `json:"holder"`
	Ports       *linePorts    `json:"ephemeral_ports"`
	Backlog     uint32        `json:"backlog"`
	Exposure    string        `json:"exposure"`
	Held        *int64        `json:"held_ns"`
	Reason      string        `json:"reason"`
	Client      *lineEnd      `json:"client"`
	Server      *lineEnd      `json:"server"`
	Duration    *int64        `json:"duration_ns"`
	Retransmits uint32        `json:"syn_retransmits"`
	Queue       *lineQueue    `json:"accept_queue"`
	Self        bool          `json:"self"`
	Last        *lineLast     `json:"last_listener"`
	Nearby      []lineNearby  `json:"nearby"`
	Listener    *lineListener `json:"listener"`
	Bytes       *lineBytes    `json:"bytes"`
	ClosedBy    string        `json:"closed_by"`
	Reset       bool          `json:"reset"`
	Accepted    *bool         `json:"accepted"`

	Count     uint64         `json:"count"`
	Handshake *lineHandshake `json:"handshake_ns"`
	First     time.Time      `json:"first"`
	LastTime  time.Time      `json:"last"`

	Hooks   string            `json:"hooks"`
	Kernel  string            `json:"kernel"`
	Version string            `json:"version"`
	Filters map[string]any    `json:"filters"`
	Host    lineName          `json:"host"`
	BootID  string            `json:"boot_id"`
	PID     int               `json:"pid"`
	Where   string            `json:"where"`
	Since   time.Time         `json:"since"`
	Counts  map[string]uint64 `json:"counts"`
	Lost    uint64            `json:"lost"`
}

type (
	lineError    struct{ Type string }
	lineNetwork  struct{ Transport, Type string }
	lineName     struct{ Name string }
	lineQueue    struct{ Length, Limit uint32 }
	lineListener struct{ Process *lineProcess }
	lineBytes    struct {
		C2S uint64 `json:"client_to_server"`
		S2C uint64 `json:"server_to_client"`
	}
	lineHandshake struct{ P50, P90, P99, Max int64 }
	lineContain   struct {
		ID      string
		Runtime lineName
		Name    string
	}
	lineEnd struct {
		Address   netip.Addr
		Port      *uint16
		Process   *lineProcess
		Container *lineContain
		Holders   []lineProcess
	}
	lineHolder struct {
		lineEnd
		Kind    string
		Since   time.Time
		State   string
		Peer    *lineEnd
		Expires *int64 `json:"expires_in_ns"`
	}
	linePorts struct {
		Range []uint16
		InUse int `json:"in_use"`
		Top   []struct {
			Process *lineProcess
			Count   int
		}
	}
	lineLast struct {
		Process      *lineProcess
		Container    *lineContain
		Since, Until time.Time
		Reason       string
		Exit         *lineExit
	}
	lineNearby struct {
		lineEnd
		Netns   uint32
		Because string
	}
	lineExit struct {
		Code   *int
		Signal string
	}
)

// record makes the record of a line.
func (l *line) record() (*flow.Record, error) {
	r := &flow.Record{
		Event: l.Event, Time: l.Time, Netns: l.Netns, Preexisting: l.Preexisting,
		IPv6: l.Network.Type == "ipv6",
	}
	if l.Time.IsZero() {
		return nil, errNoRecord
	}
	switch l.Level {
	case "warn":
		r.Level = flow.Warn
	case "error":
		r.Level = flow.Error
	}
	switch l.Network.Transport {
	case "tcp":
		r.Proto = flow.TCP
	case "udp":
		r.Proto = flow.UDP
	}
	if l.Port != nil {
		r.Port, r.HasPort = *l.Port, true
	}
	if l.ID != "" {
		id, err := strconv.ParseUint(l.ID, 36, 64)
		if err != nil {
			return nil, err
		}
		r.ID = id
	}
	if l.Error != nil {
		errno, err := errnoOf(l.Error.Type)
		if err != nil {
			return nil, err
		}
		r.Errno = errno
	}
	return r, l.fill(r)
}

// fill adds what the kind of the record has.
func (l *line) fill(r *flow.Record) (err error) {
	switch l.Event {
	case "bind", "listen", "release":
		r.Sock, err = l.socket()
	case "connect", "accept", "close":
		r.Conn, err = l.connection()
	case "summary":
		r.Summary = l.summary()
	case "start":
		r.Start = &flow.StartRecord{
			Hooks: l.Hooks, Kernel: l.Kernel, Version: l.Version, Filters: l.Filters,
			Host: l.Host.Name, BootID: l.BootID, PID: l.PID,
		}
	case "lost":
		r.Lost = &flow.LostRecord{Count: l.Count, Where: l.Where, Since: l.Since}
	case "stop":
		r.Stop = &flow.StopRecord{Counts: l.Counts, Lost: l.Lost, Duration: spanOf(l.Duration)}
	default:
		err = errNoRecord
	}
	return err
}

func (l *line) socket() (*flow.SockRecord, error) {
	s := &flow.SockRecord{
		Address: l.Address, V6Only: l.V6Only, Backlog: l.Backlog, Exposed: l.Exposure == "network",
		Held: spanOf(l.Held), Reason: l.Reason, EphemeralPorts: l.Ports.ports(),
	}
	var err error
	s.Process = l.Process.actor(l.Container)
	if l.Process != nil && l.Process.Exit != nil {
		if s.Exit, err = l.Process.Exit.exit(); err != nil {
			return nil, err
		}
	}
	if l.Requested != nil {
		s.HasRequested = true
		s.Requested = netip.AddrPortFrom(l.Requested.Address, l.Requested.port())
	}
	if l.Ephemeral != nil {
		s.Ephemeral = *l.Ephemeral
	}
	if len(l.Range) == 2 {
		s.RangeLow, s.RangeHigh = l.Range[0], l.Range[1]
	}
	s.Implicit = l.Event == "bind" && l.Outcome == "success" && l.Requested == nil && !l.Preexisting
	s.Holder = l.Holder.holder()
	return s, nil
}

func (l *line) connection() (*flow.ConnRecord, error) {
	if l.Client == nil || l.Server == nil {
		return nil, errNoRecord
	}
	c := &flow.ConnRecord{
		Client: l.Client.end(), Server: l.Server.end(), Duration: spanOf(l.Duration), Self: l.Self,
		Retransmits: l.Retransmits, EphemeralPorts: l.Ports.ports(), ClosedBy: l.ClosedBy, Reset: l.Reset,
		Accepted: l.Accepted == nil || *l.Accepted,
	}
	if l.Ephemeral != nil {
		c.HasEphemeral, c.Ephemeral = true, *l.Ephemeral
	}
	if l.Queue != nil {
		c.AcceptQueue = &flow.AcceptQueue{Length: l.Queue.Length, Limit: l.Queue.Limit}
	}
	if l.Listener != nil {
		c.Listener = l.Listener.Process.actor(nil)
	}
	if l.Bytes != nil {
		c.HasBytes, c.C2S, c.S2C = true, l.Bytes.C2S, l.Bytes.S2C
	}
	for _, n := range l.Nearby {
		c.Nearby = append(c.Nearby, flow.Nearby{
			Address: n.Address, Port: n.port(), Process: n.Process.actor(n.Container), Netns: n.Netns, Because: n.Because,
		})
	}
	if last := l.Last; last != nil {
		exit, err := last.Exit.exit()
		if err != nil {
			return nil, err
		}
		c.LastListener = &flow.LastListener{
			Process: last.Process.actor(last.Container), Since: last.Since, Until: last.Until, Reason: last.Reason, Exit: exit,
		}
	}
	return c, nil
}

func (l *line) summary() *flow.SummaryRecord {
	s := &flow.SummaryRecord{Client: l.Client.program(), Server: l.Server.program(), Count: l.Count, First: l.First, Last: l.LastTime}
	if l.Server != nil {
		s.Address = l.Server.Address
	}
	if l.Ephemeral != nil {
		s.HasEphemeral, s.Ephemeral = true, *l.Ephemeral
	}
	if l.Bytes != nil {
		s.HasBytes, s.C2S, s.S2C = true, l.Bytes.C2S, l.Bytes.S2C
	}
	if h := l.Handshake; h != nil {
		s.Handshake = flow.Handshake{P50: time.Duration(h.P50), P90: time.Duration(h.P90), P99: time.Duration(h.P99), Max: time.Duration(h.Max)}
	}
	return s
}

func (h *lineHolder) holder() *flow.Holder {
	if h == nil {
		return nil
	}
	held := &flow.Holder{
		Kind: h.Kind, Address: h.Address, Port: h.port(), Process: h.Process.actor(h.Container), Since: h.Since, State: h.State,
	}
	if h.Peer != nil {
		held.Peer = netip.AddrPortFrom(h.Peer.Address, h.Peer.port())
	}
	if h.Kind == flow.HolderTimeWait {
		held.Expires = spanOf(h.Expires)
	}
	return held
}

func (p *linePorts) ports() *flow.EphemeralPorts {
	if p == nil {
		return nil
	}
	e := &flow.EphemeralPorts{InUse: p.InUse}
	if len(p.Range) == 2 {
		e.Low, e.High = p.Range[0], p.Range[1]
	}
	for _, u := range p.Top {
		user := u.Process.actor(nil)
		e.Top = append(e.Top, flow.PortUser{Process: user, Count: u.Count})
	}
	return e
}

func (n *lineEnd) port() uint16 {
	if n.Port == nil {
		return 0
	}
	return *n.Port
}

func (n *lineEnd) end() flow.End {
	e := flow.End{Address: n.Address, Port: n.port(), HasPort: n.Port != nil, Process: n.Process.actor(n.Container)}
	e.Holders = actors(n.Holders)
	return e
}

func (n *lineEnd) program() (p flow.Program) {
	if n == nil || n.Process == nil {
		return p
	}
	p.Comm, p.ExeName = n.Process.Comm, n.Process.Executable.Name
	one := n.Process.actor(n.Container).P
	if n.Process.PID != 0 {
		p.P = one
	}
	p.HasUser, p.UID, p.Owner, p.Container = n.Process.User != nil, one.UID, one.Owner, one.Container
	return p
}

func (x *lineExit) exit() (flow.Exit, error) {
	switch {
	case x == nil:
		return flow.Exit{}, nil
	case x.Code != nil:
		return flow.Exit{Known: true, Code: *x.Code}, nil
	default:
		signal, err := signalOf(x.Signal)
		return flow.Exit{Known: err == nil, Signal: signal}, err
	}
}

// spanOf is a duration; one that is absent is not known.
func spanOf(ns *int64) time.Duration {
	if ns == nil {
		return -1
	}
	return time.Duration(*ns)
}

// maxErrno is MAX_ERRNO of include/linux/err.h.
const maxErrno = 4095

// errnoOf is appendErrno's inverse.
func errnoOf(name string) (int32, error) {
	for n := syscall.Errno(1); n < 256; n++ {
		if unix.ErrnoName(n) == name {
			return int32(n), nil
		}
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(name, "E"), 10, 16)
	if err != nil || n == 0 || n > maxErrno {
		return 0, fmt.Errorf("error.type %q: no errno", name)
	}
	return int32(n), nil
}

// signalOf is appendSignal's inverse.
func signalOf(name string) (int, error) {
	if s := unix.SignalNum(name); s != 0 {
		return int(s), nil
	}
	if name == "SIGRTMIN" {
		return sigRTMin, nil
	}
	base := 0
	digits, rt := strings.CutPrefix(name, "SIGRTMIN+")
	if rt {
		base = sigRTMin
	} else {
		digits = strings.TrimPrefix(name, "SIG")
	}
	n, err := strconv.ParseUint(digits, 10, 7)
	if err != nil {
		return 0, fmt.Errorf("exit.signal %q: no signal", name)
	}
	return base + int(n), nil
}
