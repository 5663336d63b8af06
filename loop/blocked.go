package loop

import (
	"bytes"
	"runtime"
	"time"
)

// This file notices handlers that block: a loop that has not come back from
// its handlers for too long.

// DefaultBlockedAfter is how long a handler may take where Server.Blocked is
// set.
const DefaultBlockedAfter = 100 * time.Millisecond

// looksPerBound is how often a loop is looked at within the bound: a handler
// that blocks is noticed at most a quarter late.
const looksPerBound = 4

// maxStack bounds the stacks that are looked through for the one that blocks.
const maxStack = 4 << 20

// watchLoops runs until Shutdown.
func (s *Server) watchLoops() {
	after := s.BlockedAfter
	if after <= 0 {
		after = DefaultBlockedAfter
	}
	t := time.NewTicker(max(after/looksPerBound, time.Millisecond))
	defer t.Stop()
	type look struct {
		beat  uint64
		since time.Time
		told  bool
	}
	looks := make([]look, len(s.cores))
	for {
		select {
		case <-s.over:
			return
		case <-t.C:
		}
		now := time.Now()
		for i, core := range s.cores {
			l := &looks[i]
			if beat := core.loop.Beat(); beat != l.beat || beat%2 == 0 {
				*l = look{beat: beat, since: now}
				continue
			}
			if held := now.Sub(l.since); held >= after && !l.told {
				l.told = true
				s.Blocked(held, core.stack())
			}
		}
	}
}

// learnID keeps what the loop's goroutine is called in stacks.
func (core *core) learnID() {
	var b [64]byte
	head := b[:runtime.Stack(b[:], false)]
	if i := bytes.IndexByte(head, '['); i > 0 {
		id := bytes.Clone(head[:i])
		core.id.Store(&id)
	}
}

// stack is what the loop's goroutine is doing; where a coroutine has it, what
// the coroutines are doing that do not wait.
func (core *core) stack() []byte {
	all := make([]byte, 64<<10)
	for {
		n := runtime.Stack(all, true)
		if n < len(all) || len(all) >= maxStack {
			all = all[:n]
			break
		}
		all = make([]byte, 2*len(all))
	}
	id := core.id.Load()
	var own, coroutines []byte
	for _, g := range bytes.SplitAfter(all, []byte("\n\n")) {
		switch {
		case id != nil && bytes.HasPrefix(g, *id):
			own = g
		case bytes.Contains(g, []byte("loop.(*Stream).serve")) && !bytes.Contains(firstLine(g), []byte("[coroutine")):
			coroutines = append(coroutines, g...)
		}
	}
	if bytes.Contains(firstLine(own), []byte("[coroutine")) && coroutines != nil {
		return coroutines
	}
	return own
}

func firstLine(b []byte) []byte {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return line
}
