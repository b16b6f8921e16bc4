package kubelet

import (
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// container is one container of a pod: the run that is or was last, and the one before.
type container struct {
	spec      corev1.Container
	ephemeral bool

	mu       sync.Mutex
	now, old *run
	restarts int32
}

// run is one start of a container. Without a command of its own it is no process: it just runs until the pod ends.
type run struct {
	process *process
	journal *journal
	started time.Time
	ended   *corev1.ContainerStateTerminated // set before over closes
	over    chan struct{}
	end     sync.Once
}

// argv is what the container runs. What the image would start is unknown here; an interactive one gets a shell.
func argv(spec corev1.Container) []string {
	if argv := append(append([]string{}, spec.Command...), spec.Args...); len(argv) > 0 {
		return argv
	}
	if spec.Stdin {
		return []string{"/bin/sh"}
	}
	return nil
}

func (c *container) start(env []string, dir string, onEnd func()) {
	r := &run{journal: newJournal(), started: time.Now(), over: make(chan struct{})}
	c.mu.Lock()
	if c.now != nil {
		c.old = c.now
		c.restarts++
	}
	c.now = r
	c.mu.Unlock()
	argv := argv(c.spec)
	if argv == nil {
		return
	}
	var err error
	r.process, err = start(command{
		argv: argv, env: env, dir: dir, tty: c.spec.TTY, stdin: c.spec.Stdin,
		stdout: r.journal.stdout(), stderr: r.journal.stderr(),
	})
	if err != nil {
		fmt.Fprintln(r.journal.stderr(), err)
		r.finish(128, "StartError", err.Error())
		onEnd()
		return
	}
	go func() {
		<-r.process.done
		reason := "Completed"
		if r.process.code != 0 {
			reason = "Error"
		}
		r.finish(r.process.code, reason, "")
		onEnd()
	}()
}

func (r *run) finish(code int, reason, message string) {
	r.end.Do(func() {
		r.ended = &corev1.ContainerStateTerminated{
			ExitCode: int32(code), Reason: reason, Message: message,
			StartedAt: metav1.NewTime(r.started), FinishedAt: metav1.Now(),
		}
		r.journal.close()
		close(r.over)
	})
}

func (r *run) isOver() bool {
	select {
	case <-r.over:
		return true
	default:
		return false
	}
}

func (c *container) runs() (now, old *run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now, c.old
}

// restartIn says whether the pod's policy wants an ended container back, and how long from now.
func (c *container) restartIn(policy corev1.RestartPolicy) (time.Duration, bool) {
	now, _ := c.runs()
	if c.ephemeral || policy == corev1.RestartPolicyNever || (policy == corev1.RestartPolicyOnFailure && now.ended.ExitCode == 0) {
		return 0, false
	}
	backoff := min(time.Second<<min(c.restarts, 5), 10*time.Second)
	return time.Until(now.ended.FinishedAt.Add(backoff)), true
}

func (c *container) status(id string, policy corev1.RestartPolicy) corev1.ContainerStatus {
	now, old := c.runs()
	s := corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, ImageID: "host", ContainerID: "host://" + id,
		RestartCount: c.restarts, Started: new(bool),
	}
	if old != nil && old.isOver() {
		s.LastTerminationState.Terminated = old.ended
	}
	switch {
	case !now.isOver():
		*s.Started, s.Ready = true, !c.ephemeral
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now.started)}
	default:
		if _, again := c.restartIn(policy); again {
			s.LastTerminationState.Terminated = now.ended
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
		} else {
			s.State.Terminated = now.ended
		}
	}
	return s
}
