// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// hooks is the object of one form, loaded and attached.
type hooks struct {
	form    Form
	coll    *ebpf.Collection
	links   []io.Closer
	missing []string // what this kernel cannot show in this form
}

// openHooks loads and attaches the form that is asked for, with Auto the first that does both.
// Its error joins what each form failed with.
func openHooks(want Form, configure func(*ebpf.CollectionSpec) error) (*hooks, error) {
	forms := []Form{want}
	if want == Auto || want == "" {
		forms = []Form{Fentry, Kprobe, Tracepoint}
	}
	var errs []error
	for _, form := range forms {
		h, err := openForm(form, configure)
		if err == nil {
			return h, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", form, err))
	}
	return nil, unavailable(errors.Join(errs...))
}

func openForm(form Form, configure func(*ebpf.CollectionSpec) error) (_ *hooks, err error) {
	// Before 5.11 maps count against RLIMIT_MEMLOCK; where they do and it stays low, loading says so.
	_ = rlimit.RemoveMemlock()
	kernel, err := loadKernelTypes()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's types: %w", err)
	}
	if form == Kprobe && !exists("/sys/bus/event_source/devices/kprobe") {
		return nil, errNoKprobes
	}
	spec, err := loadLooptrace()
	if err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	h := &hooks{form: form}
	if h.missing, err = choose(spec, form, kernel); err != nil {
		return nil, err
	}
	if err := configure(spec); err != nil {
		return nil, err
	}
	for _, prog := range spec.Programs {
		// No kernel looks at it since 5.0 (6c4fc209fcf9). To find it, the library reads /proc/self/mem, which
		// a program with file capabilities may not.
		prog.KernelVersion = 5 << 16
	}
	if h.coll, err = ebpf.NewCollection(spec); err != nil {
		return nil, fmt.Errorf("load: %w", firstRefused(spec, err))
	}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	var files kernelFiles
	if form == Tracepoint {
		if files, err = openKernelFiles(); err != nil {
			return nil, err
		}
		defer files.Close()
	}
	// State changes last: nothing is folded before every owner is known.
	for _, last := range []bool{false, true} {
		for _, name := range slices.Sorted(maps.Keys(spec.Programs)) { // in order: what fails first is told
			prog := spec.Programs[name]
			if strings.HasPrefix(name, "it_") || strings.HasPrefix(name, "tp_state") != last {
				continue
			}
			l, err := attach(prog, h.coll.Programs[name], files)
			if err != nil {
				return nil, fmt.Errorf("attach %s: %w", prog.AttachTo, err)
			}
			h.links = append(h.links, l)
		}
	}
	return h, nil
}

// firstRefused gives the first map or program by name that the kernel refuses. The library loads in the
// order of a Go map, and fails with whichever comes first.
func firstRefused(spec *ebpf.CollectionSpec, err error) error {
	for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			return fmt.Errorf("map %s: %w", name, err)
		}
		m.Close()
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
		one := spec.Copy()
		one.Programs = map[string]*ebpf.ProgramSpec{name: one.Programs[name]}
		coll, err := ebpf.NewCollection(one)
		if err != nil {
			return err
		}
		coll.Close()
	}
	return err // it does not happen again
}

// errNoKprobes: without this the library tries tracefs and fails with that.
var errNoKprobes = errors.New("the kernel has no kprobes (CONFIG_KPROBES)")

func attach(spec *ebpf.ProgramSpec, prog *ebpf.Program, files kernelFiles) (io.Closer, error) {
	switch spec.Type {
	case ebpf.Tracing:
		return link.AttachTracing(link.TracingOptions{Program: prog})
	case ebpf.Kprobe:
		if strings.HasPrefix(spec.SectionName, "kretprobe/") {
			return link.Kretprobe(spec.AttachTo, prog, nil)
		}
		return link.Kprobe(spec.AttachTo, prog, nil)
	case ebpf.TracePoint:
		group, name, _ := strings.Cut(spec.AttachTo, "/")
		return files.tracepoint(group, name, prog)
	default:
		return link.AttachCgroup(link.CgroupOptions{Path: files.cgroup, Attach: spec.AttachType, Program: prog})
	}
}

// missed gives how often each kprobe could not run, which the kernel counts since 6.7.
func (h *hooks) missed() map[string]uint64 {
	counts := make(map[string]uint64)
	for _, c := range h.links {
		l, ok := c.(link.Link)
		if !ok || h.form != Kprobe {
			continue
		}
		info, err := l.Info()
		if err != nil || info.PerfEvent() == nil || info.PerfEvent().Kprobe() == nil {
			continue
		}
		k := info.PerfEvent().Kprobe()
		counts[k.Function] += k.Missed
	}
	return counts
}

// Detach takes every hook off; maps and ring stay readable.
func (h *hooks) Detach() error {
	// At once: the kernel waits out a grace period for each, a second in all one after the other.
	errs := make([]error, len(h.links))
	var wg sync.WaitGroup
	for i, l := range h.links {
		wg.Go(func() { errs[i] = l.Close() })
	}
	wg.Wait()
	h.links = nil
	return errors.Join(errs...)
}

// Close detaches and frees everything.
func (h *hooks) Close() error {
	err := h.Detach()
	if h.coll != nil {
		h.coll.Close()
		h.coll = nil
	}
	return err
}

// rows runs a snapshot iterator and gives each of its rows of the given size to take. The buffer
// is used again.
func (h *hooks) rows(iterator string, size int, take func([]byte)) error {
	l, err := link.AttachIter(link.IterOptions{Program: h.coll.Programs[iterator]})
	if err != nil {
		return fmt.Errorf("attach iterator %s: %w", iterator, err)
	}
	defer l.Close()
	f, err := l.Open()
	if err != nil {
		return fmt.Errorf("open iterator %s: %w", iterator, err)
	}
	defer f.Close()
	return readRows(f, size, take)
}

// iterBuffer is one read's worth: the iterator fills at most what its caller offers, and each read
// takes the walk up anew.
const iterBuffer = 256 << 10

func readRows(f interface{ Read([]byte) (int, error) }, size int, take func([]byte)) error {
	buf := make([]byte, iterBuffer)
	have := 0
	for {
		n, err := f.Read(buf[have:])
		have += n
		whole := have / size * size
		for at := 0; at < whole; at += size {
			take(buf[at : at+size])
		}
		have = copy(buf, buf[whole:have])
		switch {
		case errors.Is(err, os.ErrClosed):
			return err
		case n == 0:
			return nil // io.EOF or an iterator that has no more
		case err != nil:
			return fmt.Errorf("read iterator: %w", err)
		}
	}
}
