// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

// TestChooseMissing: several programs bring the same thing; where all are left out, it is named once, and
// always in the same order.
func TestChooseMissing(t *testing.T) {
	for name, tc := range map[string]struct {
		programs map[string]*ebpf.ProgramSpec
		want     []string
	}{
		"io_uring of 5.10": {
			map[string]*ebpf.ProgramSpec{
				"tp_uring_cqe": rawTracepoint("io_uring_complete"),
				"tp_uring_res": rawTracepoint("io_uring_complete"),
				"tp_send":      rawTracepoint("sock_send_length"),
			},
			[]string{optional["tp_send"], optional["tp_uring_cqe"]},
		},
		"nothing": {map[string]*ebpf.ProgramSpec{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := choose(&ebpf.CollectionSpec{Programs: tc.programs}, Tracepoint, bareKernel(t))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func rawTracepoint(name string) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: name}
}

// bareKernel has BTF with no function and no tracepoint in it.
func bareKernel(t *testing.T) *kernelTypes {
	t.Helper()
	b, err := btf.NewBuilder([]btf.Type{&btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return &kernelTypes{spec}
}

// TestAtomics: kernels before 5.12 know one atomic instruction, add without its result, and refuse the
// object for any other. The compiler makes those of additions too.
func TestAtomics(t *testing.T) {
	for _, spec := range objects(t) {
		for name, prog := range spec.Programs {
			for i := range prog.Instructions {
				if op := prog.Instructions[i].OpCode.AtomicOp(); op != asm.InvalidAtomic && op != asm.AddAtomic {
					t.Errorf("%s, instruction %d: %v", name, i, prog.Instructions[i])
				}
			}
		}
	}
}

// objects gives what the compiler made of the kernel side: of a run, and of a look.
func objects(t *testing.T) []*ebpf.CollectionSpec {
	t.Helper()
	run, err := loadLooptrace()
	look, lookErr := loadLook()
	if err = errors.Join(err, lookErr); err != nil {
		t.Fatal(err)
	}
	return []*ebpf.CollectionSpec{run, look}
}
