// This file holds the stream to a running program.
//
//	the program                      our Read          the ending
//	ends its output, exits with 0    io.EOF            Graceful
//	ends its output, exits with 3    KindReset         AbortedByPeer, "exit status 3"
//	dies on a signal                 KindReset         AbortedByPeer, "signal: killed"
//	ends its output, runs on         io.EOF after a    as its exit says, if that comes
//	                                 bounded wait      within the disconnect
//
// and in the other direction
//
//	CloseWrite    end of file on its standard input
//	Abort         SIGKILL, before it could see an end of file
//	Close         both pipes closed; killed if it still runs after the time exit

package stdio

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/deadline"
)

// programCaps is what a program can do: it hears of our abort by dying, and
// its own failure is its exit status.
const programCaps = pipeCaps | anysock.CapAbort | anysock.CapCutDetect

// A program is a stream to a program's standard input and output. A goroutine
// waits for its exit, so that it never stays as a zombie; it ends with the
// program, at the latest the time exit after Close.
type program struct {
	*duplex
	process *os.Process
	log     *lineLog // or nil
	exit    time.Duration
	started time.Time

	readBy, writeBy deadline.Instant // those of the pipes, for our own waits

	exited chan struct{} // closed when verdict is known
	failed chan struct{} // closed when it is not nil
	// verdict is nil for status 0; read it after exited.
	verdict error

	mu      sync.Mutex
	overdue bool        // a read has waited for the exit in vain
	killer  *time.Timer // after Close
}

func newProgram(cmd *exec.Cmd, in, out *os.File, log *lineLog, exit time.Duration) *program {
	p := &program{
		duplex:  newDuplex(newInput(in), newOutput(out), processAddr("exec"), programAddr(cmd.Path, cmd.Process.Pid)),
		process: cmd.Process, log: log, exit: exit, started: time.Now(),
		exited: make(chan struct{}), failed: make(chan struct{}),
	}
	if log != nil {
		log.start(p.remote)
	}
	go p.reap()
	return p
}

// Caps is programCaps.
func (p *program) Caps() anysock.Caps { return programCaps }

// reap is the goroutine that waits for the program.
func (p *program) reap() {
	state, err := p.process.Wait()
	switch {
	case err != nil:
		p.verdict = err
	case !state.Success():
		p.verdict = exitText(state, p.started)
	}
	close(p.exited) // first: whoever hears of the failure asks for the verdict
	if p.verdict != nil {
		close(p.failed)
	}
	p.mu.Lock()
	if p.killer != nil {
		p.killer.Stop()
	}
	p.mu.Unlock()
	if p.log != nil {
		p.log.finish()
	}
}

// Read is io.EOF only when the program has exited with status 0, or goes on
// running without its output.
func (p *program) Read(b []byte) (int, error) {
	n, err := p.duplex.Read(b)
	if err == io.EOF { //nolint:errorlint // io.EOF comes bare
		err = p.atEOF()
	}
	return n, err
}

// atEOF waits for the exit that usually comes with the end of the output.
func (p *program) atEOF() error {
	patience := exitGrace
	over := p.ended.Load()
	if over {
		patience = p.exit
	}
	switch err := p.awaitExit(patience, &p.readBy); {
	case err == errStillRuns: //nolint:errorlint // our own
		if over {
			p.mu.Lock()
			p.overdue = true
			p.mu.Unlock()
		}
		return io.EOF
	case err != nil:
		return err
	}
	return io.EOF
}

var errStillRuns = errors.New("the program still runs")

// awaitExit waits for the exit: nil for status 0, errStillRuns after d,
// the deadline's error, net.ErrClosed, or an abort.
func (p *program) awaitExit(d time.Duration, by *deadline.Instant) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.exited:
		return p.failure()
	case <-p.closed:
		return net.ErrClosed
	case <-by.Wait():
		return os.ErrDeadlineExceeded
	case <-t.C:
		return errStillRuns
	}
}

// failure is the abort that a status other than 0 means; nil if it was 0. The
// program has exited.
func (p *program) failure() error {
	if p.verdict == nil {
		return nil
	}
	return &anysock.Error{Op: anysock.OpRead, Addr: p.remote.network + ":" + p.remote.name, Kind: anysock.KindReset, Err: p.verdict}
}

// Write to a program that has gone says how it ended.
func (p *program) Write(b []byte) (int, error) {
	n, err := p.duplex.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		var e *anysock.Error
		if ferr := p.awaitExit(exitGrace, &p.writeBy); errors.As(ferr, &e) {
			e.Op = anysock.OpWrite
			return n, e
		}
	}
	return n, err
}

// WaitPeer waits for the exit, until the read deadline or for as long as the
// program may run on after its end: nil for status 0, an error that is an
// abort for another.
func (p *program) WaitPeer() error {
	err := p.awaitExit(p.exit, &p.readBy)
	if err == errStillRuns { //nolint:errorlint // our own
		return os.ErrDeadlineExceeded
	}
	return err
}

// Failed is closed when the program has exited with another status than 0.
func (p *program) Failed() <-chan struct{} { return p.failed }

// TakeError is the failure that nobody has read.
func (p *program) TakeError() error {
	if isClosed(p.exited) {
		return p.failure()
	}
	return nil
}

// SetDeadline sets both.
func (p *program) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read, a pending one too.
func (p *program) SetReadDeadline(t time.Time) error {
	p.readBy.Set(t)
	return p.duplex.SetReadDeadline(t)
}

// SetWriteDeadline bounds Write, a pending one too, which returns its count.
func (p *program) SetWriteDeadline(t time.Time) error {
	p.writeBy.Set(t)
	return p.duplex.SetWriteDeadline(t)
}

// Close closes both pipes. A program that still runs gets the time exit to
// notice, and is then killed; one that has had it already is killed now.
func (p *program) Close() error {
	err := p.duplex.Close()
	p.release(p.exit)
	return err
}

// Abort kills the program. It is dead before its input ends: the signal comes
// before anything that it does next (signal(7)).
func (p *program) Abort() error {
	err := p.process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	_ = p.duplex.Close()
	p.release(0)
	return err
}

// release stops the deadlines and sees to it that the program ends.
func (p *program) release(patience time.Duration) {
	p.readBy.Stop()
	p.writeBy.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.overdue {
		patience = 0
	}
	if isClosed(p.exited) {
		return
	}
	if p.killer != nil {
		p.killer.Stop()
	}
	p.killer = time.AfterFunc(patience, p.kill)
}

func (p *program) kill() { _ = p.process.Kill() } // done already: nothing to kill
