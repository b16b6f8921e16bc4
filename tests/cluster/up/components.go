package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// etcd listens on sockets in the cluster's directory, mode 0700: no port to collide on, and nobody else reads it.
// The host:port form is what it insists on; the file is called "etcd:1".
const (
	etcdClient = "unix://etcd:1"
	etcdPeer   = "unix://peer:1"
)

// Everything is at level Metadata, once its response is known (an exec: twice, when it starts and when it ends).
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

func (l *layout) writeFiles() error {
	if err := os.WriteFile(l.path("audit-policy.yaml"), []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	return l.writeCredentials()
}

func (l *layout) etcd() component {
	return component{name: "etcd", path: filepath.Join(l.assets, "etcd"), dir: l.dir, orphaned: syscall.SIGKILL, args: []string{
		"--data-dir=etcd-data",
		"--unsafe-no-fsync",
		"--heartbeat-interval=10", "--election-timeout=100", // of itself, and at once
		"--listen-client-urls=" + etcdClient, "--advertise-client-urls=" + etcdClient,
		"--listen-peer-urls=" + etcdPeer, "--initial-advertise-peer-urls=" + etcdPeer,
		"--initial-cluster=default=" + etcdPeer,
	}}
}

func (l *layout) etcdListens(context.Context) error {
	_, err := os.Stat(l.path("etcd:1"))
	return err
}

func (l *layout) apiserver() component {
	return component{name: "kube-apiserver", path: filepath.Join(l.assets, "kube-apiserver"), dir: l.dir, orphaned: syscall.SIGKILL, args: append([]string{
		"--etcd-servers=" + etcdClient,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", l.port.number),
		"--endpoint-reconciler-type=none", // an endpoint on loopback is not valid
		"--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file=pki/apiserver.crt", "--tls-private-key-file=pki/apiserver.key",
		"--client-ca-file=ca.crt",
		"--authorization-mode=RBAC",
		"--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=pki/sa.key", "--service-account-signing-key-file=pki/sa.key",
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-certificate-authority=ca.crt",
		"--kubelet-client-certificate=pki/kubelet-client.crt", "--kubelet-client-key=pki/kubelet-client.key",
		"--audit-policy-file=audit-policy.yaml", "--audit-log-path=audit.log",
		"--audit-log-mode=blocking", "--audit-log-maxsize=100000", // never rotated away from a reader
		"--profiling=false",
	}, l.more...)}
}

func (l *layout) controllerManager() component {
	return component{name: "kube-controller-manager", path: filepath.Join(l.assets, "kube-controller-manager"), dir: l.dir, orphaned: syscall.SIGKILL, args: []string{
		"--kubeconfig=pki/controller-manager.kubeconfig",
		"--secure-port=0",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=pki/sa.key",
		"--root-ca-file=ca.crt",
		"--cluster-signing-cert-file=ca.crt", "--cluster-signing-key-file=ca.key",
		"--node-monitor-grace-period=1h", // a test may stop the API server for long
		"--kube-api-qps=500", "--kube-api-burst=1000",
		"--profiling=false",
	}}
}

func (l *layout) kubelet(self string) component {
	// SIGTERM: it has pods to kill.
	return component{name: "kubelet", path: self, dir: l.dir, orphaned: syscall.SIGTERM, args: []string{
		"kubelet",
		"--node=" + nodeName,
		"--kubeconfig=pki/kubelet.kubeconfig",
		"--tls-cert-file=pki/kubelet.crt", "--tls-private-key-file=pki/kubelet.key",
		"--client-ca-file=pki/kubelet-client-ca.crt",
		"--root=" + l.path("pods"),
	}}
}
