package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

const nodeName = "test-node"

// announcement is the one line on standard output.
type announcement struct {
	Ready      bool           `json:"ready"`
	Version    string         `json:"version"`
	Server     string         `json:"server"`
	Kubeconfig string         `json:"kubeconfig"`
	CA         string         `json:"ca"`
	CAKey      string         `json:"caKey"`
	AuditLog   string         `json:"auditLog"`
	Kubectl    string         `json:"kubectl"`
	Node       string         `json:"node"`
	PIDs       map[string]int `json:"pids"`
}

// up runs the cluster until ctx ends, standard input ends (if asked to watch it) or a component dies.
func up(ctx context.Context, o options) (err error) {
	if o.stdinEOF {
		var end context.CancelFunc
		ctx, end = context.WithCancel(ctx)
		go func() {
			io.Copy(io.Discard, os.Stdin)
			end()
		}()
	}
	l, err := prepare(o)
	if err != nil {
		return err
	}
	defer l.port.release()
	children := newFamily(l.path("logs"))
	defer children.stop()

	line, err := l.bringUp(ctx, children)
	if err != nil {
		if ctx.Err() != nil {
			return errors.New("stopped before it was ready")
		}
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case dead := <-children.died:
		return dead
	}
}

func (l *layout) bringUp(ctx context.Context, children *family) (*announcement, error) {
	deadline, cancel := context.WithTimeoutCause(ctx, l.timeout, errTooSlow)
	defer cancel()
	c, err := newConditions(l.path("admin.kubeconfig"), children.died)
	if err != nil {
		return nil, err
	}
	// Each is started when it has somebody to talk to: it would give up, or back off for a second or more.
	if err := children.start(l.etcd()); err != nil {
		return nil, err
	}
	if err := c.wait(deadline, "etcd", l.etcdListens); err != nil {
		return nil, err
	}
	if err := children.start(l.apiserver()); err != nil {
		return nil, err
	}
	if err := c.wait(deadline, "kube-apiserver", c.apiserverReady); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := children.start(l.controllerManager(), l.kubelet(self)); err != nil {
		return nil, err
	}
	if err := c.wait(deadline, "the cluster", c.rolesFilled, c.nodeReady, c.serviceAccountExists); err != nil {
		return nil, err
	}
	version, err := c.client.Discovery().ServerVersion()
	if err != nil {
		return nil, err
	}
	return &announcement{
		Ready: true, Version: version.GitVersion, Server: l.server(),
		Kubeconfig: l.path("admin.kubeconfig"), CA: l.path("ca.crt"), CAKey: l.path("ca.key"),
		AuditLog: l.path("audit.log"), Kubectl: filepath.Join(l.assets, "kubectl"), Node: nodeName,
		PIDs: children.pids(),
	}, nil
}

var errTooSlow = errors.New("not ready in time")

// layout knows where everything is.
type layout struct {
	dir, assets string
	timeout     time.Duration
	port        *reservedPort
	more        []string // flags for kube-apiserver
}

func prepare(o options) (*layout, error) {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return nil, err
	}
	assets, err := filepath.Abs(o.assets)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager"} {
		if _, err := os.Stat(filepath.Join(assets, name)); err != nil {
			return nil, fmt.Errorf("%w (build.sh prints a directory that has it)", err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return nil, fmt.Errorf("%s must be empty: a cluster starts from nothing (%v)", dir, err)
	}
	port, err := reservePort()
	if err != nil {
		return nil, err
	}
	l := &layout{dir: dir, assets: assets, timeout: o.timeout, port: port, more: o.apiserverFlags}
	for _, sub := range []string{"logs", "pki", "pods"} {
		if err := os.Mkdir(l.path(sub), 0o700); err != nil {
			return nil, err
		}
	}
	return l, l.writeFiles()
}

func (l *layout) path(name ...string) string {
	return filepath.Join(append([]string{l.dir}, name...)...)
}
func (l *layout) server() string { return fmt.Sprintf("https://127.0.0.1:%d", l.port.number) }
