package kubelet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// firstSize is how long a terminal waits for its client's first resize, so that the command starts with it.
const firstSize = 50 * time.Millisecond

// stream answers one request to stream with a container, or a port, of a pod.
type stream struct {
	pod       *pod
	container *container
}

// ExecInContainer leaves the command running if only the client goes away, as container runtimes do: the
// next write fails it.
func (s stream) ExecInContainer(_ context.Context, _, _, _ string, argv []string, in io.Reader, out, errs io.WriteCloser, tty bool, sizes <-chan remotecommand.TerminalSize, _ time.Duration) error {
	c := command{argv: argv, env: s.pod.environment(s.container.spec), dir: s.pod.dir, tty: tty, stdin: in != nil}
	if out != nil {
		c.stdout = out
	}
	if errs != nil {
		c.stderr = errs
	}
	if tty {
		c.env = append(c.env, "TERM=xterm")
		select {
		case size, ok := <-sizes:
			if ok {
				c.size = &size
			}
		case <-time.After(firstSize):
		}
	}
	p, err := start(c)
	if err != nil {
		return err
	}
	if in != nil {
		go p.feed(in, true)
	}
	go p.resize(sizes)
	<-p.done
	if p.code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("exit status %d", p.code), Code: p.code}
	}
	return nil
}

func (s stream) AttachContainer(_ context.Context, _, _, _ string, in io.Reader, out, errs io.WriteCloser, _ bool, sizes <-chan remotecommand.TerminalSize) error {
	now, _ := s.container.runs()
	position := now.journal.end()
	gone := make(chan struct{})
	if p := now.process; p != nil {
		if in != nil && p.stdin != nil {
			go p.feed(in, s.container.spec.StdinOnce)
		}
		go p.resize(sizes)
	} else if in != nil {
		go func() {
			io.Copy(io.Discard, in)
			close(gone)
		}()
	}
	for {
		entries, next, closed, changed := now.journal.since(position)
		for _, e := range entries {
			to := out
			if e.stderr {
				to = errs
			}
			if to == nil {
				continue
			}
			if _, err := to.Write(e.data); err != nil {
				return nil
			}
		}
		position = next
		if closed {
			return nil
		}
		select {
		case <-changed:
		case <-gone:
			return nil
		}
	}
}

func (p *process) feed(in io.Reader, last bool) {
	io.Copy(p.stdin, in)
	if last && !p.tty {
		p.stdin.Close()
	}
}

func (p *process) resize(sizes <-chan remotecommand.TerminalSize) {
	for size := range sizes {
		if p.tty {
			setSize(p.stdin, size)
		}
	}
}

func (s stream) PortForward(_ context.Context, _, _ string, port int32, client io.ReadWriteCloser) error {
	defer client.Close()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		io.Copy(conn, client)
		conn.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(client, conn)
	return err
}

type logOptions struct {
	from, limit        int // limit < 0: none
	since              time.Time
	follow, timestamps bool
}

func writeLog(ctx context.Context, w http.ResponseWriter, j *journal, o logOptions) {
	position, lineStart := o.from, true
	for {
		entries, next, closed, changed := j.since(position)
		for _, e := range entries {
			if e.at.Before(o.since) {
				continue
			}
			data := e.data
			if o.timestamps && lineStart {
				data = append([]byte(e.at.Format(time.RFC3339Nano)+" "), data...)
			}
			lineStart = e.data[len(e.data)-1] == '\n'
			if o.limit >= 0 {
				data = data[:min(len(data), o.limit)]
				o.limit -= len(data)
			}
			if _, err := w.Write(data); err != nil || o.limit == 0 {
				return
			}
		}
		position = next
		if closed || !o.follow {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
