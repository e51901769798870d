// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// socket is what all three tell sockets of a network namespace apart by. IPv4 through an IPv6 socket is IPv4.
type socket struct {
	proto         string
	local, remote netip.AddrPort // remote is not valid where there is none
}

func (s socket) String() string {
	if !s.remote.IsValid() {
		return s.proto + " " + s.local.String()
	}
	return s.proto + " " + s.local.String() + " → " + s.remote.String()
}

// view is what a program says of each socket.
type view map[socket]entry

type entry struct {
	state string // as ss and lsof have it; of ls, the event
	pids  []int  // sorted
}

func (v view) add(s socket, e entry) {
	old := v[s]
	e.pids = append(e.pids, old.pids...)
	slices.Sort(e.pids)
	e.pids = slices.Compact(e.pids)
	v[s] = e
}

func output(argv ...string) ([]byte, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", argv, err)
	}
	return out, nil
}

type process struct {
	PID     int       `json:"pid"`
	Holders []process `json:"holders"`
}

func (p process) pids() (all []int) {
	for _, h := range append(p.Holders, p) {
		if h.PID != 0 {
			all = append(all, h.PID)
		}
	}
	return all
}

type end struct {
	Address netip.Addr `json:"address"`
	Port    uint16     `json:"port"`
	Process process    `json:"process"`
}

func (e end) at() netip.AddrPort { return netip.AddrPortFrom(e.Address, e.Port) }

// byLooptrace gives what ls says of this namespace, and how many records it has of others.
func byLooptrace(binary string) (v view, others int, err error) {
	out, err := output(binary, "ls", "--all", "-o", "json")
	if err != nil {
		return nil, 0, err
	}
	var here syscall.Stat_t
	if err := syscall.Stat("/proc/self/ns/net", &here); err != nil {
		return nil, 0, err
	}
	v = view{}
	for line := range bytes.Lines(out) {
		var r struct {
			end
			Event          string
			Netns          uint64
			Network        struct{ Transport string }
			Client, Server end
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", line, err)
		}
		proto := r.Network.Transport
		switch {
		case r.Netns != here.Ino:
			others++
		case r.Event == "connect":
			v.add(socket{proto, r.Client.at(), r.Server.at()}, entry{"client", r.Client.Process.pids()})
			v.add(socket{proto, r.Server.at(), r.Client.at()}, entry{"server", r.Server.Process.pids()})
		default:
			v.add(socket{proto, r.at(), netip.AddrPort{}}, entry{r.Event, r.Process.pids()})
		}
	}
	return v, others, nil
}

// timeWaits gives those of ls as text.
func timeWaits(binary string) (view, error) {
	out, err := output(binary, "ls", "--all", "--netns", "/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	v := view{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 5 || f[0] != "time_wait" {
			continue
		}
		local, err := netip.ParseAddrPort(f[2])
		if err != nil {
			return nil, err
		}
		remote, err := netip.ParseAddrPort(f[4])
		if err != nil {
			return nil, err
		}
		v.add(socket{f[1], local, remote}, entry{state: f[0]})
	}
	return v, nil
}

var ssPID = regexp.MustCompile(`pid=(\d+)`)

func bySS() (view, error) {
	out, err := output("ss", "-tanpH")
	if err != nil {
		return nil, err
	}
	v := view{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			return nil, fmt.Errorf("ss says %q", line)
		}
		s := socket{proto: "tcp"}
		if s.local, err = place(f[3], "::"); err != nil {
			return nil, err
		}
		if !strings.HasSuffix(f[4], ":*") {
			if s.remote, err = place(f[4], "::"); err != nil {
				return nil, err
			}
		}
		var pids []int
		for _, m := range ssPID.FindAllStringSubmatch(line, -1) {
			pid, _ := strconv.Atoi(m[1])
			pids = append(pids, pid)
		}
		v.add(s, entry{f[0], pids})
	}
	return v, nil
}

func byLsof() (view, error) {
	out, err := output("lsof", "-nP", "-i", "-FpPtnT")
	if err != nil {
		return nil, err
	}
	v := view{}
	var pid int
	var family, proto string
	for line := range strings.Lines(string(out)) {
		value := strings.TrimSuffix(line[1:], "\n")
		switch line[0] {
		case 'p':
			pid, err = strconv.Atoi(value)
		case 't':
			family = value
		case 'P':
			proto = strings.ToLower(value)
		case 'n':
			any := map[string]string{"IPv4": "0.0.0.0", "IPv6": "::"}[family]
			local, remote, connected := strings.Cut(value, "->")
			s := socket{proto: proto}
			s.local, err = place(local, any)
			if connected && err == nil {
				s.remote, err = place(remote, any)
			}
			v.add(s, entry{pids: []int{pid}})
		}
		if err != nil {
			return nil, fmt.Errorf("lsof says %q: %w", line, err)
		}
	}
	return v, nil
}

// place reads an address and a port; a * stands for any.
func place(text, any string) (netip.AddrPort, error) {
	if port, ok := strings.CutPrefix(text, "*:"); ok {
		text = "[" + any + "]:" + port
		if any == "0.0.0.0" {
			text = any + ":" + port
		}
	}
	at, err := netip.ParseAddrPort(text)
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), err
}
