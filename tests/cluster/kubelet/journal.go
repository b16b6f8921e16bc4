package kubelet

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// journalBytes bounds what is kept of one run of a container; the oldest goes first.
const journalBytes = 8 << 20

type entry struct {
	at     time.Time
	stderr bool
	data   []byte // ends with a newline, unless the process has not written one yet
}

// journal is what one run of a container wrote. Readers hold a position in it and wait for more.
type journal struct {
	mu      sync.Mutex
	entries []entry
	first   int // position of entries[0]
	size    int
	closed  bool
	changed chan struct{}
}

func newJournal() *journal { return &journal{changed: make(chan struct{})} }

type journalWriter struct {
	*journal
	stderr bool
}

func (j *journal) stdout() io.Writer { return journalWriter{j, false} }
func (j *journal) stderr() io.Writer { return journalWriter{j, true} }

func (w journalWriter) Write(p []byte) (int, error) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range bytes.Lines(bytes.Clone(p)) {
		w.entries = append(w.entries, entry{now, w.stderr, line})
		w.size += len(line)
	}
	for w.size > journalBytes {
		w.size -= len(w.entries[0].data)
		w.entries = w.entries[1:]
		w.first++
	}
	w.announce()
	return len(p), nil
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	j.announce()
}

func (j *journal) announce() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// since returns what stands at and after a position, the position after that, and either that
// nothing can follow or the channel that closes when something did.
func (j *journal) since(position int) (found []entry, next int, closed bool, changed <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	end := j.first + len(j.entries)
	position = min(max(position, j.first), end)
	return j.entries[position-j.first:], end, j.closed, j.changed
}

func (j *journal) end() int {
	_, next, _, _ := j.since(0)
	return next
}

// tail is the position of the last n lines.
func (j *journal) tail(n int) int {
	entries, next, _, _ := j.since(0)
	i := len(entries)
	for ; i > 0; i-- {
		if i == len(entries) || entries[i-1].data[len(entries[i-1].data)-1] == '\n' {
			if n == 0 {
				break
			}
			n--
		}
	}
	return next - len(entries) + i
}
