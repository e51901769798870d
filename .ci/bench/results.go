// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// results are what was measured, in the file that the page is made of. Each mode replaces its own part.
type results struct {
	Loads   map[string]*series `json:",omitempty"`
	Offered *offered           `json:",omitempty"`
	Growth  *growth            `json:",omitempty"`
	Long    *long              `json:",omitempty"`
	Guests  []guest            `json:",omitempty"`
}

// series is a load and what each tool made of it.
type series struct {
	Machine machine
	Rate    float64 `json:",omitempty"` // operations a second; 0: as fast as it goes
	Tools   []measured
}

type measured struct {
	Tool   string
	Names  string `json:",omitempty"`
	Ours   bool   `json:",omitempty"`
	Unable string `json:",omitempty"` // why it could not run here
	Turns  []turn `json:",omitempty"`
}

func (s *series) of(tool string) *measured {
	for i := range s.Tools {
		if s.Tools[i].Tool == tool {
			return &s.Tools[i]
		}
	}
	return nil
}

// machine is where and when something was measured.
type machine struct {
	Date      string
	Kernel    string
	CPU       string
	CPUs      int
	MemoryMB  int
	Busy      float64 // share of its CPUs that others used, just before
	Looptrace string
}

func thisMachine(binary string) machine {
	m := machine{Date: time.Now().UTC().Format(time.DateOnly), CPUs: runtime.NumCPU(), CPU: cpuModel()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.MemoryMB = int(uint64(info.Totalram) * uint64(info.Unit) >> 20)
	}
	m.Busy = busyShare()
	if out, err := exec.Command(binary, "--version").Output(); err == nil {
		words := strings.Fields(string(out))
		m.Looptrace = words[len(words)-1]
	}
	return m
}

// quiet is how much others may use: more, and figures are not held against the bars.
const quiet = 0.1

// busyShare looks for two seconds at what all CPUs do.
func busyShare() float64 {
	look := func() (used, all float64) {
		fs, err := procfs.NewDefaultFS()
		if err != nil {
			return 0, 0
		}
		stat, err := fs.Stat()
		if err != nil {
			return 0, 0
		}
		t := stat.CPUTotal
		used = t.User + t.Nice + t.System + t.IRQ + t.SoftIRQ
		return used, used + t.Idle + t.Iowait
	}
	used, all := look()
	time.Sleep(2 * time.Second)
	usedThen, allThen := look()
	return math.Round(100*(usedThen-used)/max(allThen-all, 1)) / 100
}

func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// readResults gives none where there is no file.
func readResults(path string) (*results, error) {
	r := &results{Loads: map[string]*series{}}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	if err := in.Decode(r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// write replaces the file as a whole.
func (r *results) write(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
