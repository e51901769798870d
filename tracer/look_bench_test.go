// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"testing"

	"github.com/cilium/ebpf"
)

// BenchmarkKernelLook is what a look at the table of open files costs on this host as it is.
func BenchmarkKernelLook(b *testing.B) {
	h, err := openForm(hookForms()[0], func(spec *ebpf.CollectionSpec) error { return configure(spec, Config{}) })
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := h.rows("it_ports", sockSize, func([]byte) {}); err != nil {
			b.Fatal(err)
		}
	}
}
