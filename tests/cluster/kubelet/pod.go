package kubelet

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pod is what this node holds of a pod that is bound to it.
type pod struct {
	ip, dir, marker string

	mu         sync.Mutex
	spec       *corev1.Pod
	containers map[string]*container
	started    metav1.Time
}

func newPod(spec *corev1.Pod, root, ip string) (*pod, error) {
	p := &pod{
		ip:         ip,
		dir:        filepath.Join(root, string(spec.UID)),
		marker:     "TEST_CLUSTER_POD=" + string(spec.UID),
		spec:       spec,
		containers: map[string]*container{},
		started:    metav1.Now(),
	}
	return p, os.MkdirAll(p.dir, 0o700)
}

// converge starts what should run and is not running. When again is positive, it wants to be called then.
func (p *pod) converge(spec *corev1.Pod, changed func()) (again time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spec = spec
	wanted := spec.Spec.Containers[:len(spec.Spec.Containers):len(spec.Spec.Containers)]
	for _, e := range spec.Spec.EphemeralContainers {
		wanted = append(wanted, corev1.Container(e.EphemeralContainerCommon))
	}
	for i, want := range wanted {
		c := p.containers[want.Name]
		if c == nil {
			c = &container{spec: want, ephemeral: i >= len(spec.Spec.Containers)}
			p.containers[want.Name] = c
			c.start(p.environment(want), p.dir, changed)
			continue
		}
		if now, _ := c.runs(); now.isOver() {
			if wait, wants := c.restartIn(spec.Spec.RestartPolicy); wants && wait <= 0 {
				c.start(p.environment(want), p.dir, changed)
			} else if wants && (again == 0 || wait < again) {
				again = wait
			}
		}
	}
	return again
}

// environment is not the host's: what the test harness has in its own must not show up in a recording.
func (p *pod) environment(c corev1.Container) []string {
	env := []string{
		p.marker, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
		"HOME=" + p.dir, "TMPDIR=" + p.dir, "PWD=" + p.dir, "HOSTNAME=" + p.spec.Name,
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			env = append(env, e.Name+"="+e.Value)
		}
	}
	if c.TTY {
		env = append(env, "TERM=xterm")
	}
	return env
}

// kill ends every process of the pod and returns when none is left.
func (p *pod) kill(grace time.Duration) {
	signal, deadline := syscall.SIGTERM, time.Now().Add(grace)
	for killAll(p.marker, signal) > 0 {
		if time.Now().After(deadline) {
			signal = syscall.SIGKILL
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.containers {
		now, _ := c.runs()
		if now.process == nil {
			now.finish(0, "Completed", "")
		}
	}
	os.RemoveAll(p.dir)
}

func (p *pod) container(name string) (*container, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.containers[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("container %q is not in pod %q", name, p.spec.Name)
}

func (p *pod) status() corev1.PodStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := *p.spec.Status.DeepCopy()
	s.HostIP, s.HostIPs = "127.0.0.1", []corev1.HostIP{{IP: "127.0.0.1"}}
	s.PodIP, s.PodIPs = p.ip, []corev1.PodIP{{IP: p.ip}}
	s.StartTime = &p.started
	s.ContainerStatuses, s.EphemeralContainerStatuses, s.InitContainerStatuses = nil, nil, nil
	running, ended, failed := 0, 0, 0
	for _, spec := range p.spec.Spec.Containers {
		status := p.containers[spec.Name].status(p.id(spec.Name), p.spec.Spec.RestartPolicy)
		s.ContainerStatuses = append(s.ContainerStatuses, status)
		if status.Ready {
			running++
		}
		if t := status.State.Terminated; t != nil {
			ended++
			if t.ExitCode != 0 {
				failed++
			}
		}
	}
	for _, spec := range p.spec.Spec.EphemeralContainers {
		status := p.containers[spec.Name].status(p.id(spec.Name), corev1.RestartPolicyNever)
		s.EphemeralContainerStatuses = append(s.EphemeralContainerStatuses, status)
	}
	for _, spec := range p.spec.Spec.InitContainers {
		s.InitContainerStatuses = append(s.InitContainerStatuses, initialized(spec, p.started, p.id(spec.Name)))
	}
	s.Phase = corev1.PodRunning
	switch {
	case ended == len(p.spec.Spec.Containers) && failed > 0:
		s.Phase = corev1.PodFailed
	case ended == len(p.spec.Spec.Containers):
		s.Phase = corev1.PodSucceeded
	}
	ready := running == len(p.spec.Spec.Containers)
	s.Conditions = conditions(s.Conditions, p.started, map[corev1.PodConditionType]bool{
		corev1.PodReadyToStartContainers: true, corev1.PodInitialized: true,
		corev1.ContainersReady: ready, corev1.PodReady: ready, corev1.PodScheduled: true,
	})
	return s
}

func (p *pod) id(container string) string { return string(p.spec.UID) + "/" + container }

// initialized is how an init container looks that was not run: none is.
func initialized(spec corev1.Container, at metav1.Time, id string) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: spec.Name, Image: spec.Image, ImageID: "host", ContainerID: "host://" + id, Ready: true, Started: new(bool),
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: at, FinishedAt: at}},
	}
}

func conditions(have []corev1.PodCondition, started metav1.Time, want map[corev1.PodConditionType]bool) []corev1.PodCondition {
	for i := range have {
		value, known := want[have[i].Type]
		delete(want, have[i].Type)
		if status := conditionStatus(value); known && have[i].Status != status {
			have[i].Status, have[i].LastTransitionTime = status, metav1.Now()
		}
	}
	for _, kind := range []corev1.PodConditionType{
		corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady, corev1.PodScheduled,
	} {
		if value, missing := want[kind]; missing {
			have = append(have, corev1.PodCondition{Type: kind, Status: conditionStatus(value), LastTransitionTime: started})
		}
	}
	return have
}

func conditionStatus(value bool) corev1.ConditionStatus {
	if value {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

func (p *pod) current() *corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spec
}
