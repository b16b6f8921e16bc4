package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// component is a program to run as a child.
type component struct {
	name, path, dir string
	args            []string
	orphaned        syscall.Signal // what it gets if this process dies
}

type child struct {
	component
	cmd  *exec.Cmd
	done chan struct{}
}

// family is the children: each is waited for, and none outlives this process.
type family struct {
	logs     string
	children []*child
	died     chan error // the first that ended by itself
	stopping chan struct{}
}

func newFamily(logs string) *family {
	return &family{logs: logs, died: make(chan error, 1), stopping: make(chan struct{})}
}

// start must be called by the main goroutine: see init.
func (f *family) start(components ...component) error {
	for _, c := range components {
		log, err := os.Create(f.logPath(c.name))
		if err != nil {
			return err
		}
		cmd := &exec.Cmd{Path: c.path, Args: append([]string{c.path}, c.args...), Dir: c.dir, Stdout: log, Stderr: log}
		// Its own group: a ^C in the terminal is for us, and we say in which order the others end.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: c.orphaned}
		err = cmd.Start()
		log.Close()
		if err != nil {
			return err
		}
		child := &child{component: c, cmd: cmd, done: make(chan struct{})}
		f.children = append(f.children, child)
		go f.watch(child)
	}
	return nil
}

func (f *family) watch(c *child) {
	err := c.cmd.Wait()
	close(c.done)
	select {
	case <-f.stopping:
		return
	default:
	}
	if err == nil {
		err = fmt.Errorf("exit status 0")
	}
	select {
	case f.died <- fmt.Errorf("%s died: %w; the end of its log:\n%s", c.name, err, lastLines(f.logPath(c.name), 20)):
	default:
	}
}

// stop ends the youngest first, etcd last: an API server without it lingers.
func (f *family) stop() {
	close(f.stopping)
	for i := len(f.children) - 1; i > 0; i-- {
		f.children[i].cmd.Process.Signal(syscall.SIGTERM)
	}
	for i := len(f.children) - 1; i >= 0; i-- {
		c := f.children[i]
		c.cmd.Process.Signal(syscall.SIGTERM)
		// A stopped process takes no SIGTERM; tests do stop them.
		c.cmd.Process.Signal(syscall.SIGCONT)
		select {
		case <-c.done:
		case <-time.After(3 * time.Second):
			c.cmd.Process.Kill()
			<-c.done
		}
	}
}

func (f *family) pids() map[string]int {
	pids := map[string]int{"test-cluster": os.Getpid()}
	for _, c := range f.children {
		pids[c.name] = c.cmd.Process.Pid
	}
	return pids
}

func (f *family) logPath(name string) string { return filepath.Join(f.logs, name+".log") }

func lastLines(path string, n int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
