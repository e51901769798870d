// SPDX-License-Identifier: Apache-2.0

package output

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/looptrace/looptrace/tracer/flow"
)

// TestJSONLongLines: the contract's 16 KiB hold for the longest names that the kernel allows, and the
// line stays one of the schema.
func TestJSONLongLines(t *testing.T) {
	validator := compileSchema(t)
	for _, letter := range []string{"x", `\`, "\x1b", "\xff", "\u009b", "\U0010ffff"} {
		for name, r := range map[string]*flow.Record{
			"refused": longRefusal(letter), "in use": longHolder(letter),
			"no free port": longPorts(letter), "accepted": longAccept(letter),
		} {
			t.Run(fmt.Sprintf("%s %q", name, letter), func(t *testing.T) {
				r.Time = sampleTime
				line := lineOf(t, openJSON, r)
				if len(line)+1 > maxLine {
					t.Errorf("%d bytes", len(line)+1)
				}
				if err := validator.Validate(decodeRecord(t, line)); err != nil {
					t.Errorf("%v\n%s", err, line)
				}
				if !strings.Contains(line, "(shared by 500)") {
					t.Error("the message miscounts")
				}
				if strings.Contains(line, "ancestors") {
					t.Error("ancestors are kept")
				}
				if ecs := lineOf(t, openECS, r); len(ecs)+1 > maxLine {
					t.Errorf("%d bytes in ECS", len(ecs)+1)
				}
			})
		}
	}
}

// longActor has the longest of everything, of one letter, and shares its socket with 500 of its kind.
func longActor(letter string) flow.Actor {
	const (
		maxComm  = 15
		maxFile  = 255
		maxPath  = 4095
		maxArgs  = 1024
		maxOwner = 32
	)
	p := *sampleClient().P
	p.Comm = cutText(strings.Repeat(letter, maxComm), maxComm)
	p.ExeName = cutText(strings.Repeat(letter, maxFile), maxFile)
	p.ExePath = cutText(strings.Repeat(letter, maxPath), maxPath)
	p.CommandLine = cutText(strings.Repeat(letter, maxArgs), maxArgs)
	p.Owner = cutText(strings.Repeat(letter, maxOwner), maxOwner)
	p.Unit = p.ExeName
	p.Container = flow.Container{ID: p.ExeName, Runtime: "systemd-nspawn", Name: p.ExeName}
	p.Ancestors = nil
	for range 8 {
		p.Ancestors = append(p.Ancestors, flow.Ancestor{PID: 1 << 22, ExeName: p.ExeName})
	}
	a := flow.Actor{P: &p, Attribution: "shared", Thread: "thread"}
	for range 500 {
		a.Holders = append(a.Holders, flow.Actor{P: &p, Attribution: "snapshot"})
	}
	return a
}

func longRefusal(letter string) *flow.Record {
	a := longActor(letter)
	r := fail(sampleConn("connect", localhost6, a, flow.Actor{}), syscall.ECONNREFUSED)
	r.Conn.Server.Holders = a.Holders
	r.Conn.LastListener = &flow.LastListener{
		Process: a, Since: sampleTime, Until: sampleTime, Reason: "exit", Exit: flow.Exit{Known: true, Signal: 37},
	}
	for range 8 {
		r.Conn.Nearby = append(r.Conn.Nearby, flow.Nearby{Address: localhost4, Port: 49342, Process: a, Netns: otherNetns, Because: "netns"})
	}
	return r
}

func longHolder(letter string) *flow.Record {
	a := longActor(letter)
	r := fail(sampleSock("bind", localhost6, 49342, a), syscall.EADDRINUSE)
	request(r.Sock, 49342)
	r.Sock.Holder = &flow.Holder{Kind: flow.HolderListener, Address: localhost6, Port: 49342, Process: a}
	return r
}

func longPorts(letter string) *flow.Record {
	a := longActor(letter)
	r := fail(sampleConn("connect", localhost6, a, flow.Actor{}), syscall.EADDRNOTAVAIL)
	r.Conn.EphemeralPorts = &flow.EphemeralPorts{Low: 32768, High: 60999, InUse: 28232}
	for range 5 {
		r.Conn.EphemeralPorts.Top = append(r.Conn.EphemeralPorts.Top, flow.PortUser{Process: a, Count: 1})
	}
	return r
}

func longAccept(letter string) *flow.Record {
	a := longActor(letter)
	r := sampleConn("accept", localhost6, a, a)
	r.Conn.Listener = a
	return r
}

// TestJSONLongCommandLines: command lines alone do not cost the paths.
func TestJSONLongCommandLines(t *testing.T) {
	client := sampleActor(1, 0, "sh", strings.Repeat("\x01", 1024))
	r := fail(sampleConn("connect", localhost4, client, client), syscall.ECONNREFUSED)
	r.Conn.Nearby = []flow.Nearby{{Address: localhost4, Port: 1, Process: client, Because: "address"}}
	line := lineOf(t, openJSON, r)
	if got := strings.Count(line, `\u0001`); got != 3*shortCommandLine {
		t.Errorf("%d bytes of command lines, want %d", got, 3*shortCommandLine)
	}
	if !strings.Contains(line, `"path":"/usr/bin/sh"`) {
		t.Errorf("no path: %s", line)
	}
}

// TestJSONShortensACopy: the record is the table's.
func TestJSONShortensACopy(t *testing.T) {
	r := longRefusal("x")
	lineOf(t, openJSON, r)
	if got := len(r.Conn.Client.Process.P.CommandLine); got != 1024 {
		t.Errorf("command line of %d bytes", got)
	}
	if got := len(r.Conn.Nearby[0].Process.Holders); got != 500 {
		t.Errorf("%d holders", got)
	}
}

func TestJSONLongFilters(t *testing.T) {
	r := &flow.Record{Event: "start", Time: sampleTime, Start: &flow.StartRecord{
		PID:   samplePID,
		Hooks: "fentry", Kernel: "6.12", Version: "1.0.0", Host: "box", BootID: "3f2c1b0a-9d8e-4c7b-a6f5-0123456789ab",
		Filters: map[string]any{"port": make([]int, 20_000), "failed": true},
	}}
	line := lineOf(t, openJSON, r)
	if len(line) > 2000 || !strings.Contains(line, `"failed":true`) {
		t.Errorf("%d bytes: %s", len(line), line)
	}
	if err := compileSchema(t).Validate(decodeRecord(t, line)); err != nil {
		t.Error(err)
	}
}
