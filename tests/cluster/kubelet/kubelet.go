// Package kubelet stands in for a kubelet: pods bound to its node are Running, and what they run, runs on
// the host as the OS user who started it. It isolates nothing and is for tests alone.
package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

// workers is how many pods are looked after at once: one may be waiting for its processes to end.
const workers = 8

// Config says where things are. Files are PEM.
type Config struct {
	Node       string // its name
	Kubeconfig string
	Listen     string // address and port of the kubelet API
	Cert, Key  string // which it serves
	ClientCA   string // whose client certificates may call it: the API server's only
	Root       string // directory for the pods' directories
}

type kubelet struct {
	node   string
	port   int32
	root   string
	client kubernetes.Interface
	pods   cache.Indexer
	queue  workqueue.TypedRateLimitingInterface[string]

	mu      sync.Mutex
	running map[types.UID]*pod
	ips     atomic.Int32
}

// Run serves until ctx ends; then it kills every process of every pod.
func Run(ctx context.Context, c Config) error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 500, 1000 // tests should not wait for a client's politeness
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	tlsConfig, err := serving(c)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	k := &kubelet{
		node: c.Node, port: int32(listener.Addr().(*net.TCPAddr).Port), root: c.Root, client: client,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](20*time.Millisecond, 2*time.Second)),
		running: map[types.UID]*pod{},
	}
	defer k.killEverything()

	failed := make(chan error, 1)
	server := &http.Server{Handler: k.handler(), TLSConfig: tlsConfig}
	go func() { failed <- server.ServeTLS(listener, "", "") }()
	defer server.Close()

	go k.heartbeat(ctx)
	k.watch(ctx)
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// serving accepts certificates of one authority, which has signed exactly one: the API server's.
func serving(c Config) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("no certificate in " + c.ClientCA)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"}, // streams need an upgrade
	}, nil
}

func (k *kubelet) watch(ctx context.Context) {
	factory := informers.NewSharedInformerFactory(k.client, 0)
	informer := factory.Core().V1().Pods().Informer()
	k.pods = informer.GetIndexer()
	enqueue := func(object any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
			k.queue.Add(key)
		}
	}
	informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: enqueue, DeleteFunc: enqueue, UpdateFunc: func(_, object any) { enqueue(object) },
	})
	factory.Start(ctx.Done())
	for range workers {
		go k.work(ctx)
	}
	go func() {
		<-ctx.Done()
		k.queue.ShutDown()
	}()
}

func (k *kubelet) work(ctx context.Context) {
	for {
		key, shutdown := k.queue.Get()
		if shutdown {
			return
		}
		if err := k.sync(ctx, key); err != nil {
			log.Printf("pod %s: %v", key, err)
			k.queue.AddRateLimited(key)
		} else {
			k.queue.Forget(key)
		}
		k.queue.Done(key)
	}
}

// podOf returns the pod with this name that runs here.
func (k *kubelet) podOf(namespace, name string) (*pod, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.running {
		if spec := p.current(); spec.Namespace == namespace && spec.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("pod %s/%s does not run here", namespace, name)
}

// admit returns the pod, new or already here.
func (k *kubelet) admit(spec *corev1.Pod) (*pod, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.running[spec.UID]; p != nil {
		return p, nil
	}
	n := k.ips.Add(1)
	p, err := newPod(spec, k.root, fmt.Sprintf("10.244.%d.%d", n/250%250, n%250+1))
	if err == nil {
		k.running[spec.UID] = p
	}
	return p, err
}

func (k *kubelet) forget(uid types.UID, grace time.Duration) {
	k.mu.Lock()
	p := k.running[uid]
	delete(k.running, uid)
	k.mu.Unlock()
	if p != nil {
		p.kill(grace)
	}
}

func (k *kubelet) killEverything() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.running {
		p.kill(0)
	}
}
