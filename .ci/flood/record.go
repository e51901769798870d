// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// kept is what the store has of the load.
type kept struct {
	connects, closes int // one by one
	folded           int // counted together
	bytes            int // that clients sent, as closes and counts have them
	lost             int
	rows             int
}

// flood runs looptrace record under the load, in a store of its own, and compares what it kept with what
// happened. It is an error if a connection is in the store neither by itself nor in a count.
func flood(w io.Writer, binary string, length time.Duration, ports int) error {
	dir, err := os.MkdirTemp("", "flood")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := startLoad(length, ports)
	if err != nil {
		return err
	}
	store, said := filepath.Join(dir, "history.db"), filepath.Join(dir, "stderr")
	stderr, err := os.Create(said)
	if err != nil {
		return err
	}
	defer stderr.Close()
	cmd := exec.Command(binary, "record", "--store", store, "--no-snapshot", "--max-size", "100000", "--netns", fmt.Sprintf("/proc/%d/ns/net", l.cmd.Process.Pid))
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := await(said, "recording into"); err != nil {
		_ = cmd.Process.Kill()
		text, _ := os.ReadFile(said)
		return errors.Join(err, cmd.Wait(), errors.New(string(text)))
	}
	spent := cpuOf(cmd.Process.Pid)
	conns, took, err := l.run()
	if err != nil {
		return err
	}
	time.Sleep(time.Second)                // what is under way is still its turn
	wrote, _ := writtenBy(cmd.Process.Pid) // the end clears SQLite's log once more
	_ = cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		return err
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	cpu := time.Duration(usage.Utime.Nano()+usage.Stime.Nano()) - spent
	has, err := readStore(binary, store)
	if err != nil {
		return err
	}
	size := int64(0)
	if info, err := os.Stat(store); err == nil {
		size = info.Size()
	}
	n := float64(conns)
	fmt.Fprintln(w, "| ports | connections | a second | one by one | counted together | lost | CPU µs/conn | written, bytes/conn | store, bytes/conn | peak MB |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	fmt.Fprintf(w, "| %d | %d | %.0f | %d | %d | %d | %.1f | %.0f | %.0f | %.0f |\n", ports, conns, n/took.Seconds(), has.connects, has.folded, has.lost,
		float64(cpu.Nanoseconds())/1000/n, float64(wrote)/n, float64(size)/n, float64(usage.Maxrss<<10)/1e6)
	if has.connects+has.folded != conns || has.closes != has.connects || has.bytes != conns || has.lost != 0 {
		return fmt.Errorf("of %d connections and as many bytes the store has %+v", conns, has)
	}
	return nil
}

// await returns when a file has a text.
func await(path, text string) error {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		has, err := os.ReadFile(path)
		if err != nil || bytes.Contains(has, []byte(text)) {
			return err
		}
	}
	return errors.New("not ready within 30 s")
}

// writtenBy is what a process had the kernel write (proc_pid_io(5)).
func writtenBy(pid int) (n int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(text, []byte("\nwrite_bytes: "))
	_, err = fmt.Sscan(string(after), &n)
	return n, err
}

func readStore(binary, store string) (has kept, err error) {
	cmd := exec.Command(binary, "log", "--store", store, "-o", "json")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return has, err
	}
	if err := cmd.Start(); err != nil {
		return has, err
	}
	err = eachLine(out, func(line []byte) {
		var r struct {
			Event string
			Count int
			Bytes struct {
				Sent int `json:"client_to_server"`
			}
		}
		if json.Unmarshal(line, &r) != nil {
			return
		}
		has.rows++
		has.bytes += r.Bytes.Sent
		switch r.Event {
		case "connect":
			has.connects++
		case "close":
			has.closes++
		case "summary":
			has.folded += r.Count
		case "lost":
			has.lost += r.Count
		}
	})
	return has, errors.Join(err, cmd.Wait())
}
