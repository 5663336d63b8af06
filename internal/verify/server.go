package verify

// This file holds the far end: it plays the server's part of every plan that
// comes, remembers what it saw, and answers what is asked.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock"
)

// A Server is the far end of runs. The zero value is ready; it serves one
// listener.
type Server struct {
	// Patience bounds each wait for progress; 0 is DefaultPatience.
	Patience time.Duration
	// OnEnd is told of every connection that had a plan when it is over, on
	// its goroutine; nil is nobody.
	OnEnd func(Plan, Outcome)
	// OnStranger is told of connections without an opening that makes sense;
	// nil is nobody.
	OnStranger func(c *anysock.Conn, err error)

	ledger   ledger
	ln       *anysock.Listener
	wg       sync.WaitGroup
	cut      context.Context
	cancel   context.CancelFunc
	once     sync.Once
	stranger atomic.Int64
	nameless [faultCount]atomic.Int64
	played   atomic.Int64
	faults   atomic.Int64
}

// DefaultPatience is how long something that is due may take.
const DefaultPatience = 30 * time.Second

func (s *Server) patience() time.Duration {
	if s.Patience <= 0 {
		return DefaultPatience
	}
	return s.Patience
}

func (s *Server) init() {
	s.once.Do(func() { s.cut, s.cancel = context.WithCancel(context.Background()) })
}

// Serve accepts connections until the listener is closed or ctx is done, which
// is no error, or accepting fails for good. What runs goes on: see Shutdown.
func (s *Server) Serve(ctx context.Context, ln *anysock.Listener) error {
	s.init()
	s.ln = ln
	for c, err := range ln.Conns(ctx) {
		if err != nil {
			return err
		}
		s.start(c)
	}
	return nil
}

func (s *Server) start(c *anysock.Conn) {
	s.wg.Go(func() {
		defer context.AfterFunc(s.cut, func() { _ = c.Abort() })()
		s.serve(c)
	})
}

// Shutdown accepts what waits, closes the listener and waits for what runs,
// which is cut when ctx is done. Serve must have returned.
func (s *Server) Shutdown(ctx context.Context) {
	s.init()
	if s.ln != nil {
		conns, _ := s.ln.Drain() // who is lost there is missed by the run
		for _, c := range conns {
			s.start(c)
		}
	}
	stop := context.AfterFunc(ctx, s.cancel)
	s.wg.Wait()
	stop()
	s.cancel()
}

// Played is how many connections had a plan and are over, and how many of them
// this end saw a fault in.
func (s *Server) Played() (n, faulty int64) { return s.played.Load(), s.faults.Load() }

// Strangers is how many connections came without an opening: health checks,
// scans, clients that gave up at once.
func (s *Server) Strangers() int64 { return s.stranger.Load() }

// Nameless is how many connections had a fault before it was known which they
// are.
func (s *Server) Nameless(f Fault) int64 { return s.nameless[f].Load() }

func (s *Server) serve(c *anysock.Conn) {
	defer func() { _ = c.Abort() }()
	o, err := s.opening(c)
	if err != nil {
		s.refuse(c, err)
		return
	}
	switch o.Kind {
	case kindAsk:
		if err := s.answer(c, o); err != nil {
			s.refuse(c, err)
		}
	case kindPlan:
		p, err := o.plan()
		if err != nil {
			s.refuse(c, err)
			return
		}
		k := key{p.Run, p.Number}
		if !s.ledger.open(k) {
			s.nameless[ExtraBytes].Add(1)
			s.refuse(c, fmt.Errorf("%s came twice", p))
			return
		}
		out := newParty(c, p, Far, s.patience()).play()
		s.ledger.close(k, out)
		s.played.Add(1)
		if out.Fault != None {
			s.faults.Add(1)
		}
		if s.OnEnd != nil {
			s.OnEnd(p, out)
		}
	default:
		s.refuse(c, errVersion)
	}
}

// opening reads what a client sends first. What was spoiled on the way, and an
// end in the middle, are faults; strangers and aborts are not.
func (s *Server) opening(c *anysock.Conn) (opening, error) {
	_ = c.SetReadDeadline(time.Now().Add(s.patience())) // the read says what is wrong
	var b [openingSize]byte
	for n := 0; n < len(b); {
		m, err := c.Read(b[n:])
		n += m
		if n >= len(magic) && string(b[:len(magic)]) != magic {
			return opening{}, errStranger
		}
		switch {
		case n == len(b):
		case errors.Is(err, io.EOF) && n > 0 && string(b[:min(n, len(magic))]) == magic[:min(n, len(magic))]:
			s.nameless[FalseEnd].Add(1)
			return opening{}, fmt.Errorf("an end of file after %d bytes of an opening", n)
		case err != nil:
			return opening{}, err
		}
	}
	o, err := decode(b[:])
	if errors.Is(err, errSpoiled) {
		s.nameless[WrongBytes].Add(1)
	}
	return o, err
}

func (s *Server) refuse(c *anysock.Conn, err error) {
	s.stranger.Add(1)
	if s.OnStranger != nil {
		s.OnStranger(c, err)
	}
}

// maxAskWait bounds what an ask may wait.
const maxAskWait = 10 * time.Second

// answer answers an ask.
func (s *Server) answer(c *anysock.Conn, o opening) error {
	var q ask
	if err := readText(c, maxAsk, &q); err != nil {
		return err
	}
	a := answer{Caps: c.Caps()}
	if len(q.Numbers) > 0 {
		wait := min(time.Duration(max(q.WaitMS, 0))*time.Millisecond, maxAskWait)
		a.Outcomes = s.ledger.await(s.cut, o.Run, q.Numbers, wait)
	}
	text, err := encodeText([]byte(magic), a)
	if err != nil {
		return err
	}
	if err := c.SetWriteDeadline(time.Now().Add(s.patience())); err != nil {
		return err
	}
	if _, err := c.Write(text); err != nil {
		return err
	}
	// The client says that it has the answer, so that a path that loses what comes
	// before an end does not lose that, and one that holds a half-close back is not
	// waited for. How it leaves is its affair.
	ctx, cancel := context.WithTimeout(s.cut, s.patience())
	defer cancel()
	if _, err := c.ReadContext(ctx, make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		_, _ = c.Disconnect(ctx)
	}
	return nil
}
