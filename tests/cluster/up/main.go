// Command test-cluster runs a Kubernetes control plane and a kubelet stand-in on this machine's loopback
// interface, for tests, benchmarks and the quickstart. See README.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"bastion-audit.dev/tests/cluster/kubelet"
)

// The main goroutine stays on the main thread: children die with the *thread* that started them.
func init() { runtime.LockOSThread() }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var err error
	switch command, args := split(os.Args[1:]); command {
	case "up":
		err = up(ctx, parseUp(args))
	case "requestinfo":
		err = requestInfo(os.Stdin, os.Stdout)
	case "kubelet":
		err = kubelet.Run(ctx, parseKubelet(args))
	default:
		fmt.Fprintln(os.Stderr, "usage: test-cluster up --dir DIR [--assets DIR] [--stdin-eof] [--timeout D] [--apiserver-flag=--F=V]...")
		os.Exit(2)
	}
	if err != nil {
		log.SetFlags(0)
		log.Fatalf("test-cluster: %v", err)
	}
}

func split(args []string) (string, []string) {
	if len(args) == 0 {
		return "", nil
	}
	return args[0], args[1:]
}

type options struct {
	dir, assets    string
	stdinEOF       bool
	timeout        time.Duration
	apiserverFlags repeated
}

type repeated []string

func (r *repeated) String() string     { return strings.Join(*r, " ") }
func (r *repeated) Set(s string) error { *r = append(*r, s); return nil }

func parseUp(args []string) (o options) {
	flags := flag.NewFlagSet("up", flag.ExitOnError)
	flags.StringVar(&o.dir, "dir", "", "`directory` for all state; made if missing, refused if not empty")
	flags.StringVar(&o.assets, "assets", "", "`directory` with etcd, kube-apiserver, kube-controller-manager and kubectl (default: this program's)")
	flags.BoolVar(&o.stdinEOF, "stdin-eof", false, "stop when standard input ends, that is when the parent died")
	flags.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long the cluster may take to become ready")
	flags.Var(&o.apiserverFlags, "apiserver-flag", "one more `flag` for kube-apiserver; may be repeated")
	flags.Parse(args)
	if o.dir == "" || flags.NArg() > 0 {
		flags.Usage()
		os.Exit(2)
	}
	if o.assets == "" {
		// Not os.Executable: build.sh's directory holds links, and the components are beside the link.
		if self, err := exec.LookPath(os.Args[0]); err == nil {
			o.assets = filepath.Dir(self)
		}
	}
	return o
}

func parseKubelet(args []string) (c kubelet.Config) {
	flags := flag.NewFlagSet("kubelet", flag.ExitOnError)
	flags.StringVar(&c.Node, "node", "", "")
	flags.StringVar(&c.Kubeconfig, "kubeconfig", "", "")
	flags.StringVar(&c.Listen, "listen", "127.0.0.1:0", "")
	flags.StringVar(&c.Cert, "tls-cert-file", "", "")
	flags.StringVar(&c.Key, "tls-private-key-file", "", "")
	flags.StringVar(&c.ClientCA, "client-ca-file", "", "")
	flags.StringVar(&c.Root, "root", "", "")
	flags.Parse(args)
	return c
}
