package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
)

// This file turns signals into two contexts: the first asks for a drain, the
// second cuts it. A third does what it does to any program.

// interrupts is what signals ask for.
type interrupts struct {
	drain context.Context // done: accept nothing new, finish what runs
	abort context.Context // done: cut what runs

	cancelDrain context.CancelCauseFunc
	cancelAbort context.CancelCauseFunc
	signals     chan os.Signal
	stopped     chan struct{}
	once        sync.Once
	done        chan struct{} // run has returned
}

// A signalError is why a context of interrupts was cancelled.
type signalError struct{ sig os.Signal }

func (e *signalError) Error() string { return "interrupted by " + e.sig.String() }

// watchInterrupts begins to catch signals. ctx done is like the first one.
// stop must be called.
func watchInterrupts(ctx context.Context) *interrupts {
	in := &interrupts{signals: make(chan os.Signal, 2), stopped: make(chan struct{}), done: make(chan struct{})}
	in.drain, in.cancelDrain = context.WithCancelCause(ctx)
	in.abort, in.cancelAbort = context.WithCancelCause(context.WithoutCancel(ctx))
	for _, sig := range catchable() {
		// What nohup or a shell's & made us ignore stays ignored.
		if !signal.Ignored(sig) {
			signal.Notify(in.signals, sig)
		}
	}
	go in.run()
	return in
}

// run is owned by whoever called watchInterrupts: stop ends it and waits.
func (in *interrupts) run() {
	defer close(in.done)
	for {
		select {
		case sig := <-in.signals:
			if in.drain.Err() == nil && !isUrgent(sig) {
				in.cancelDrain(&signalError{sig})
				continue
			}
			signal.Stop(in.signals)
			in.cut(&signalError{sig})
			return
		case <-in.stopped:
			return
		}
	}
}

// cut cancels both.
func (in *interrupts) cut(cause error) {
	in.cancelDrain(cause)
	in.cancelAbort(cause)
}

// stop lets signals do again what they do to any program.
func (in *interrupts) stop() {
	in.once.Do(func() {
		signal.Stop(in.signals)
		close(in.stopped)
		<-in.done
		in.cut(context.Canceled)
	})
}

// ignorePipeSignal makes a broken standard output an error of the write that
// finds it instead of the end of the process. Programs that we start do not
// inherit it, as they would SIG_IGN.
func ignorePipeSignal() (stop func()) {
	if pipeSignal == nil {
		return func() {}
	}
	none := make(chan os.Signal, 1)
	signal.Notify(none, pipeSignal)
	return func() { signal.Stop(none) }
}

// why is the reason of a drain, for people.
func (in *interrupts) why() string {
	if cause := context.Cause(in.drain); cause != nil {
		return cause.Error()
	}
	return fmt.Sprint(in.drain.Err())
}
