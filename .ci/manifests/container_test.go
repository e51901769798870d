// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

var looptrace = flag.String("looptrace", "", "the looptrace to run as the DaemonSet does; static")

// patience bounds each wait: attaching takes seconds on a busy machine.
const patience = time.Minute

// container makes of the DaemonSet's pod what containerd makes of it for runc: capabilities, seccomp profile, mounts,
// namespaces.
func container(pod *corev1.PodSpec, args ...string) *specs.Spec {
	c := &pod.Containers[0]
	var caps []string
	for _, name := range c.SecurityContext.Capabilities.Add {
		caps = append(caps, "CAP_"+string(name))
	}
	readOnly := []string{"nosuid", "noexec", "nodev", "ro"}
	spec := &specs.Spec{
		Version: "1.0.2", Hostname: "looptrace-abcde",
		Process: &specs.Process{
			User: specs.User{UID: uint32(*c.SecurityContext.RunAsUser)}, Args: append([]string{"/looptrace"}, args...), Cwd: "/",
			NoNewPrivileges: !*c.SecurityContext.AllowPrivilegeEscalation,
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Root: &specs.Root{Path: "rootfs", Readonly: *c.SecurityContext.ReadOnlyRootFilesystem},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=65536k"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: readOnly},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: readOnly},
		},
		Linux: &specs.Linux{
			MaskedPaths:   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	for _, kind := range []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace, specs.CgroupNamespace} {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind})
	}
	for _, m := range c.VolumeMounts {
		for _, v := range pod.Volumes {
			if v.Name == m.Name {
				spec.Mounts = append(spec.Mounts, specs.Mount{Destination: m.MountPath, Type: "bind", Source: v.HostPath.Path, Options: []string{"rbind", "rprivate", "ro"}})
			}
		}
	}
	spec.Linux.Seccomp = seccomp.DefaultProfile(spec)
	return spec
}

// otherPod is a program in another pod: its own network, pids and cgroup. It makes one connection and one datagram.
const otherPod = `
echo $$ >"$1/cgroup.procs"
exec unshare --net --pid --fork --mount-proc sh -c 'ip link set lo up; exec python3 -c "
import socket
s = socket.create_server((\"127.0.0.1\", 0))
c = socket.create_connection(s.getsockname()); a, _ = s.accept(); c.close(); a.close(); s.close()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind((\"127.0.0.1\", 0))
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); v.connect(u.getsockname()); v.send(b\"x\")
v.close(); u.close()
"'`

// TestContainer runs looptrace with what the DaemonSet gives it, by runc, and looks at another pod from there.
func TestContainer(t *testing.T) {
	if *looptrace == "" || os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root and -looptrace")
		}
		t.Skip("needs root and -looptrace")
	}
	var set appsv1.DaemonSet
	read(t, "daemonset.yaml", &set)
	pod := set.Spec.Template.Spec
	id := strings.Repeat("4f1c0d2e", 8)
	args := append([]string{"--container", id}, pod.Containers[0].Args...)
	bundle := makeBundle(t, container(&pod, args...))

	// In a mount namespace of its own tracefs is where systemd has it.
	run := exec.Command("unshare", "--mount", "sh", "-c", `mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
exec runc --root "$1/state" run --bundle "$1" looptrace-test-$$`, "sh", bundle)
	run.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var stderr bytes.Buffer
	run.Stderr = &stderr
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.AfterFunc(patience, func() { _ = run.Process.Kill() })
	defer deadline.Stop()
	records := bufio.NewScanner(out)
	counts := map[string]int{}
	for records.Scan() {
		var r record
		if err := json.Unmarshal(records.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		switch r.Event {
		case "start":
			t.Log(r.Message)
			makeTraffic(t, id)
			continue
		case "stop":
			if r.Lost != 0 {
				t.Errorf("%d lost", r.Lost)
			}
			continue
		}
		counts[r.Event+" "+r.Network.Transport]++
		for _, end := range r.ends() {
			if end.Process.Comm != "python3" || end.Container.ID != id || end.Container.Runtime.Name != "containerd" {
				t.Errorf("not named: %s", records.Bytes())
			}
		}
		if r.Event == "release" && counts["release tcp"] == 1 && counts["release udp"] == 2 {
			_ = run.Process.Signal(syscall.SIGTERM) // once: the second would kill
		}
	}
	if err := run.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	want := map[string]int{
		"bind tcp": 1, "listen tcp": 1, "connect tcp": 1, "accept tcp": 1, "close tcp": 1, "release tcp": 1,
		"bind udp": 2, "connect udp": 1, "close udp": 1, "release udp": 2,
	}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, &stderr)
	}
}

// makeBundle is the image and its configuration, as runc takes them.
func makeBundle(t *testing.T, spec *specs.Spec) (dir string) {
	t.Helper()
	dir = t.TempDir()
	program, err := os.ReadFile(*looptrace)
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		os.Mkdir(filepath.Join(dir, "rootfs"), 0o755),
		os.WriteFile(filepath.Join(dir, "rootfs", "looptrace"), program, 0o755),
		os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func makeTraffic(t *testing.T, id string) {
	t.Helper()
	all := t.TempDir()
	if err := syscall.Mount("cgroup2", all, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(all, syscall.MNT_DETACH) }()
	path := []string{"kubepods.slice", "kubepods-besteffort.slice", "kubepods-besteffort-pod1.slice", "cri-containerd-" + id + ".scope"}
	for i := range path {
		dir := filepath.Join(append([]string{all}, path[:i+1]...)...)
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		defer func() { _ = os.Remove(dir) }() // what was there before is not empty
	}
	text, err := exec.Command("sh", "-c", otherPod, "sh", filepath.Join(append([]string{all}, path...)...)).CombinedOutput()
	if err != nil {
		t.Errorf("the other pod: %v: %s", err, text)
	}
}

// record is what is looked at of a record.
type record struct {
	Event, Message string
	Lost           int
	Network        struct{ Transport string }
	end
	Client, Server *end
}

type end struct {
	Process   struct{ Comm string }
	Container struct {
		ID      string
		Runtime struct{ Name string }
	}
}

// ends are the processes that a record is about.
func (r *record) ends() []end {
	if r.Client == nil {
		return []end{r.end}
	}
	return []end{*r.Client, *r.Server}
}
