// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	idA = "4f1c0d2e8b7a69584736251403f2e1d0c9b8a79685746352413021f0e9d8c7b6"
	idB = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	uid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
	// uid_ is the same, as the systemd driver puts it into a slice's name.
	uid_ = "0a1b2c3d_4e5f_6071_8293_a4b5c6d7e8f9"
)

func TestParseCgroup(t *testing.T) {
	for _, tc := range []struct {
		name      string
		path      string
		container Container
		unit      string
	}{
		{"root", "/", Container{}, ""},
		{"nothing", "", Container{}, ""},
		{"system service", "/system.slice/nginx.service", Container{}, "nginx.service"},
		{"service instance", `/system.slice/system-postgresql.slice/postgresql@16-main.service`, Container{}, "postgresql@16-main.service"},
		{"service with a cgroup below", "/system.slice/systemd-udevd.service/udev", Container{}, "systemd-udevd.service"},
		{"service with an escape", `/system.slice/a\x2db.service`, Container{}, `a\x2db.service`},
		{"service named as a controller", "/system.slice/_cpu.service", Container{}, "cpu.service"},
		{"init", "/init.scope", Container{}, "init.scope"},
		{"session", "/user.slice/user-1000.slice/session-3.scope", Container{}, "session-3.scope"},
		{"user manager", "/user.slice/user-1000.slice/user@1000.service/init.scope", Container{}, "init.scope"},
		{"user service", "/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service", Container{}, "foo.service"},
		{"desktop application", `/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox\x2desr-2011.scope`, Container{}, `app-gnome-firefox\x2desr-2011.scope`},
		{"slice only", "/user.slice/user-1000.slice", Container{}, ""},
		{"mount", "/system.slice/var-lib-docker.mount", Container{}, ""},
		{"dockerd itself", "/system.slice/docker.service", Container{}, "docker.service"},
		{"suffix alone", "/.service/.scope", Container{}, ""},

		{"docker v1", "/docker/" + idA, Container{ID: idA, Runtime: "docker"}, ""},
		{"docker v2", "/system.slice/docker-" + idA + ".scope", Container{ID: idA, Runtime: "docker"}, "docker-" + idA + ".scope"},
		{"docker rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + idA + ".scope", Container{ID: idA, Runtime: "docker"}, "docker-" + idA + ".scope"},
		{"docker with a parent", "/actions_job/" + idA, Container{ID: idA}, ""},
		{"docker in docker", "/docker/" + idA + "/docker/" + idB, Container{ID: idB, Runtime: "docker"}, ""},
		{"docker in docker v2", "/system.slice/docker-" + idA + ".scope/docker/" + idB, Container{ID: idB, Runtime: "docker"}, "docker-" + idA + ".scope"},
		{"init of a container", "/system.slice/docker-" + idA + ".scope/init", Container{ID: idA, Runtime: "docker"}, "docker-" + idA + ".scope"},
		{"systemd in docker", "/docker/" + idA + "/system.slice/nginx.service", Container{ID: idA, Runtime: "docker"}, "nginx.service"},
		{"docker, path as runc writes it", "/system.slice:docker:" + idA, Container{ID: idA, Runtime: "docker"}, ""},
		{"seen from a cgroup namespace", "/../" + idA, Container{ID: idA}, ""},
		{"short id", "/docker/" + idA[:12], Container{}, ""},
		{"id in capitals", "/docker/" + strings.ToUpper(idA), Container{}, ""},
		{"buildkit", "/docker/buildkit/x5qz0y3b6k9m1n2p4r7s8t0v1", Container{}, ""},

		{"nerdctl", "/default/" + idA, Container{ID: idA, Runtime: "containerd"}, ""},
		{"nerdctl with systemd", "/system.slice/nerdctl-" + idA + ".scope", Container{ID: idA, Runtime: "containerd"}, "nerdctl-" + idA + ".scope"},
		{"containerd, namespace k8s.io", "/k8s.io/" + idA, Container{ID: idA, Runtime: "containerd"}, ""},

		{"podman", "/machine.slice/libpod-" + idA + ".scope", Container{ID: idA, Runtime: "podman"}, "libpod-" + idA + ".scope"},
		{"podman, container below", "/machine.slice/libpod-" + idA + ".scope/container", Container{ID: idA, Runtime: "podman"}, "libpod-" + idA + ".scope"},
		{"podman rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + idA + ".scope/container", Container{ID: idA, Runtime: "podman"}, "libpod-" + idA + ".scope"},
		{"podman cgroupfs", "/libpod_parent/libpod-" + idA, Container{ID: idA, Runtime: "podman"}, ""},
		{"podman pod", "/machine.slice/machine-libpod_pod_" + idB + ".slice/libpod-" + idA + ".scope", Container{ID: idA, Runtime: "podman"}, "libpod-" + idA + ".scope"},
		{"podman pod cgroupfs", "/libpod_parent/" + idB + "/libpod-" + idA, Container{ID: idA, Runtime: "podman"}, ""},
		{"podman quadlet", "/system.slice/web.service/libpod-payload-" + idA, Container{ID: idA, Runtime: "podman"}, "web.service"},
		{"podman conmon", "/machine.slice/libpod-conmon-" + idA + ".scope", Container{}, "libpod-conmon-" + idA + ".scope"},
		{"podman conmon cgroupfs", "/libpod_parent/conmon", Container{}, ""},
		{"podman conmon of a pod cgroupfs", "/libpod_parent/" + idB + "/conmon", Container{}, ""},
		{"podman conmon in docker", "/docker/" + idB + "/libpod_parent/conmon", Container{ID: idB, Runtime: "docker"}, ""},

		{"kubepods v1", "/kubepods/burstable/pod" + uid + "/" + idA, Container{ID: idA}, ""},
		{"kubepods v1, guaranteed", "/kubepods/pod" + uid + "/" + idA, Container{ID: idA}, ""},
		{"kubepods of containerd", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uid_ + ".slice/cri-containerd-" + idA + ".scope", Container{ID: idA, Runtime: "containerd"}, "cri-containerd-" + idA + ".scope"},
		{"kubepods of docker", "/kubepods.slice/kubepods-pod" + uid_ + ".slice/docker-" + idA + ".scope", Container{ID: idA, Runtime: "docker"}, "docker-" + idA + ".scope"},
		{"kubepods of cri-o", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uid_ + ".slice/crio-" + idA + ".scope/container", Container{ID: idA, Runtime: "cri-o"}, "crio-" + idA + ".scope"},
		{"kubepods of cri-o, cgroupfs", "/kubepods/burstable/pod" + uid + "/crio-" + idA, Container{ID: idA, Runtime: "cri-o"}, ""},
		{"cri-o conmon", "/kubepods.slice/kubepods-pod" + uid_ + ".slice/crio-conmon-" + idA + ".scope", Container{}, "crio-conmon-" + idA + ".scope"},
		{"cri-o conmon, cgroupfs", "/kubepods/burstable/pod" + uid + "/crio-conmon-" + idA, Container{}, ""},
		{"kubepods, path as runc writes it", "/system.slice/containerd.service/kubepods-besteffort-pod" + uid_ + ".slice:cri-containerd:" + idA, Container{ID: idA, Runtime: "containerd"}, "containerd.service"},
		{"kubepods with bare scope ids", "/kubepods.slice/kubepods-pod" + uid_ + ".slice/" + idA, Container{ID: idA}, ""},
		{"docker in kubepods", "/kubepods/besteffort/pod" + uid + "/" + idA + "/docker/" + idB, Container{ID: idB, Runtime: "docker"}, ""},
		{"kind", "/docker/" + idA + "/kubelet/kubepods/burstable/pod" + uid + "/" + idB, Container{ID: idB}, ""},
		{"kind v2", "/system.slice/docker-" + idA + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + uid_ + ".slice/cri-containerd-" + idB + ".scope", Container{ID: idB, Runtime: "containerd"}, "cri-containerd-" + idB + ".scope"},
		{"pod without a container", "/kubepods/burstable/pod" + uid, Container{}, ""},

		{"lxc v2", "/lxc.payload.web-1", Container{ID: "web-1", Runtime: "lxc", Name: "web-1"}, ""},
		{"lxc, service in it", "/lxc.payload.web/system.slice/ssh.service", Container{ID: "web", Runtime: "lxc", Name: "web"}, "ssh.service"},
		{"lxc 3.2", "/lxc.payload/web", Container{ID: "web", Runtime: "lxc", Name: "web"}, ""},
		{"lxc v1", "/lxc/web/init.scope", Container{ID: "web", Runtime: "lxc", Name: "web"}, "init.scope"},
		{"lxc of Proxmox", "/lxc/101/ns/system.slice/cron.service", Container{ID: "101", Runtime: "lxc", Name: "101"}, "cron.service"},
		{"docker in lxc", "/lxc/101/ns/docker/" + idA, Container{ID: idA, Runtime: "docker"}, ""},
		{"lxc monitor", "/lxc.monitor.web", Container{}, ""},
		{"lxc monitor of Proxmox", "/lxc.monitor/101", Container{}, ""},
		{"lxc alone", "/lxc", Container{}, ""},

		{"nspawn scope", "/machine.slice/machine-trixie.scope", Container{ID: "trixie", Runtime: "systemd-nspawn", Name: "trixie"}, "machine-trixie.scope"},
		{"nspawn scope with an escape", `/machine.slice/machine-my\x2dbox.scope/payload/system.slice/ssh.service`, Container{ID: "my-box", Runtime: "systemd-nspawn", Name: "my-box"}, "ssh.service"},
		{"nspawn service", "/machine.slice/systemd-nspawn@trixie.service/payload/init.scope", Container{ID: "trixie", Runtime: "systemd-nspawn", Name: "trixie"}, "init.scope"},
		{"nspawn itself", "/machine.slice/systemd-nspawn@trixie.service/supervisor", Container{}, "systemd-nspawn@trixie.service"},
		{"libvirt virtual machine", `/machine.slice/machine-qemu\x2d1\x2dweb.scope/libvirt/emulator`, Container{}, `machine-qemu\x2d1\x2dweb.scope`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			container, unit := ParseCgroup(tc.path)
			if diff := cmp.Diff(tc.container, container); diff != "" {
				t.Errorf("container (-want +got):\n%s", diff)
			}
			if unit != tc.unit {
				t.Errorf("unit %q, want %q", unit, tc.unit)
			}
		})
	}
}

func FuzzParseCgroup(f *testing.F) {
	for _, seed := range []string{
		"/system.slice/docker-" + idA + ".scope", "/a:b:" + idA, `/machine.slice/machine-a\x2db.scope/payload`,
		"/lxc.payload.", "//", "-.scope", ":", "_.service", "/lxc//", idA,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		container, unit := ParseCgroup(path)
		if container.ID == "" && container != (Container{}) {
			t.Errorf("%+v has no id", container)
		}
		if !strings.Contains(path, unit) || strings.Contains(unit, "/") {
			t.Errorf("unit %q is not in %q", unit, path)
		}
	})
}
