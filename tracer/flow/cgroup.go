// SPDX-License-Identifier: Apache-2.0

package flow

import "strings"

// Container is what a cgroup path tells about the container that a process is in. The zero value is none; of
// a container at least the ID is known. Runtime is OpenTelemetry's container.runtime.name (docker, containerd,
// podman, cri-o, lxc, systemd-nspawn), "" where the path does not tell. LXC and systemd-nspawn know their
// containers by name only: it is both ID and Name.
type Container struct {
	ID, Runtime, Name string
}

// scopeRuntimes are what comes before the id, as "<prefix>-<id>.scope" with the systemd driver, and of Podman
// and CRI-O as "<prefix>-<id>" with cgroupfs. conmon, which watches a container from outside it, has the prefixes
// libpod-conmon and crio-conmon, and is left out by having none of these.
//
// Sources: dockerd --cgroup-parent, containerd's CRI plugin (cri-containerd), nerdctl, Podman's libpod (payload: with
// --cgroups=split), CRI-O's cgroup manager.
var scopeRuntimes = map[string]string{
	"docker":         "docker",
	"cri-containerd": "containerd",
	"nerdctl":        "containerd",
	"libpod":         "podman",
	"libpod-payload": "podman",
	"crio":           "cri-o",
}

// parentRuntimes are the cgroups right above a bare id: Docker's own, and the containerd namespaces of nerdctl and
// of the CRI plugin. Under a Kubernetes pod's cgroup it may be any runtime.
var parentRuntimes = map[string]string{
	"docker":  "docker",
	"default": "containerd",
	"k8s.io":  "containerd",
}

// ParseCgroup takes the container and the systemd unit from a cgroup's path, as the third field of a line in
// /proc/PID/cgroup has it (cgroups(7)), of cgroup v1 or v2. Of nested containers and units it is the innermost;
// the unit is "" where there is none. Slices are no units here: they hold processes only through what is in them.
//
// The unit's name keeps systemd's escapes, as systemctl shows it; a container's name has them undone.
func ParseCgroup(path string) (Container, string) {
	var container Container
	var unit string
	below := ""
	for path != "" && (container.ID == "" || unit == "") {
		cut := strings.LastIndexByte(path, '/')
		name := path[cut+1:]
		path = path[:max(cut, 0)]
		parent := path[strings.LastIndexByte(path, '/')+1:]
		if container.ID == "" {
			container = containerOf(parent, name, below)
		}
		if unit == "" {
			unit = unitOf(name)
		}
		below = name
	}
	return container, unit
}

// unitOf returns the unit that a cgroup is named after. systemd puts an underscore before a name that the kernel
// could take for a file of its own, such as cpu.service (cg_escape in systemd's cgroup-util.c).
func unitOf(name string) string {
	if strings.IndexByte(name, ':') >= 0 {
		return "" // runc's "slice:prefix:name", taken for a path by a driver that did not expect it
	}
	name = strings.TrimPrefix(name, "_")
	if stem, ok := strings.CutSuffix(name, ".service"); ok && stem != "" {
		return name
	}
	if stem, ok := strings.CutSuffix(name, ".scope"); ok && stem != "" {
		return name
	}
	return ""
}

// containerOf returns the container that a cgroup is made for; parent is the cgroup above it, below the one
// under it on the way to the process, "" where there is none.
func containerOf(parent, name, below string) Container {
	if container := lxcOf(parent, name); container.ID != "" {
		return container
	}
	if container := nspawnOf(name, below); container.ID != "" {
		return container
	}
	// "system.slice:docker:<id>" and "kubepods-….slice:cri-containerd:<id>"
	if cut := strings.LastIndexByte(name, ':'); cut >= 0 {
		prefix := name[:cut]
		prefix = prefix[strings.LastIndexByte(prefix, ':')+1:]
		return idOf(name[cut+1:], scopeRuntimes[prefix])
	}
	stem := strings.TrimSuffix(name, ".scope")
	if cut := strings.LastIndexByte(stem, '-'); cut >= 0 {
		if runtime, ok := scopeRuntimes[stem[:cut]]; ok {
			return idOf(stem[cut+1:], runtime)
		}
		return Container{}
	}
	if parent == "libpod_parent" {
		return Container{} // a pod, with its containers below it
	}
	return idOf(name, parentRuntimes[parent])
}

// idLength is that of the hexadecimal ids that every runtime here makes, 256 bits. What is shorter is a pod's UUID, a
// session or a build.
const idLength = 64

func idOf(id, runtime string) Container {
	if len(id) != idLength {
		return Container{}
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Container{}
		}
	}
	return Container{ID: id, Runtime: runtime}
}

// lxcOf knows liblxc's "lxc.payload.NAME" (4.0 and later, and LXD), "lxc.payload/NAME" (3.2) and "lxc/NAME" (before, and
// Proxmox). lxc.monitor.NAME is the watcher outside. See lxc.cgroup.dir in lxc.container.conf(5).
func lxcOf(parent, name string) Container {
	payload, ok := strings.CutPrefix(name, "lxc.payload.")
	if !ok {
		payload, ok = name, parent == "lxc" || parent == "lxc.payload"
	}
	if !ok || payload == "" {
		return Container{}
	}
	return Container{ID: payload, Runtime: "lxc", Name: payload}
}

// nspawnOf knows systemd-nspawn's "machine-NAME.scope" and "systemd-nspawn@NAME.service"; the latter, and on cgroup v2 the
// former, have the container below "payload" and nspawn itself in "supervisor". See systemd-nspawn(1), --keep-unit.
func nspawnOf(name, below string) Container {
	if below == "supervisor" {
		return Container{}
	}
	machine, ok := strings.CutPrefix(name, "machine-")
	if ok {
		machine, ok = strings.CutSuffix(machine, ".scope")
		ok = ok && !isLibvirt(machine)
	} else if machine, ok = strings.CutPrefix(name, "systemd-nspawn@"); ok {
		machine, ok = strings.CutSuffix(machine, ".service")
		ok = ok && below == "payload"
	}
	if !ok || machine == "" {
		return Container{}
	}
	machine = unescape(machine)
	return Container{ID: machine, Runtime: "systemd-nspawn", Name: machine}
}

// isLibvirt tells libvirt's machines, which have the same scopes and are called DRIVER-NUMBER-NAME. Those of
// qemu are no containers, and of the rest nspawn is not the runtime.
func isLibvirt(machine string) bool {
	driver, number, ok := strings.Cut(machine, `\x2d`)
	return ok && (driver == "qemu" || driver == "lxc") && number != "" && number[0] >= '0' && number[0] <= '9'
}

// unescape undoes systemd-escape(1) for the one character that a machine's name can have and a unit's part cannot.
func unescape(name string) string {
	return strings.ReplaceAll(name, `\x2d`, "-")
}
