package kubelet

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// linger is how long output may stay silent, after a process has ended, while one of its children holds it open.
const linger = 100 * time.Millisecond

type command struct {
	argv, env      []string
	dir            string
	tty, stdin     bool
	stdout, stderr io.Writer                   // nil discards
	size           *remotecommand.TerminalSize // of the terminal before the first instruction runs
}

// process is a command of a pod on the host: the leader of its own session, on a terminal or on pipes.
type process struct {
	cmd    *exec.Cmd
	stdin  *os.File // nil if the command has none; the terminal itself if there is one
	tty    bool
	exited chan struct{} // the command ended
	done   chan struct{} // and its output is written
	code   int           // valid once done
}

func start(c command) (*process, error) {
	p := &process{tty: c.tty, exited: make(chan struct{}), done: make(chan struct{})}
	path, err := c.argv[0], error(nil)
	if !strings.Contains(path, "/") {
		if path, err = exec.LookPath(path); err != nil {
			return nil, err
		}
	}
	p.cmd = &exec.Cmd{Path: path, Args: c.argv, Env: c.env, Dir: c.dir}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	var outputs []output
	var ours, theirs []*os.File
	if c.tty {
		outputs, ours, theirs, err = p.onTerminal(c)
	} else {
		outputs, ours, theirs, err = p.onPipes(c)
	}
	defer closeAll(theirs)
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		closeAll(ours)
		return nil, err
	}
	go p.finish(outputs, ours)
	return p, nil
}

type output struct {
	from *os.File
	to   io.Writer
}

func (p *process) onTerminal(c command) (outputs []output, ours, theirs []*os.File, err error) {
	master, slave, err := openPTY()
	if err != nil {
		return nil, nil, nil, err
	}
	if c.size != nil {
		err = setSize(master, *c.size)
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr.Setctty = true
	p.stdin = master
	return []output{{master, c.stdout}}, []*os.File{master}, []*os.File{slave}, err
}

func (p *process) onPipes(c command) (outputs []output, ours, theirs []*os.File, err error) {
	for _, end := range []struct {
		file *io.Writer
		to   io.Writer
	}{{&p.cmd.Stdout, c.stdout}, {&p.cmd.Stderr, c.stderr}} {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, ours, theirs, err
		}
		*end.file = w
		outputs = append(outputs, output{r, end.to})
		ours, theirs = append(ours, r), append(theirs, w)
	}
	if c.stdin {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, ours, theirs, err
		}
		p.cmd.Stdin, p.stdin = r, w
		ours, theirs = append(ours, w), append(theirs, r)
	}
	return outputs, ours, theirs, nil
}

// finish waits for the command, then for every byte that it wrote: a slow reader loses nothing.
func (p *process) finish(outputs []output, ours []*os.File) {
	var drained sync.WaitGroup
	for _, o := range outputs {
		drained.Go(func() { drain(o.from, o.to, p.exited) })
	}
	err := p.cmd.Wait()
	close(p.exited)
	for _, o := range outputs {
		o.from.SetReadDeadline(time.Now()) // wakes drain, which then sets its own
	}
	drained.Wait()
	closeAll(ours)
	p.code = exitCode(p.cmd.ProcessState, err)
	close(p.done)
}

func drain(from *os.File, to io.Writer, exited <-chan struct{}) {
	if to == nil {
		to = io.Discard
	}
	defer from.Close() // a reader that went away is SIGPIPE or SIGHUP for the writer
	buf := make([]byte, 32<<10)
	var deadline time.Time
	for {
		select {
		case <-exited:
			deadline = time.Now().Add(linger)
			from.SetReadDeadline(deadline)
		default:
		}
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		woken := errors.Is(err, os.ErrDeadlineExceeded) && (deadline.IsZero() || time.Now().Before(deadline))
		if err != nil && !woken {
			return // EOF; EIO is how a terminal says it
		}
	}
}

func exitCode(state *os.ProcessState, err error) int {
	if state == nil || (err != nil && state.Success()) {
		return 128
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// killAll sends a signal to every process that carries the marker in its environment: children that
// left the session of their parent too. Says how many there were.
func killAll(marker string, signal syscall.Signal) int {
	entries, _ := os.ReadDir("/proc")
	found := 0
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid <= 1 || pid == os.Getpid() {
			continue
		}
		environ, err := os.ReadFile("/proc/" + entry.Name() + "/environ")
		if err == nil && strings.Contains("\x00"+string(environ), "\x00"+marker+"\x00") {
			found++
			syscall.Kill(pid, signal)
		}
	}
	return found
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
