// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Report is what this kernel and these privileges allow.
type Report struct {
	Kernel, Arch string
	Forms        []FormReport
	Checks       []Check
	Chosen       Form // "" where nothing works
}

// FormReport says of one hook form whether it loads and attaches, and what it met or cannot show.
type FormReport struct {
	Form      Form
	Available bool
	Why       string
}

// Check is one thing that the host has or lacks.
type Check struct {
	Name   string
	OK     bool
	Detail string
	Hint   string // what to do about it

	advice bool // tracing works without: less is known
}

// Diagnose checks the host and tries each form in full: it loads and attaches, and detaches again.
func Diagnose() Report {
	r := Report{Kernel: kernelRelease(), Arch: runtime.GOARCH, Checks: hostChecks()}
	for _, form := range []Form{Fentry, Kprobe, Tracepoint} {
		h, err := openForm(form, func(spec *ebpf.CollectionSpec) error { return configure(spec, Config{}) })
		f := FormReport{Form: form, Available: err == nil}
		if err == nil {
			f.Why = "loads and attaches"
			if len(h.missing) > 0 {
				f.Why += "; not seen: " + strings.Join(h.missing, ", ")
			}
			h.Close()
			if r.Chosen == "" {
				r.Chosen = form
			}
		} else {
			f.Why = oneLine(err)
		}
		r.Forms = append(r.Forms, f)
	}
	return r
}

// oneLine gives the kernel's answer on one line, without the advice that the library adds to every
// refusal (the checks look at that limit's cause).
func oneLine(err error) string {
	text := strings.ReplaceAll(err.Error(), " (MEMLOCK may be too low, consider rlimit.RemoveMemlock)", "")
	return strings.ReplaceAll(text, "\n", "; ")
}

// hostChecks looks for what looptrace needs, most needed first.
func hostChecks() []Check {
	return append([]Check{checkKernel(kernelRelease()), checkBTF()}, append(checkCapabilities(), checkMemlock(), checkParanoid(), checkLockdown(), checkTracefs(), checkCgroup())...)
}

func checkKernel(release string) Check {
	c := Check{Name: "kernel", Detail: release, OK: true}
	if olderThan(release, 5, 8) {
		c.OK = false
		c.Detail += " is older than 5.8, which brought the BPF ring buffer"
		c.Hint = "use a kernel of 5.8 or later (5.10 or later is tested)"
	}
	return c
}

// olderThan says whether a release is of a kernel before that version. One that cannot be read is not.
func olderThan(release string, major, minor int) bool {
	var x, y int
	_, err := fmt.Sscanf(release, "%d.%d", &x, &y)
	return err == nil && (x < major || x == major && y < minor)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func checkBTF() Check {
	c := Check{Name: "BTF", OK: true, Detail: "/sys/kernel/btf/vmlinux"}
	if !exists(c.Detail) {
		c.OK = false
		c.Detail = "missing: no /sys/kernel/btf/vmlinux"
		c.Hint = "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, and mount sysfs"
	}
	return c
}

// capability is a privilege that looptrace needs, and what for.
type capability struct {
	bit    int
	name   string
	why    string
	admin  bool // CAP_SYS_ADMIN stands in for it (capabilities(7))
	advice bool
}

var capabilities = []capability{
	{bit: unix.CAP_BPF, name: "CAP_BPF", why: "to load programs and make maps", admin: true},
	{bit: unix.CAP_PERFMON, name: "CAP_PERFMON", why: "to attach them to tracepoints and functions", admin: true},
	{bit: unix.CAP_NET_ADMIN, name: "CAP_NET_ADMIN", why: "for cgroup programs (tracepoint form)", admin: true},
	{bit: unix.CAP_DAC_READ_SEARCH, name: "CAP_DAC_READ_SEARCH", why: "to read tracefs (tracepoint form)"},
	{bit: unix.CAP_SYS_PTRACE, name: "CAP_SYS_PTRACE", why: "to name the executables of other users' processes that ran before", advice: true},
	{bit: unix.CAP_SYS_ADMIN, name: "CAP_SYS_ADMIN", why: "to enter other network namespaces, for the holders of their ports", advice: true},
}

func checkCapabilities() []Check {
	mask, err := effective()
	nested := inUserNamespace()
	var checks []Check
	for _, want := range capabilities {
		has := mask&(1<<want.bit) != 0 || want.admin && mask&(1<<unix.CAP_SYS_ADMIN) != 0
		c := Check{Name: want.name, OK: has && !nested, Detail: "held, " + want.why, advice: want.advice}
		switch {
		case err != nil:
			c.Detail = err.Error()
		case nested:
			c.Detail = "not held in the initial user namespace, needed " + want.why
			c.Hint = "run as root of the host, outside of the user namespace (a rootless container is one)"
		case !has:
			c.Detail = "missing, needed " + want.why
			c.Hint = "run as root: sudo looptrace"
		}
		checks = append(checks, c)
	}
	return checks
}

// inUserNamespace: capabilities held there are none to bpf(2). The initial one maps every number to
// itself (user_namespaces(7)).
func inUserNamespace() bool {
	words := strings.Fields(firstLine("/proc/self/uid_map"))
	return len(words) == 3 && (words[0] != "0" || words[1] != "0" || words[2] != "4294967295")
}

// effective reads the effective capabilities of this process (proc_pid_status(5)).
func effective() (uint64, error) {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, after, ok := strings.Cut(string(raw), "CapEff:")
	if !ok {
		return 0, errors.New("no CapEff in /proc/self/status")
	}
	line, _, _ := strings.Cut(after, "\n")
	return strconv.ParseUint(strings.TrimSpace(line), 16, 64)
}

// mapsMemory is more than all maps of a run take.
const mapsMemory = 256 << 20

// checkMemlock: before 5.11 maps count against RLIMIT_MEMLOCK, which takes CAP_SYS_RESOURCE to raise.
func checkMemlock() Check {
	c := Check{Name: "memlock", OK: true, Detail: "no limit for maps"}
	var limit unix.Rlimit
	if !olderThan(kernelRelease(), 5, 11) || rlimit.RemoveMemlock() == nil || unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur >= mapsMemory {
		return c
	}
	c.OK = false
	c.Detail = fmt.Sprintf("%d KiB, too little for the maps, which count against it before 5.11", limit.Cur>>10)
	c.Hint = "ulimit -l unlimited, add CAP_SYS_RESOURCE, or run as root: sudo looptrace"
	return c
}

// checkParanoid: Debian's level 3 and above keeps perf events from all but CAP_SYS_ADMIN.
func checkParanoid() Check {
	level := firstLine("/proc/sys/kernel/perf_event_paranoid")
	c := Check{Name: "perf_event_paranoid", OK: true, Detail: level}
	mask, _ := effective()
	if n, err := strconv.Atoi(level); err == nil && n > 2 && mask&(1<<unix.CAP_SYS_ADMIN) == 0 {
		c.OK = false
		c.Detail = level + " keeps CAP_PERFMON from opening perf events (kprobe and tracepoint forms)"
		c.Hint = "sysctl kernel.perf_event_paranoid=2, or run as root"
	}
	return c
}

func checkLockdown() Check {
	var f kernelFiles
	defer f.Close()
	dir, err := f.find("securityfs")
	raw := firstLine(dir + "/lockdown")
	c := Check{Name: "lockdown", OK: true, Detail: raw}
	switch {
	case errors.Is(err, unix.ENODEV) || err == nil && raw == "":
		c.Detail = "none" // the kernel has no securityfs, or is not built for lockdown
	case err != nil:
		c.Detail = "not known: securityfs is not mounted"
	case strings.Contains(raw, "[confidentiality]"):
		c.OK = false
		c.Detail = "confidentiality: the kernel lets nobody read its memory"
		c.Hint = "boot with lockdown=integrity or without"
	}
	return c
}

func checkTracefs() Check { return checkFiles("tracefs", "CONFIG_FTRACE_SYSCALLS=y") }
func checkCgroup() Check  { return checkFiles("cgroup2", "CONFIG_CGROUP_BPF=y") }

func checkFiles(fstype, config string) Check {
	var f kernelFiles
	defer f.Close()
	dir, err := f.find(fstype)
	switch {
	case errors.Is(err, unix.EPERM):
		return Check{
			Name: fstype, Detail: "not mounted, which looptrace would do with CAP_SYS_ADMIN (needed by the tracepoint form)",
			Hint: "mount " + fstype + ", or run as root: sudo looptrace",
		}
	case errors.Is(err, errPart):
		return Check{
			Name: fstype, Detail: errPart.Error() + " (all of it is needed by the tracepoint form)",
			Hint: "mount the host's /sys/fs/cgroup into the container, at any place",
		}
	case err != nil:
		return Check{
			Name: fstype, Detail: fmt.Sprintf("not mounted, and cannot be: %v (needed by the tracepoint form)", err),
			Hint: "mount " + fstype + ", on a kernel with " + config,
		}
	case len(f.mounts) > 0:
		return Check{Name: fstype, OK: true, Detail: "not mounted: looptrace mounts it for itself"}
	default:
		return Check{Name: fstype, OK: true, Detail: dir}
	}
}
