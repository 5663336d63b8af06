package reactor

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

const (
	// BufferSize is what a Loop receives at once, into the one buffer that all
	// its connections share.
	BufferSize = 64 << 10
	// MaxPosts bounds the functions that wait to be run on a Loop.
	MaxPosts = 1 << 16
	// hiccup is how long a Loop pauses when its wait fails, which only want of
	// kernel memory can cause.
	hiccup = time.Millisecond
)

// A Loop waits for the descriptors of its Nodes and for its timers, and calls
// their Sources, on the goroutine of Run.
type Loop struct {
	// Buffer is for one receive and what is done with it at once: the next
	// Source that is called may overwrite it.
	Buffer []byte

	engine engine
	base   time.Time
	now    time.Duration // since base, when the last wait returned
	wheel  wheel
	again  []*Node // to be called again
	called []*Node // the slice that again was before, for the next

	stopped bool          // Stop was called; the loop's goroutine only
	ended   chan struct{} // closed when Run has returned
	beat    atomic.Uint64 // odd while Sources are called: see Beat

	mu    sync.Mutex // guards what follows
	posts []func()
	spare []func() // the slice that posts was before, for the next
	over  bool     // Run takes no more
}

// New makes a Loop that is not running. On Linux it costs two descriptors, and
// a third once every processor has a loop,
// which Run releases when it ends; a Loop that is not to be run is closed by
// Discard. The errors are want of descriptors or memory.
func New() (*Loop, error) {
	l := &Loop{Buffer: make([]byte, BufferSize), base: time.Now(), ended: make(chan struct{})}
	if err := l.engine.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// Now is the time at which the loop woke up last: good enough for records and
// timers, and free.
func (l *Loop) Now() time.Time { return l.base.Add(l.now) }

// Elapsed is Now as a duration since the loop was made.
func (l *Loop) Elapsed() time.Duration { return l.now }

// At is the time of an Elapsed.
func (l *Loop) At(d time.Duration) time.Time { return l.base.Add(d) }

// Beat counts up when the loop begins to call Sources and when it has ended:
// the same odd number seen twice is one that has not come back in between.
func (l *Loop) Beat() uint64 { return l.beat.Load() }

// Run runs the loop until a Source or a posted function calls Stop. Nodes that
// are left then are closed without a word to their Sources.
func (l *Loop) Run() {
	defer close(l.ended)
	defer l.release()
	for !l.stopped {
		n, err := l.engine.wait(l.patience())
		l.now = time.Since(l.base)
		l.beat.Add(1)
		if err != nil {
			<-time.After(hiccup)
		}
		for i := range n {
			// An event may be about a descriptor that was closed, and perhaps
			// made anew, since the wait returned.
			if node, found := l.engine.event(i); node != nil {
				node.Source.Ready(found)
			}
		}
		if l.engine.rest() {
			l.runPosts()
		}
		if len(l.again) > 0 {
			l.callAgain()
		}
		l.wheel.advance(l.ticks())
		l.beat.Add(1)
	}
}

// callAgain calls those who have left something. What they leave now is for
// the next time.
func (l *Loop) callAgain() {
	nodes := l.again
	l.again = l.called[:0]
	for i, n := range nodes {
		nodes[i] = nil
		if n.again && n.gen != 0 {
			n.again = false
			n.Source.Ready(sys.EventIn)
		}
	}
	l.called = nodes
}

// patience is how long the wait may take; negative is for ever.
func (l *Loop) patience() time.Duration {
	if len(l.again) > 0 {
		return 0
	}
	due, ok := l.wheel.next()
	if !ok {
		return -1
	}
	left := time.Duration(int32(due-l.ticks()))*tick - l.now%tick - (time.Since(l.base) - l.now)
	return max(0, left)
}

// Nodes yields the Nodes that are open. Some may be closed meanwhile.
func (l *Loop) Nodes(yield func(*Node) bool) { l.engine.all(yield) }

// Stop makes Run return when the events at hand are done with. Call it on the
// loop.
func (l *Loop) Stop() { l.stopped = true }

// Ended is closed when Run has returned.
func (l *Loop) Ended() <-chan struct{} { return l.ended }

// Discard releases a Loop that was never run.
func (l *Loop) Discard() {
	l.release()
	close(l.ended)
}

func (l *Loop) release() {
	l.mu.Lock()
	l.over = true
	l.posts = nil
	l.mu.Unlock()
	for n := range l.engine.all {
		l.Close(n)
	}
	l.engine.close()
}

// The reasons why a function is not posted.
var (
	ErrOver = errors.New("the loop has ended")
	ErrFull = errors.New("too many functions wait for the loop")
)

// Post has f run on the loop, soon and after what was posted before. It may be
// called from any goroutine, and does not wait. ErrFull: MaxPosts are waiting.
// ErrOver: the loop has ended. A function that was taken is run, unless the
// loop is stopped first.
func (l *Loop) Post(f func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return ErrOver
	}
	if len(l.posts) >= MaxPosts {
		return ErrFull
	}
	l.post(f)
	return nil
}

// Tell is Post for those who tell a loop of few things: it knows no bound.
// False: the loop has ended, and f is not run.
func (l *Loop) Tell(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.post(f)
	return true
}

func (l *Loop) post(f func()) {
	l.posts = append(l.posts, f)
	if len(l.posts) == 1 {
		l.engine.wake()
	}
}

func (l *Loop) runPosts() {
	l.mu.Lock()
	posts := l.posts
	l.posts = l.spare[:0]
	l.mu.Unlock()
	for i, f := range posts {
		posts[i] = nil
		f()
	}
	if cap(posts) <= 1024 { // a burst is no reason to keep so much
		l.spare = posts
	} else {
		l.spare = nil
	}
}
