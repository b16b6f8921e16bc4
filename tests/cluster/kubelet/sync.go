package kubelet

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxGrace bounds what a pod's processes get between SIGTERM and SIGKILL, whatever the pod asks for.
const maxGrace = time.Second

// sync brings one pod a step on: bind it, run it, report it, end it.
func (k *kubelet) sync(ctx context.Context, key string) error {
	object, exists, err := k.pods.GetByKey(key)
	if err != nil {
		return err
	}
	var spec *corev1.Pod
	if exists {
		spec = object.(*corev1.Pod)
	}
	k.forgetOthers(key, spec)
	switch {
	case spec == nil:
		return nil
	case spec.Spec.NodeName == "":
		return k.bind(ctx, spec)
	case spec.Spec.NodeName != k.node:
		return nil
	case spec.DeletionTimestamp != nil:
		return k.remove(ctx, spec)
	}
	p, err := k.admit(spec)
	if err != nil {
		return err
	}
	if again := p.converge(spec, func() { k.queue.Add(key) }); again > 0 {
		k.queue.AddAfter(key, again)
	}
	status := p.status()
	if equality.Semantic.DeepEqual(status, spec.Status) {
		return nil
	}
	updated := spec.DeepCopy()
	updated.Status = status
	_, err = k.client.CoreV1().Pods(spec.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // the watch brings the newer object
	}
	return err
}

// forgetOthers ends pods of this name that are no longer the one the API server has.
func (k *kubelet) forgetOthers(key string, current *corev1.Pod) {
	var stale []types.UID
	k.mu.Lock()
	for uid, p := range k.running {
		spec := p.current()
		if spec.Namespace+"/"+spec.Name == key && (current == nil || current.UID != uid) {
			stale = append(stale, uid)
		}
	}
	k.mu.Unlock()
	for _, uid := range stale {
		k.forget(uid, 0)
	}
}

// bind is the scheduler's part: this node takes every pod that nothing else would.
func (k *kubelet) bind(ctx context.Context, spec *corev1.Pod) error {
	if len(spec.Spec.SchedulingGates) > 0 || spec.DeletionTimestamp != nil || spec.Spec.SchedulerName != corev1.DefaultSchedulerName {
		return nil
	}
	err := k.client.CoreV1().Pods(spec.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: spec.Namespace, Name: spec.Name, UID: spec.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: k.node},
	}, metav1.CreateOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// remove is what makes a graceful deletion final. Finalizers stay with whoever set them.
func (k *kubelet) remove(ctx context.Context, spec *corev1.Pod) error {
	grace := maxGrace
	if s := spec.DeletionGracePeriodSeconds; s != nil {
		grace = min(grace, time.Duration(*s)*time.Second)
	}
	k.forget(spec.UID, grace)
	err := k.client.CoreV1().Pods(spec.Namespace).Delete(ctx, spec.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &spec.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
