// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/looptrace/looptrace/tracer/flow"
)

// filterValues is FILTER_VALUES of bpf/filter.h. A longer list is left to user space.
const filterValues = 8

// Bits of bpf/filter.h, enum process_bit.
const (
	byPID = 1 << iota
	byComm
	byUser
	byTree
	byContainer
)

// configure writes the filter into the object's constants. The kernel side may let more through
// than the filter wants, never less: the finished record is judged again.
func configure(spec *ebpf.CollectionSpec, cfg Config) error {
	f := cfg.Filter
	s := setter{spec: spec}
	s.set("self_tgid", uint32(os.Getpid()))
	s.set("pidns", pidNamespace())
	s.set("any_local", f.Local)
	s.set("only_failed", f.Failed)
	s.set("want_kinds", wantKinds(f.Events))
	if cfg.Summary > 0 {
		s.set("want_kinds", ^uint32(0)) // they are counted, and choose no events
	}
	s.set("want_tcp", flag(wantsProto(f.Protos, flow.TCP)))
	s.set("want_udp", flag(wantsProto(f.Protos, flow.UDP)))
	s.set("summarize", cfg.Summary > 0)
	s.set("sends_end", spec.Programs["tp_send"] != nil)
	spec.Maps["events"].MaxEntries = ringSize(runtime.NumCPU())
	if !f.Drops() && cfg.Summary == 0 {
		spec.Maps["remains_by_end"].MaxEntries = 1 // nothing is kept from the ledger
	}
	setList(&s, "ports", portsOf(f))
	setList(&s, "not_ports", f.Ports.Exclude)
	setList(&s, "netns_list", f.Netns.Include)
	setList(&s, "not_netns_list", f.Netns.Exclude)

	var match, exclude uint8
	bit := func(asked bool, to *uint8, b uint8) {
		if asked {
			*to |= b
		}
	}
	bit(setList(&s, "pids", f.PIDs.Include), &match, byPID)
	bit(setList(&s, "not_pids", f.PIDs.Exclude), &exclude, byPID)
	bit(setList(&s, "users", f.UIDs.Include), &match, byUser)
	bit(setList(&s, "not_users", f.UIDs.Exclude), &exclude, byUser)
	bit(setList(&s, "comms", comms(f.Comms.Include)), &match, byComm)
	bit(setList(&s, "not_comms", comms(f.Comms.Exclude)), &exclude, byComm)
	bit(f.Tree, &match, byTree)
	bit(len(f.Containers.Include) > 0, &match, byContainer)
	bit(len(f.Containers.Exclude) > 0, &exclude, byContainer)
	s.set("process_bits", match)
	s.set("exclude_bits", exclude)
	return s.err
}

// ringSize is for as many processors as fill the ring, of which the reader has one: a quarter of a second's
// records of the most that each does. All of it counts as looptrace's memory, twice: it is mapped so.
func ringSize(cpus int) uint32 {
	size := uint32(8 << 20)
	for n := 4; n < cpus && size < 64<<20; n *= 2 {
		size *= 2
	}
	return size
}

// portsOf gives the ports that records may be of, where the filter says: those of targets too, if
// each has one.
func portsOf(f flow.Filter) []uint16 {
	if len(f.Ports.Include) > 0 || len(f.Targets) == 0 {
		return f.Ports.Include
	}
	var ports []uint16
	for _, target := range f.Targets {
		if target.Port == 0 {
			return nil
		}
		ports = append(ports, target.Port)
	}
	return ports
}

// initialPIDNamespace is PROC_PID_INIT_INO of include/linux/proc_ns.h.
const initialPIDNamespace = 0xEFFFFFFC

// pidNamespace gives the inode number of this process's pid namespace, 0 for the initial one.
func pidNamespace() uint32 {
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) != nil || st.Ino == initialPIDNamespace {
		return 0
	}
	return uint32(st.Ino)
}

// setter sets constants of the object and keeps the first error.
type setter struct {
	spec *ebpf.CollectionSpec
	err  error
}

func (s *setter) set(name string, value any) {
	v, ok := s.spec.Variables[name]
	if !ok {
		return // no program of this form uses it
	}
	if err := v.Set(value); err != nil && s.err == nil {
		s.err = fmt.Errorf("set %s: %w", name, err)
	}
}

// setList sets a list and its length, and says whether the kernel side filters by it.
func setList[T any](s *setter, name string, values []T) bool {
	if len(values) == 0 || len(values) > filterValues {
		return false
	}
	var list [filterValues]T
	copy(list[:], values)
	s.set(name, list)
	s.set(lengthOf[name], uint32(len(values)))
	return true
}

// lengthOf names the length that goes with each list.
var lengthOf = map[string]string{
	"ports": "n_ports", "not_ports": "n_not_ports",
	"netns_list": "n_netns", "not_netns_list": "n_not_netns",
	"pids": "n_pids", "not_pids": "n_not_pids",
	"users": "n_users", "not_users": "n_not_users",
	"comms": "n_comms", "not_comms": "n_not_comms",
}

func comms(names []string) [][16]byte {
	var list [][16]byte
	for _, name := range names {
		var c [16]byte
		copy(c[:15], name) // TASK_COMM_LEN counts the NUL
		list = append(list, c)
	}
	return list
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

func wantsProto(s flow.Set[uint16], proto uint16) bool {
	for _, p := range s.Exclude {
		if p == proto {
			return false
		}
	}
	for _, p := range s.Include {
		if p == proto {
			return true
		}
	}
	return len(s.Include) == 0
}

// Verdicts on a cgroup: enum cgroup_verdict in bpf/filter.h.
const (
	cgroupMatch uint8 = 1 << iota
	cgroupExclude
)

// judgeCgroup tells the kernel side whether a cgroup's container passes the filter. An error only
// means that the kernel side goes on letting it through.
func (t *Tracer) judgeCgroup(id uint64, path string) {
	f := t.cfg.Filter.Containers
	if f.Empty() || id == 0 || t.cgroups[id] {
		return
	}
	c, _ := flow.ParseCgroup(path)
	var verdict uint8
	if c.In(f.Include) {
		verdict |= cgroupMatch
	}
	if c.In(f.Exclude) {
		verdict |= cgroupExclude
	}
	if t.hooks.coll.Maps["verdict_by_cgroup"].Put(id, verdict) == nil {
		t.cgroups[id] = true
	}
}

// wantKinds gives a bit for each kind of event that may be asked for. Only those of connections
// are looked at by the kernel side; what the ledger needs always comes.
func wantKinds(events flow.Set[string]) uint32 {
	mask := ^uint32(0)
	for kind, name := range map[flow.Kind]string{flow.KindConnect: "connect", flow.KindAccept: "accept", flow.KindClose: "close"} {
		wanted := len(events.Include) == 0
		for _, e := range events.Include {
			wanted = wanted || e == name
		}
		for _, e := range events.Exclude {
			wanted = wanted && e != name
		}
		if !wanted {
			mask &^= 1 << kind
		}
	}
	return mask
}
