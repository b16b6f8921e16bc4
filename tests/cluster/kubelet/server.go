package kubelet

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

const idleTimeout = 4 * time.Hour // the kubelet's

// handler serves the part of the kubelet API that streams.
func (k *kubelet) handler() http.Handler {
	mux := http.NewServeMux()
	for _, id := range []string{"/{namespace}/{pod}/{container}", "/{namespace}/{pod}/{uid}/{container}"} {
		mux.HandleFunc("/exec"+id, k.serveExec)
		mux.HandleFunc("/attach"+id, k.serveAttach)
	}
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.serveLogs)
	for _, id := range []string{"/{namespace}/{pod}", "/{namespace}/{pod}/{uid}"} {
		mux.HandleFunc("/portForward"+id, k.servePortForward)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	return mux
}

func (k *kubelet) serveExec(w http.ResponseWriter, r *http.Request) {
	p, c, ok := k.target(w, r)
	if !ok {
		return
	}
	options, err := remotecommand.NewOptions(r)
	argv := r.URL.Query()["command"]
	if err != nil || len(argv) == 0 {
		http.Error(w, fmt.Sprintf("command or stream missing: %v", err), http.StatusBadRequest)
		return
	}
	remotecommand.ServeExec(w, r, stream{p, c}, p.current().Name, "", c.spec.Name, argv, options,
		idleTimeout, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

func (k *kubelet) serveAttach(w http.ResponseWriter, r *http.Request) {
	p, c, ok := k.target(w, r)
	if !ok {
		return
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	remotecommand.ServeAttach(w, r, stream{p, c}, p.current().Name, "", c.spec.Name, options,
		idleTimeout, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

func (k *kubelet) servePortForward(w http.ResponseWriter, r *http.Request) {
	p, err := k.podOf(r.PathValue("namespace"), r.PathValue("pod"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, stream{pod: p}, p.current().Name, "", options,
		idleTimeout, remotecommand.DefaultStreamCreationTimeout, portforward.SupportedProtocols)
}

func (k *kubelet) serveLogs(w http.ResponseWriter, r *http.Request) {
	_, c, ok := k.target(w, r)
	if !ok {
		return
	}
	query := r.URL.Query()
	now, old := c.runs()
	if query.Get("previous") == "true" {
		now = old
	}
	if now == nil {
		http.Error(w, "previous terminated container not found", http.StatusBadRequest)
		return
	}
	o := logOptions{limit: -1, follow: query.Get("follow") == "true", timestamps: query.Get("timestamps") == "true"}
	if n, err := strconv.Atoi(query.Get("tailLines")); err == nil {
		o.from = now.journal.tail(n)
	}
	if n, err := strconv.Atoi(query.Get("limitBytes")); err == nil {
		o.limit = n
	}
	if n, err := strconv.Atoi(query.Get("sinceSeconds")); err == nil {
		o.since = time.Now().Add(-time.Duration(n) * time.Second)
	} else if at, err := time.Parse(time.RFC3339, query.Get("sinceTime")); err == nil {
		o.since = at
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	writeLog(r.Context(), w, now.journal, o)
}

func (k *kubelet) target(w http.ResponseWriter, r *http.Request) (*pod, *container, bool) {
	p, err := k.podOf(r.PathValue("namespace"), r.PathValue("pod"))
	if err == nil {
		var c *container
		if c, err = p.container(r.PathValue("container")); err == nil {
			return p, c, true
		}
	}
	http.Error(w, err.Error(), http.StatusNotFound)
	return nil, nil, false
}
