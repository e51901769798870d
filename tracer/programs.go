// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// formPrefixes says which programs of the object belong to a form, besides those of every form
// ("tp_", "it_"). The names are <form>_<kernel function>.
var formPrefixes = map[Form][]string{
	Fentry:     {"fe_"},
	Kprobe:     {"kp_", "kr_"},
	Tracepoint: {"se_", "sx_", "cg_"},
}

// tracepointOnly are the programs on BTF tracepoints that stand in for what a kernel function shows
// the other forms.
var tracepointOnly = []string{"tp_uring_cqe", "tp_uring_res", "tp_send", "tp_send_twin"}

// optional are the programs without which a record or a field is missing, but nothing is wrong.
// Each names what is lost, for doctor.
var optional = map[string]string{
	"tp_error":        "refused UDP datagrams (tracepoint inet_sk_error_report, since 5.14)",
	"tp_send":         "first datagrams of connected UDP sockets (tracepoint sock_send_length, since 6.3)",
	"tp_send_twin":    "first datagrams of connected UDP sockets (tracepoint sock_send_length, since 6.3)",
	"tp_uring_cqe":    "io_uring (tracepoint io_uring_complete)",
	"tp_uring_res":    "io_uring (tracepoint io_uring_complete)",
	"tp_moved":        "the container or unit that a process is moved into without an exec (kernel built without cgroups)",
	"fe_receive":      "who holds a socket since it was passed on, within a second (kernel built without security modules)",
	"kp_receive":      "who holds a socket since it was passed on, within a second (kernel built without security modules)",
	"fe_inet6_bind":   "IPv6 (kernel built without it, or as a module)",
	"fe_v6_connect":   "IPv6 (kernel built without it, or as a module)",
	"fe_udp6_sendmsg": "IPv6 (kernel built without it, or as a module)",
	"fe_udp6_sent":    "IPv6 (kernel built without it, or as a module)",
}

// alternatives are the programs of which each kernel takes one or the other.
var alternatives = map[string]bool{
	"fe_listen": true, "fe_listen_2": true,
	"fe_relisten": true, "fe_relisten_sk": true, "kp_relisten": true, "kp_relisten_sk": true,
}

// kernelTypes answers what the running kernel has, from its BTF.
type kernelTypes struct{ spec *btf.Spec }

func loadKernelTypes() (*kernelTypes, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, err
	}
	return &kernelTypes{spec}, nil
}

// params gives the number of parameters of a function, -1 where the kernel has no such function.
func (k *kernelTypes) params(function string) int {
	var fn *btf.Func
	if err := k.spec.TypeByName(function, &fn); err != nil {
		return -1
	}
	proto, ok := fn.Type.(*btf.FuncProto)
	if !ok {
		return -1
	}
	return len(proto.Params)
}

// tracepointParams gives the number of arguments of a tracepoint, -1 where there is none. The
// first parameter of its BTF type is the private data pointer.
func (k *kernelTypes) tracepointParams(name string) int {
	var def *btf.Typedef
	if err := k.spec.TypeByName("btf_trace_"+name, &def); err != nil {
		return -1
	}
	ptr, ok := def.Type.(*btf.Pointer)
	if !ok {
		return -1
	}
	proto, ok := ptr.Target.(*btf.FuncProto)
	if !ok {
		return -1
	}
	return len(proto.Params) - 1
}

// fits says whether a program is for this kernel, where kernels differ.
func (k *kernelTypes) fits(name string, spec *ebpf.ProgramSpec) bool {
	switch name {
	case "fe_listen":
		return k.params("inet_csk_listen_start") == 1
	case "fe_listen_2":
		return k.params("inet_csk_listen_start") == 2
	case "fe_relisten", "kp_relisten":
		return k.params("__inet_listen_sk") < 0
	case "fe_relisten_sk", "kp_relisten_sk":
		return k.params("__inet_listen_sk") >= 0
	case "kp_receive":
		return k.params(spec.AttachTo) >= 0
	case "tp_uring_cqe":
		return k.tracepointParams("io_uring_complete") == 3
	case "tp_uring_res":
		return k.tracepointParams("io_uring_complete") > 4
	}
	switch spec.AttachType {
	case ebpf.AttachTraceRawTp:
		return k.tracepointParams(spec.AttachTo) >= 0
	case ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit:
		return k.params(spec.AttachTo) >= 0
	}
	return true
}

// errAbsent: a function or tracepoint that a form cannot do without.
var errAbsent = errors.New("the kernel has no such function or tracepoint")

// choose removes from the object every program that the form or this kernel does not use, and
// lists what is lost by that, each thing once and in order.
func choose(spec *ebpf.CollectionSpec, form Form, kernel *kernelTypes) (missing []string, err error) {
	for name, prog := range spec.Programs {
		if !belongs(name, form) {
			delete(spec.Programs, name)
			continue
		}
		if kernel.fits(name, prog) {
			continue
		}
		delete(spec.Programs, name)
		if what, ok := optional[name]; ok && !hasOther(name, kernel) {
			missing = append(missing, what)
		} else if !ok && !alternatives[name] {
			return nil, fmt.Errorf("%s: %w", prog.AttachTo, errAbsent)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing), nil
}

// hasOther says whether the program of the same hook for other kernels fits this one.
func hasOther(name string, kernel *kernelTypes) bool {
	n := kernel.tracepointParams("io_uring_complete")
	return name == "tp_uring_cqe" && n > 4 || name == "tp_uring_res" && n == 3
}

func belongs(name string, form Form) bool {
	if strings.HasPrefix(name, "it_") {
		return true
	}
	for _, only := range tracepointOnly {
		if name == only {
			return form == Tracepoint
		}
	}
	if strings.HasPrefix(name, "tp_") {
		return true
	}
	for _, prefix := range formPrefixes[form] {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
