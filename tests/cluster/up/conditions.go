package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// conditions are what a test takes for granted.
type conditions struct {
	client kubernetes.Interface
	died   <-chan error
}

func newConditions(kubeconfig string, died <-chan error) (*conditions, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	return &conditions{client, died}, err
}

// wait returns when every condition has held once, or says which one did not.
func (c *conditions) wait(ctx context.Context, what string, conditions ...func(context.Context) error) error {
	for _, holds := range conditions {
		for {
			err := holds(ctx)
			if err == nil {
				break
			}
			select {
			case dead := <-c.died:
				return dead
			case <-ctx.Done():
				return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func (c *conditions) apiserverReady(ctx context.Context) error {
	return c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// rolesFilled waits for the aggregation controller: until then view, edit and admin permit nothing.
func (c *conditions) rolesFilled(ctx context.Context) error {
	for _, name := range []string{"view", "edit", "admin"} {
		role, err := c.client.RbacV1().ClusterRoles().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(role.Rules) == 0 {
			return fmt.Errorf("ClusterRole %q is still empty", name)
		}
	}
	return nil
}

func (c *conditions) nodeReady(ctx context.Context) error {
	node, err := c.client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("Node %q is not Ready", nodeName)
}

func (c *conditions) serviceAccountExists(ctx context.Context) error {
	_, err := c.client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	return err
}
