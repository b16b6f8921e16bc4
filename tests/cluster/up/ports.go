package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// reservedPort is a free port that no other test-cluster of this OS user takes while we live.
type reservedPort struct {
	number int
	lock   *os.File
}

// reservePort looks below the range from which the kernel gives out client ports: the API server binds its
// port a second later, and nothing that dials out may have got it by then.
func reservePort() (*reservedPort, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("test-cluster-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for range 200 {
		number := 20000 + rand.IntN(12000)
		lock, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(number)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", number)); err == nil {
				return &reservedPort{number, lock}, listener.Close()
			}
		}
		lock.Close()
	}
	return nil, errors.New("no free port between 20000 and 32000")
}

func (p *reservedPort) release() {
	os.Remove(p.lock.Name())
	p.lock.Close()
}
