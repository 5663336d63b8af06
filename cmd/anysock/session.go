package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
)

// This file joins one connection with standard input and output, for the verbs
// connect and listen.
//
//	what happens              what follows
//	end of input              our direction ends (half-close), the peer's goes on;
//	                          with --no-half-close nothing until the peer's end
//	the peer's end            sending goes on until the end of input, or
//	                          with --half-open=no both are over
//	both                      disconnect, and wait until everything is acknowledged
//	a reset, a cut, silence   what came is on standard output, the exit status says the rest
//	input or output fails     abort: the peer must not take it for an end
//	first signal              no more input; our direction ends; the peer's reply, then disconnect
//	second signal             abort
//	no data for --idle        abort

// A sessionOptions is what the options of connect and listen say.
type sessionOptions struct {
	halfOpen    string
	noHalfClose bool
	idle        time.Duration
}

// The values of --half-open.
const (
	halfOpenAuto = "auto"
	halfOpenYes  = "yes"
	halfOpenNo   = "no"
)

// sessionHelp belongs to the help texts of connect and listen.
const sessionHelp = `The two directions end each for itself. At the end of input the peer is told so
(half-close), and its reply still comes. When the peer ends first, it may still read:
sending goes on until the end of input, unless input is a terminal, where the session
ends then, as telnet's does. --half-open=no always ends it, --half-open never.

A connection is over when both directions have ended and everything was acknowledged.
SIGINT or SIGTERM sends what was read, ends our direction and takes what still comes,
for a few seconds; a second signal aborts.`

func (o *sessionOptions) options(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.halfOpen, "half-open", halfOpenAuto, "after the peer's end, send on until the end of input: yes, no, or auto, which is yes unless input is a terminal")
	f.Lookup("half-open").NoOptDefVal = halfOpenYes
	f.BoolVar(&o.noHalfClose, "no-half-close", false, "at the end of input, keep our direction open until the peer ends: for relays that would drop its reply")
	f.DurationVar(&o.idle, "idle", 0, "abort when no data moves for this long; 0 is never")
}

func (o *sessionOptions) check() error {
	switch o.halfOpen {
	case halfOpenAuto, halfOpenYes, halfOpenNo:
	default:
		return &usageError{msg: fmt.Sprintf("--half-open=%s: it is yes, no or auto", o.halfOpen), hint: "--half-open alone is yes"}
	}
	return positive("idle", o.idle)
}

// A joined is one connection joined with standard input and output.
type joined struct {
	a  *app
	o  sessionOptions
	c  *anysock.Conn
	in *input
	// dialed: a tcp connection that is reset before any byte came is told as
	// refused, because that is how a relay says it (package relay).
	dialed bool
}

// A tcp connection that is reset before any byte came.
var errResetAtOnce = errors.New("reset before any byte")

const hintResetAtOnce = "something accepted the connection and found nobody behind it: if it is a relay or a load balancer, look at its target"

// errSendingStopped is what the sender returns when it was told to stop.
var errSendingStopped = errors.New("stopped")

// outputPatience bounds the wait for an output that takes nothing, once the
// connection is over and somebody has asked to stop.
const outputPatience = anysock.DefaultDrainTimeout

// run passes data until the connection is over, and returns why that was not
// as it should be. The connection is closed then.
func (s *joined) run(sig *interrupts) error {
	sendCtx, stopSending := context.WithCancel(context.Background())
	// Buffered, so that neither goroutine waits for one who has left.
	received, sent := make(chan error, 1), make(chan error, 1)
	receiving, sending := true, true
	defer func() {
		// The input is the next connection's now.
		stopSending()
		if sending {
			if err := <-sent; err != nil {
				s.a.log.Debug("sending ended: " + err.Error()) // the connection's ending says more
			}
		}
	}()
	defer s.a.watchIdle(s.c, s.o.idle)()
	s.a.spawn(func() { received <- s.a.guarded(s.receive) })
	s.a.spawn(func() { sent <- s.a.guarded(func() error { return s.send(sendCtx) }) })

	var (
		asked = sig.drain.Done()
		last  = lastWords{c: s.c}
		over  chan struct{} // closed when Disconnect has returned
	)
	defer last.stop()
	disconnect := func() {
		if over != nil {
			return
		}
		stopSending()
		over = make(chan struct{})
		s.a.spawn(func() {
			defer close(over)
			_, _ = s.c.Disconnect(sig.abort) // the ending says it
		})
	}
	for {
		select {
		case err := <-received:
			receiving = false
			var out *outputError
			switch {
			case errors.As(err, &out):
				return s.giveUp(err)
			case err != nil || !sending || asked == nil:
				disconnect() // after a failure it only finds out what is known
			case !s.keepsSending():
				s.a.log.Info("the peer has ended; so do we")
				disconnect()
			default:
				s.tellHalfOpen()
				// Nobody reads now, so nobody would notice that the peer has
				// gone altogether while input is silent.
				s.a.spawn(func() {
					if _, err := s.c.Wait(sendCtx, 0, 1); err == nil {
						stopSending()
					}
				})
			}
		case err := <-sent:
			sending = false
			var in *inputError
			if errors.As(err, &in) {
				return s.giveUp(err)
			}
			if !receiving {
				disconnect()
			}
			// Else, after a failed write too, the receiver finds the end, once
			// it has everything that came before.
		case <-asked:
			asked = nil
			s.tellInterrupted(sig)
			stopSending()
			last.begin()
			switch {
			case !receiving:
				disconnect()
			case !sending: // --no-half-close
				_ = s.c.CloseWrite()
			}
		case <-last.tick():
			if last.over() {
				disconnect()
			}
		case <-sig.abort.Done():
			return s.giveUp(&failure{err: fmt.Errorf("aborted, %w", context.Cause(sig.abort)), status: exitAborted})
		case <-over:
			if receiving {
				if err := s.lastOutput(sig, received); err != nil {
					return err
				}
			}
			return s.outcome()
		}
	}
}

// The bounds of a session after the first signal, beside those of Disconnect.
const (
	// quietAfterSignal is how long the peer may say nothing before its end is
	// no longer waited for.
	quietAfterSignal = 3 * time.Second
	// limitAfterSignal bounds the wait for a peer that does not stop talking.
	limitAfterSignal = defaultDrain
)

// lastWords waits for what the peer still says after a signal.
type lastWords struct {
	c        *anysock.Conn
	timer    *time.Timer
	began    time.Time
	received int64
}

func (l *lastWords) begin() {
	l.began, l.received = time.Now(), l.c.Received()
	l.timer = time.NewTimer(quietAfterSignal)
}

func (l *lastWords) tick() <-chan time.Time {
	if l.timer == nil {
		return nil
	}
	return l.timer.C
}

// over decides at a tick, and waits on if the peer has said something.
func (l *lastWords) over() bool {
	n := l.c.Received()
	if n == l.received || time.Since(l.began) > limitAfterSignal {
		return true
	}
	l.received = n
	l.timer.Reset(quietAfterSignal)
	return false
}

func (l *lastWords) stop() {
	if l.timer != nil {
		l.timer.Stop()
	}
}

// receive copies what comes to standard output: nil at the peer's end.
func (s *joined) receive() error {
	buf := make([]byte, anysock.DefaultReadBuffer)
	for {
		n, err := s.c.Read(buf)
		if n > 0 {
			if _, err := s.a.stdout.Write(buf[:n]); err != nil {
				return &outputError{err}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// send copies standard input and tells the peer of its end: nil then.
func (s *joined) send(ctx context.Context) error {
	for {
		p, err := s.in.next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return s.endSending()
		case err != nil && ctx.Err() != nil:
			_ = s.c.CloseWrite() // what does not work here Disconnect finds out
			return errSendingStopped
		case err != nil:
			return &inputError{err}
		}
		if _, err := s.c.Write(p); err != nil {
			return err
		}
	}
}

func (s *joined) endSending() error {
	if s.o.noHalfClose {
		s.a.log.Info("end of input; our direction stays open until the peer ends")
		return nil
	}
	err := s.c.CloseWrite()
	if errors.Is(err, errors.ErrUnsupported) {
		s.a.log.Warn("end of input, which this transport cannot tell the peer without ending both directions: waiting for the peer's end (lc+ before the address can tell it, if the peer has lc too)")
		return nil
	}
	return err
}

// keepsSending decides what the peer's end means for our direction. Without
// half-close it is the end of both.
func (s *joined) keepsSending() bool {
	if !s.c.Caps().Has(anysock.CapHalfClose) {
		return false
	}
	switch s.o.halfOpen {
	case halfOpenYes:
		return true
	case halfOpenNo:
		return false
	}
	return !isTerminal(s.a.stdin)
}

func (s *joined) tellHalfOpen() {
	if s.c.State() == anysock.StateWriteEnded {
		return // the end of input was told just now
	}
	const text = "the peer has ended; sending goes on until the end of input"
	if isTerminal(s.a.stdin) {
		s.a.log.Log(s.a.ctx, levelNotice, text)
		return
	}
	s.a.log.Info(text)
}

func (s *joined) tellInterrupted(sig *interrupts) {
	text := sig.why() + ": ending the connection; a second signal aborts"
	if !isTerminal(s.a.stdin) && s.c.State() != anysock.StateWriteEnded {
		text = sig.why() + " before the end of input: ending the connection; a second signal aborts"
	}
	s.a.log.Warn(text)
}

// giveUp aborts: the peer must not take what it has for everything.
func (s *joined) giveUp(err error) error {
	_ = s.c.Abort() // where the transport has none it closes, and the ending says that we gave up
	s.tell(slog.LevelInfo)
	return err
}

// lastOutput waits for the receiver, which may be held up by an output that
// takes nothing. Only a signal leads here: otherwise it is backpressure.
func (s *joined) lastOutput(sig *interrupts, received <-chan error) error {
	limit := time.NewTimer(outputPatience)
	defer limit.Stop()
	var err error
	select {
	case err = <-received:
	case <-limit.C:
		err = &failure{err: errors.New("standard output takes nothing: what came last is not on it"), status: exitAborted}
	case <-sig.abort.Done():
		err = &failure{err: fmt.Errorf("aborted, %w", context.Cause(sig.abort)), status: exitAborted}
	}
	var out *outputError
	var cut *failure
	if errors.As(err, &out) || errors.As(err, &cut) {
		s.tell(slog.LevelInfo)
		return err
	}
	return nil // the connection's ending says it
}

// outcome is what the ending means for the exit status.
func (s *joined) outcome() error {
	end := s.c.End()
	if end.How.Complete() && end.Drained > 0 {
		s.tell(slog.LevelInfo)
		return &failure{err: fmt.Errorf("%d bytes came after we had stopped waiting, and are not on standard output", end.Drained), status: exitAborted}
	}
	if end.How.Complete() {
		level := slog.LevelInfo
		if s.a.terminal && isTerminal(s.a.stdin) && !s.a.traceOn { // the trace has it
			level = levelNotice
		}
		s.tell(level)
		return nil
	}
	s.tell(slog.LevelInfo)
	e := &endError{end: end, status: exitOfHow(end.How)}
	var reason *anysock.Error
	if errors.As(end.Err, &reason) && reason.Kind == anysock.KindAuth {
		e.status, e.hint = exitAuth, reason.Hint
		return e
	}
	switch end.How {
	case anysock.AbortedByPeer:
		e.hint = "data may be missing: the peer gave up"
		switch {
		case s.dialed && end.Received == 0 && end.ReadEnded.IsZero() && isPlainTCP(s.c):
			e.status = exitRefused
			e.what = fmt.Sprintf("connect %s: %v", peerName(end), errResetAtOnce)
			e.hint = hintResetAtOnce
		case !end.ReadEnded.IsZero():
			e.hint = "the peer had ended in order and took no more; --half-open=no ends the session then"
		}
	case anysock.Idle:
		e.what = fmt.Sprintf("idle %s: no data either way for %s", peerName(end), s.o.idle)
		e.hint = "a longer --idle, or none"
	case anysock.Truncated:
		e.hint = "data may be missing: the carrier was cut"
	}
	return e
}

func isTCP(addr net.Addr) bool { return addr != nil && addr.Network() == "tcp" }

// isPlainTCP reports whether a connection is tcp without a layer, whose
// handshake would have found nobody.
func isPlainTCP(c *anysock.Conn) bool {
	_, err := c.SyscallConn()
	return err == nil && isTCP(c.LocalAddr())
}

// tell says how the connection ended.
func (s *joined) tell(level slog.Level) {
	end := s.c.End()
	s.a.record(level, "end", peerName(end)+": "+endText(end), end.How, newEndRecord(end))
}
