// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/looptrace/looptrace/tracer/flow"
)

// verifierLimit is half of what the kernel's verifier takes on before it refuses a program
// (BPF_COMPLEXITY_LIMIT_INSNS).
const verifierLimit = 500_000

// TestKernelVerifier: no program comes near the verifier's limit. It logs what each cost, which the
// report of the kernels compares with what it cost before.
func TestKernelVerifier(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form) {
		costs := map[string]verifierCost{}
		for _, cfg := range []Config{{}, everyFilter()} {
			measure(t, form, cfg, costs)
		}
		measureList(t, costs)
		for name, c := range costs {
			t.Logf("verifier: %s %d %d", name, c.instructions, c.states)
			if c.instructions > verifierLimit {
				t.Errorf("%s: the verifier looked at %d instructions, more than %d", name, c.instructions, verifierLimit)
			}
		}
	})
}

// verifierCost is what verifying a program took: instructions looked at, states held at once.
type verifierCost struct{ instructions, states int }

var verifierStats = regexp.MustCompile(`processed (\d+) insns .* peak_states (\d+)`)

// measure loads a form's programs and keeps the most that each cost.
func measure(t *testing.T, form Form, cfg Config, costs map[string]verifierCost) {
	t.Helper()
	_ = rlimit.RemoveMemlock() // as openForm
	kernel, err := loadKernelTypes()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := loadLooptrace()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := choose(spec, form, kernel); err != nil {
		t.Fatal(err)
	}
	if err := configure(spec, cfg); err != nil {
		t.Fatal(err)
	}
	load(t, spec, costs)
}

// measureList does so for the program of a look, which no form has.
func measureList(t *testing.T, costs map[string]verifierCost) {
	t.Helper()
	spec, err := listSpec(ListConfig{})
	if err != nil {
		t.Fatal(err)
	}
	load(t, spec, costs)
}

func load(t *testing.T, spec *ebpf.CollectionSpec, costs map[string]verifierCost) {
	t.Helper()
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	if err != nil {
		t.Fatal(err)
	}
	defer coll.Close()
	for name, prog := range coll.Programs {
		m := verifierStats.FindStringSubmatch(prog.VerifierLog)
		if m == nil {
			t.Fatalf("%s: no statistics in the verifier's log: %q", name, prog.VerifierLog)
		}
		instructions, _ := strconv.Atoi(m[1])
		states, _ := strconv.Atoi(m[2])
		was := costs[name]
		costs[name] = verifierCost{max(was.instructions, instructions), max(was.states, states)}
	}
}

// everyFilter has every filter that the kernel side knows, at its longest: constants of a filter that is
// not asked for cut its code away before it is verified.
func everyFilter() Config {
	var f flow.Filter
	for i := range filterValues {
		n := uint32(i + 1)
		f.Ports.Include, f.Ports.Exclude = append(f.Ports.Include, uint16(n)), append(f.Ports.Exclude, uint16(n+100))
		f.PIDs.Include, f.PIDs.Exclude = append(f.PIDs.Include, n), append(f.PIDs.Exclude, n+100)
		f.UIDs.Include, f.UIDs.Exclude = append(f.UIDs.Include, n), append(f.UIDs.Exclude, n+100)
		f.Netns.Include, f.Netns.Exclude = append(f.Netns.Include, n), append(f.Netns.Exclude, n+100)
		f.Comms.Include = append(f.Comms.Include, fmt.Sprint("a", n))
	}
	f.Comms.Exclude = slices.Repeat([]string{"b"}, filterValues)
	f.Containers = flow.Set[string]{Include: []string{"a"}, Exclude: []string{"b"}}
	f.Tree, f.Failed, f.Local = true, true, true
	return Config{Filter: f}
}
