// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const base = "../../packaging/kubernetes/base"

// kustomization is what base/kustomization.yaml uses of kustomize's own type.
type kustomization struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Namespace  string   `json:"namespace"`
	Resources  []string `json:"resources"`
	Images     []struct {
		Name   string `json:"name"`
		NewTag string `json:"newTag"`
	} `json:"images"`
}

// decode is as strict as an API server with fieldValidation=Strict: a field that its type has not, one that differs in
// case, and one that stands twice are errors. (UnmarshalStrict of sigs.k8s.io/yaml takes hostPid for hostPID.)
func decode(raw []byte, into any) []error {
	text, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return []error{err}
	}
	strict, err := kjson.UnmarshalStrict(text, into)
	if err != nil {
		strict = append(strict, err)
	}
	return strict
}

func read(t *testing.T, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(base, name))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range decode(raw, into) {
		t.Errorf("%s: %v", name, err)
	}
}

// TestStrict: a typo is an error, or the tests below prove little.
func TestStrict(t *testing.T) {
	tests := []struct {
		name, manifest string
		ok             bool
	}{
		{"right", "spec: {hostPID: true}", true},
		{"another case", "spec: {hostPid: true}", false},
		{"unknown", "spec: {hostPIDs: true}", false},
		{"twice", "spec: {hostPID: true, hostPID: true}", false},
		{"another type", "spec: {hostPID: 1}", false},
		{"deep", "spec: {containers: [{name: x, securityContext: {privilege: true}}]}", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if errs := decode([]byte(test.manifest), &corev1.Pod{}); (len(errs) == 0) != test.ok {
				t.Errorf("errors %v, want none: %t", errs, test.ok)
			}
		})
	}
}

func TestResources(t *testing.T) {
	var k kustomization
	read(t, "kustomization.yaml", &k)
	want := map[string]any{"namespace.yaml": &corev1.Namespace{}, "serviceaccount.yaml": &corev1.ServiceAccount{}, "daemonset.yaml": &appsv1.DaemonSet{}}
	for _, name := range k.Resources {
		into, ok := want[name]
		if !ok {
			t.Fatalf("%s: a resource that this test does not know", name)
		}
		read(t, name, into)
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("not among the resources: %v", want)
	}
	files, err := filepath.Glob(filepath.Join(base, "*.yaml"))
	if err != nil || len(files) != len(k.Resources)+1 {
		t.Errorf("%d files for %d resources (%v)", len(files), len(k.Resources), err)
	}
}

// TestDaemonSet: what docs/kubernetes.md promises.
func TestDaemonSet(t *testing.T) {
	var set appsv1.DaemonSet
	read(t, "daemonset.yaml", &set)
	var k kustomization
	read(t, "kustomization.yaml", &k)
	pod := set.Spec.Template.Spec
	c := pod.Containers[0]
	if len(pod.Containers) != 1 || len(k.Images) != 1 || c.Image != k.Images[0].Name {
		t.Errorf("image %q of %d containers is not the one that kustomize sets, %v", c.Image, len(pod.Containers), k.Images)
	}
	for label, value := range set.Spec.Selector.MatchLabels {
		if set.Spec.Template.Labels[label] != value {
			t.Errorf("the selector's %s is not the pod's", label)
		}
	}
	if !pod.HostPID || pod.HostNetwork || pod.HostIPC || *pod.AutomountServiceAccountToken {
		t.Error("want the host's pids, nothing else of the host's, and no token")
	}
	sc := c.SecurityContext
	if *sc.Privileged || *sc.AllowPrivilegeEscalation || !*sc.ReadOnlyRootFilesystem {
		t.Error("the container can do more than it needs")
	}
	if want := []corev1.Capability{"BPF", "PERFMON", "NET_ADMIN", "SYS_PTRACE"}; !slices.Equal(sc.Capabilities.Add, want) {
		t.Errorf("capabilities %v, want %v", sc.Capabilities.Add, want)
	}
	if !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("dropped %v, want all", sc.Capabilities.Drop)
	}
	mounts := map[string]bool{}
	for _, m := range c.VolumeMounts {
		mounts[m.Name] = m.ReadOnly
	}
	for _, v := range pod.Volumes {
		if v.HostPath == nil || !mounts[v.Name] {
			t.Errorf("%s: not a path of the host's, mounted read-only", v.Name)
		}
	}
}
