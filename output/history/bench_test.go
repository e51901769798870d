// SPDX-License-Identifier: Apache-2.0

package history

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

// For make bench-history. Without them the test is a small one.
var (
	benchRows   = flag.Int("rows", 30_000, "records of the busy host's store")
	benchStore  = flag.String("store", "", "where it is built, unless it is there already (default a temporary file)")
	benchBinary = flag.String("looptrace", "", "time this looptrace explain over it")
)

// TestBusyHost: of a busy host's store, each port's records are found, all of them and no others.
func TestBusyHost(t *testing.T) {
	path := *benchStore
	if path == "" {
		path = filepath.Join(t.TempDir(), "history.db")
	}
	if _, err := os.Stat(path); err != nil {
		began := time.Now()
		wrote, err := buildStore(path, *benchRows)
		if err != nil {
			t.Fatal(err)
		}
		if *benchBinary == "" {
			foundAll(t, path, wrote)
			return
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("built in %v, %d MB", time.Since(began).Round(time.Second), info.Size()>>20)
	}
	if *benchBinary != "" {
		timeExplain(t, path)
	}
}

// buildStore writes a busy host's last 13 days, and says how many records of which port.
func buildStore(path string, rows int) (map[uint16]int, error) {
	db, err := create(path, mostLogPages)
	if err != nil {
		return nil, err
	}
	d := &disk{path: path, db: db, inode: inodeAt(path)}
	defer d.close()
	encoder := newEncoder()
	wrote := map[uint16]int{}
	var batch []row
	until := time.Now().Add(-time.Minute)
	h := newBusyHost(until.Add(-13*24*time.Hour), func(r *flow.Record) error {
		b, err := encoder.row(r)
		batch = append(batch, b)
		wrote[uint16(b.port.Int32)]++
		if b.clientPort.Valid && b.clientPort.Int32 != b.port.Int32 {
			wrote[uint16(b.clientPort.Int32)]++
		}
		if len(batch) == 10000 {
			err = errors.Join(err, d.write(batch))
			batch = batch[:0]
		}
		return err
	})
	err = h.live(until, rows)
	return wrote, errors.Join(err, d.write(batch))
}

func foundAll(t *testing.T, path string, wrote map[uint16]int) {
	t.Helper()
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for port, want := range wrote {
		if port >= 32768 && port%100 != 0 {
			continue // clients' ports are many, and each has some
		}
		got := 0
		for _, err := range r.Lines(t.Context(), Query{Port: port}) {
			if err != nil {
				t.Fatal(err)
			}
			got++
		}
		if port != 0 && got != want {
			t.Errorf("port %d has %d records, want %d", port, got, want)
		}
	}
}

// timeExplain prints how long answers take, the start of the process included: those of a member of the group, who has
// the store alone, and root's, with the look at the live state.
func timeExplain(t *testing.T, path string) {
	const rounds, unknown, picked, nobody = 15, 7, 49342, 65534 // a small store may not have the picked port
	at := time.Now().Add(-5*24*time.Hour - 30*time.Minute).UTC().Format(time.RFC3339)
	fmt.Println("| port | now: median | slowest | CPU | `--at` five days ago: median | slowest | CPU | now, as root: median | slowest | CPU |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, kind := range []struct {
		name string
		port int
	}{
		{"the busiest service", busyPort},
		{"a quiet service", busyPort + 7*(hostServices-1)},
		{"refused, never there", deadPort},
		{"clients' and tests'", picked},
		{"unknown", unknown},
	} {
		fmt.Printf("| %s |", kind.name)
		for _, way := range []struct {
			uid  uint32
			args []string
		}{{uid: nobody}, {uid: nobody, args: []string{"--at", at}}, {}} {
			var took, cpu []time.Duration
			for range rounds {
				cmd := exec.Command(*benchBinary, append([]string{"explain", "--store", path, strconv.Itoa(kind.port)}, way.args...)...)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: way.uid, Gid: uint32(os.Getgid())}}
				began := time.Now()
				out, err := cmd.Output()
				took = append(took, time.Since(began))
				const nothingKnown = 4
				if err != nil && (kind.port != unknown && kind.port != picked || cmd.ProcessState.ExitCode() != nothingKnown) {
					t.Fatalf("explain %d: %v, %s", kind.port, err, out)
				}
				cpu = append(cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
			}
			slices.Sort(took)
			slices.Sort(cpu)
			fmt.Printf(" %d ms | %d ms | %d ms |", took[rounds/2].Milliseconds(), took[rounds-1].Milliseconds(), cpu[rounds/2].Milliseconds())
		}
		fmt.Println()
	}
}
