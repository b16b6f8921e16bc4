// Command informers is a client as controllers are: two informers that watch, and many requests at once.
// It says on standard output what it has seen, and ends with 1 and the reason if anything is otherwise than it must be.
//
//	informers NAMESPACE   with KUBECONFIG as kubectl has it
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
)

const (
	atOnce   = 50
	patience = 60 * time.Second
	label    = "of=informers"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: informers NAMESPACE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := run(ctx, os.Args[1]); err != nil {
		log.Fatalf("informers: %v", err)
	}
}

func run(ctx context.Context, namespace string) error {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		return err
	}
	config.QPS = -1 // as fast as it can
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	seen := newSeen()
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().ConfigMaps().Informer(), factory.Core().V1().Pods().Informer(),
	} {
		if _, err := informer.AddEventHandler(seen); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("no list of %v", kind)
		}
	}
	fmt.Println("synced")
	if err := everything(ctx, client, namespace, seen); err != nil {
		return err
	}
	return execs(ctx, config, client, namespace)
}

// everything that is done to the configmaps is done to all of them at once, and seen by the informer.
func everything(ctx context.Context, client *kubernetes.Clientset, namespace string, seen *seen) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	named := func(n int) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("informed-%02d", n), Labels: map[string]string{"of": "informers"}},
			Data:       map[string]string{"n": fmt.Sprint(n)},
		}
	}
	for _, step := range []struct {
		what string
		do   func(n int) error
	}{
		{"created", func(n int) error {
			_, err := maps.Create(ctx, named(n), metav1.CreateOptions{})
			return err
		}},
		{"read", func(n int) error {
			got, err := maps.Get(ctx, named(n).Name, metav1.GetOptions{})
			if err == nil && got.Data["n"] != fmt.Sprint(n) {
				return fmt.Errorf("%s holds %v", got.Name, got.Data)
			}
			return err
		}},
		{"updated", func(n int) error {
			changed := named(n)
			changed.Data["more"] = strings.Repeat("x", 10_000)
			_, err := maps.Update(ctx, changed, metav1.UpdateOptions{})
			return err
		}},
		{"deleted", func(n int) error {
			return maps.Delete(ctx, named(n).Name, metav1.DeleteOptions{})
		}},
	} {
		if err := together(step.do); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		if step.what != "read" {
			if err := seen.wait(ctx, step.what, atOnce); err != nil {
				return err
			}
		}
		fmt.Println(atOnce, step.what)
	}
	left, err := maps.List(ctx, metav1.ListOptions{LabelSelector: label})
	if err == nil && len(left.Items) > 0 {
		err = fmt.Errorf("%d are left", len(left.Items))
	}
	if _, refused := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(refused) {
		err = errors.Join(err, fmt.Errorf("nodes: %v, and not the API server's refusal", refused))
	}
	return err
}

// execs runs as many commands at once as there are requests above, each with output of its own.
func execs(ctx context.Context, config *rest.Config, client *kubernetes.Clientset, namespace string) error {
	err := together(func(n int) error {
		request := client.CoreV1().RESTClient().Get().Resource("pods").Namespace(namespace).Name("box").SubResource("exec").
			VersionedParams(&corev1.PodExecOptions{
				Command: []string{"sh", "-c", fmt.Sprintf("cat; echo out-%d; echo err-%d >&2", n, n)},
				Stdin:   true, Stdout: true, Stderr: true,
			}, scheme.ParameterCodec)
		executor, err := remotecommand.NewWebSocketExecutor(config, "GET", request.URL().String())
		if err != nil {
			return err
		}
		var out, errs bytes.Buffer
		err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{
			Stdin: strings.NewReader(fmt.Sprintf("in-%d\n", n)), Stdout: &out, Stderr: &errs,
		})
		if err == nil && (out.String() != fmt.Sprintf("in-%d\nout-%d\n", n, n) || errs.String() != fmt.Sprintf("err-%d\n", n)) {
			err = fmt.Errorf("got %q and %q", &out, &errs)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	fmt.Println(atOnce, "executed")
	return nil
}

func together(do func(n int) error) error {
	results := make([]error, atOnce)
	var all sync.WaitGroup
	for n := range atOnce {
		all.Go(func() { results[n] = do(n) })
	}
	all.Wait()
	return errors.Join(results...)
}

// seen counts what informers tell of objects with our label.
type seen struct {
	mu      sync.Mutex
	names   map[string]map[string]bool
	changed chan struct{}
}

func newSeen() *seen {
	return &seen{names: map[string]map[string]bool{}, changed: make(chan struct{}, 1)}
}

func (s *seen) OnAdd(object any, _ bool) { s.add("created", object) }
func (s *seen) OnUpdate(_, object any)   { s.add("updated", object) }
func (s *seen) OnDelete(object any)      { s.add("deleted", object) }

func (s *seen) add(what string, object any) {
	meta, ok := object.(metav1.Object)
	if !ok || meta.GetLabels()["of"] != "informers" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names[what] == nil {
		s.names[what] = map[string]bool{}
	}
	s.names[what][meta.GetName()] = true
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *seen) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.names[what])
}

func (s *seen) wait(ctx context.Context, what string, count int) error {
	for s.count(what) < count {
		select {
		case <-s.changed:
		case <-ctx.Done():
			return fmt.Errorf("only %d of %d were seen %s", s.count(what), count, what)
		}
	}
	return nil
}
