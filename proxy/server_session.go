// This file is the life of one connection of a server: the request, the way to
// the target, the reply, and the record.

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// A session is one connection of a Server, from its acceptance to its record.
type session struct {
	s       *Server
	in      *anysock.Conn
	client  client
	placed  bool // it has one of the Server's places
	shaking bool // it has one of the handshakes' places
	open    bool // it counts among its client's connections
	counted bool // it counts among its client's handshakes

	say dialogue // nil until the protocol is known
	req request
	rec Record

	// Guarded by the Server's mu; written once.
	out             *anysock.Conn // nil until the target is connected
	outBase, inBase int64         // what both had been sent then

	mu       sync.Mutex // guards attempts
	attempts []anysock.Attempt
}

// maxAttempts bounds the failed attempts that a record lists.
const maxAttempts = 100

// The reasons of connections that came to nothing.
var (
	errHandshakeTime   = errors.New("the handshake took too long")
	errNoRequest       = errors.New("the client left before it had asked for anything")
	errClientRate      = errors.New("the client opens connections too fast")
	errClientConns     = errors.New("the client has too many connections")
	errClientHandshake = errors.New("the client has too many handshakes at once")
)

// run serves the connection up to the reply. What follows runs on a goroutine
// of its own: dialing needs a deep stack, and this one would keep it.
func (x *session) run() {
	ctx, cancel := context.WithTimeoutCause(x.s.ctx, x.handshakeTime(), errHandshakeTime)
	defer cancel()
	out, err := x.negotiate(ctx)
	if err != nil {
		x.fail(causeOf(ctx, err))
		x.finish()
		return
	}
	x.s.mu.Lock()
	x.out, x.outBase, x.inBase = out, out.Sent(), x.in.Sent()
	x.s.mu.Unlock()
	go x.join(out)
}

// causeOf says why ctx ended, if that is what err is about.
func causeOf(ctx context.Context, err error) error {
	var no *refusal
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) && !errors.As(err, &no) {
		return context.Cause(ctx)
	}
	return err
}

func (x *session) handshakeTime() time.Duration {
	if t := x.s.Handshake; t > 0 {
		return t
	}
	return DefaultHandshake
}

// negotiate is everything up to the reply that grants the request.
func (x *session) negotiate(ctx context.Context) (*anysock.Conn, error) {
	err := x.admit()
	if err == nil {
		err = x.ask(ctx)
	}
	x.leaveHandshake()
	if err != nil {
		return nil, err
	}
	switch x.req.command {
	case commandConnect:
		return x.connect(ctx)
	case commandBind:
		return x.bind(ctx)
	}
	return nil, refuse(becauseCommand, "the client asks for %v, which is not served", x.req.command)
}

// admit counts the connection for its client.
func (x *session) admit() error {
	if !x.s.pace.admit(x.client, time.Now(), x.s.RatePerClient, DefaultRatePerClient) {
		return errClientRate
	}
	if x.open = x.s.open.take(x.client, x.s.MaxConnsPerClient, DefaultMaxConnsPerClient); !x.open {
		return errClientConns
	}
	if x.counted = x.s.shaking.take(x.client, x.s.HandshakesPerClient, DefaultHandshakesPerClient); !x.counted {
		return errClientHandshake
	}
	return nil
}

// leaveHandshake gives the handshake's places back.
func (x *session) leaveHandshake() {
	if x.counted {
		x.counted = false
		x.s.shaking.give(x.client)
	}
	if x.shaking {
		x.shaking = false
		x.s.handshakes.Give()
	}
}

// ask finds out what the client wants, and who it is.
func (x *session) ask(ctx context.Context) error {
	say, err := detect(ctx, x.in)
	if errors.Is(err, io.EOF) {
		return errNoRequest
	}
	if err != nil {
		return err
	}
	x.say = say
	var check login
	if x.s.Users != nil {
		check = x.login
	}
	x.req, err = say.read(ctx, x.in, check)
	x.rec.Protocol, x.rec.User, x.rec.Claimed = say.protocol(), x.req.user, x.req.claimed
	if err == nil || x.req.command != 0 && x.req.target != (endpoint{}) {
		x.rec.Command, x.rec.Target = x.req.command.String(), x.req.target.String()
	}
	return err
}

// login asks the Users; those behind a carrier without addresses share a turn.
func (x *session) login(ctx context.Context, user, pass string) (bool, error) {
	return x.s.Users.Check(ctx, x.client.key().String(), user, pass)
}

// question is the request as the Rules see it, without an address.
func (x *session) question() question {
	t := x.req.target
	return question{client: x.client, user: x.req.user, name: t.name, port: t.port, command: x.req.command}
}

// judge asks the Rules about an address.
func (x *session) judge(to netip.AddrPort) error {
	q := x.question()
	q.ip = to.Addr().WithZone("")
	q.own = !x.client.local && x.s.isOwn(netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
	return x.s.Rules.ask(q)
}

// judgeTarget asks the Rules what can be asked before anything is resolved.
func (x *session) judgeTarget() error {
	t := x.req.target
	if t.name == "" {
		if err := x.judge(netip.AddrPortFrom(t.ip, t.port)); err != nil {
			return &refusal{becauseNotAllowed, err}
		}
		return nil
	}
	if err := checkHost(t.name); err != nil {
		return &refusal{becauseNotAllowed, fmt.Errorf("%s: %w", quoted(t.name), err)}
	}
	if err := x.s.Rules.askName(x.question(), !x.s.Via.IsZero()); err != nil {
		return &refusal{becauseNotAllowed, err}
	}
	return nil
}

// connect reaches the target and grants the request.
func (x *session) connect(ctx context.Context) (*anysock.Conn, error) {
	if x.req.target.port == 0 {
		return nil, refuse(becauseMalformed, "port 0 is no port to connect to")
	}
	if err := x.judgeTarget(); err != nil {
		return nil, err
	}
	out, err := x.dial(ctx)
	if err != nil {
		return nil, err
	}
	x.rec.Connected = time.Now()
	bound := endpoint{}
	if tcp, ok := out.LocalAddr().(*net.TCPAddr); ok && x.s.Via.IsZero() {
		bound = ipEndpoint(unmapped(tcp.AddrPort()))
	}
	return x.grant(out, bound)
}

// grant tells the client that out is its connection.
func (x *session) grant(out *anysock.Conn, bound endpoint) (*anysock.Conn, error) {
	text, reply := x.say.grant(bound)
	if err := x.reply(text, reply); err != nil {
		_ = out.AbortAs(anysock.AbortedByPeer, err)
		x.rec.Outbound = relay.RecordLeg(out)
		return nil, err
	}
	return out, nil
}

// reply sends a reply. It is small, and nothing else is on its way to the
// client, so it never has to wait for long.
func (x *session) reply(text []byte, reply Reply) error {
	ctx, cancel := context.WithTimeoutCause(x.s.ctx, x.handshakeTime(), errHandshakeTime)
	defer cancel()
	x.rec.Reply = &reply
	_, err := x.in.WriteContext(ctx, text)
	return causeOf(ctx, err)
}

// dial reaches the target while the client waits. Its error is
// relay.ErrClientLeft or relay.ErrDrainDeadline if one of those was the reason,
// else a refusal.
func (x *session) dial(ctx context.Context) (*anysock.Conn, error) {
	dctx, cancel := x.whileClientWaits(ctx)
	defer cancel()
	if end, ok := ctx.Deadline(); ok {
		var stop context.CancelFunc
		dctx, stop = context.WithDeadline(dctx, end.Add(-x.handshakeTime()/replyReserve))
		defer stop()
	}
	out, err := x.dialTarget(dctx)
	if err == nil {
		return out, nil
	}
	if cause := context.Cause(dctx); errors.Is(cause, relay.ErrClientLeft) || errors.Is(cause, relay.ErrDrainDeadline) {
		return nil, cause
	}
	return nil, &refusal{reasonOf(err), err}
}

func (x *session) dialTarget(ctx context.Context) (*anysock.Conn, error) {
	d := x.s.Dialer
	d.OnAttempt = x.noteAttempt
	t := x.req.target
	if x.s.Via.IsZero() {
		d.Allow = x.allow
		nc, err := d.DialContext(ctx, "tcp", net.JoinHostPort(t.host(), strconv.Itoa(int(t.port))))
		if err != nil {
			return nil, err
		}
		return nc.(*anysock.Conn), nil //nolint:forcetypeassert // DialContext says so
	}
	if name := strings.ToLower(strings.TrimSuffix(t.name, ".")); !x.client.local && (name == "localhost" || strings.HasSuffix(name, ".localhost")) {
		// RFC 6761 section 6.3: loopback, wherever it is resolved.
		return nil, &DeniedError{t.name, "it is a loopback name"}
	}
	a, err := x.s.through(t)
	if err != nil {
		return nil, err
	}
	return d.DialAddress(ctx, a)
}

// allow is the Dialer's Allow.
func (x *session) allow(to netip.AddrPort) error {
	if x.s.Dialer.Allow != nil {
		if err := x.s.Dialer.Allow(to); err != nil {
			return err
		}
	}
	return x.judge(to)
}

// through is the address of a target behind Via.
func (s *Server) through(t endpoint) (anysock.Address, error) {
	a, err := anysock.ParseAddress(s.Via.String() + ",tcp://" + net.JoinHostPort(t.host(), strconv.Itoa(int(t.port))))
	if err != nil {
		return anysock.Address{}, err
	}
	return a, a.Check()
}

func (x *session) noteAttempt(a anysock.Attempt) {
	// One that came second in a race has not failed.
	if !errors.Is(a.Err, context.Canceled) {
		x.mu.Lock()
		if len(x.attempts) < maxAttempts {
			x.attempts = append(x.attempts, a)
		}
		x.mu.Unlock()
	}
	if x.s.Dialer.OnAttempt != nil {
		x.s.Dialer.OnAttempt(a)
	}
}

// whileClientWaits is ctx that is also done when the client has gone away, with
// relay.ErrClientLeft as the cause.
func (x *session) whileClientWaits(ctx context.Context) (context.Context, context.CancelFunc) {
	cctx, cancel := context.WithCancelCause(ctx)
	wctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go x.watchClient(wctx, func() { cancel(relay.ErrClientLeft) }, done)
	return cctx, func() {
		stop()
		<-done
		cancel(nil)
	}
}

// watchClient is owned by whileClientWaits. Where the carrier cannot tell, the
// client's leaving shows when it is written to.
func (x *session) watchClient(ctx context.Context, left func(), done chan<- struct{}) {
	defer close(done)
	r, err := x.in.Wait(ctx, 0, 1)
	if err != nil {
		return
	}
	if r&anysock.Failed == 0 {
		// It has hung up in order: with bytes to deliver it still counts on us.
		var one [1]byte
		if _, err := x.in.Peek(ctx, one[:]); err == nil || ctx.Err() != nil {
			return
		}
	}
	left()
}

// fail ends a connection that is not joined with another.
func (x *session) fail(err error) {
	rec := &x.rec
	rec.Err = err
	var no *refusal
	switch {
	case errors.As(err, &no) && x.say != nil:
		rec.How, rec.By, rec.Err = anysock.Refused, relay.Self, no.err
		if isTargets(no.why) {
			rec.By = relay.Outbound
		}
		if err := x.reply(x.say.refuse(no)); err != nil {
			rec.Err = errors.Join(no.err, err)
		}
		x.disconnect()
	case errors.Is(err, relay.ErrClientLeft), errors.Is(err, errNoRequest):
		x.disconnect()
		end := x.in.End()
		rec.How, rec.By = end.How, relay.Inbound
		if end.Err != nil {
			rec.Err = fmt.Errorf("%w: %w", err, end.Err)
		}
	case errors.Is(err, relay.ErrDrainDeadline):
		rec.How, rec.By = anysock.AbortedByUs, relay.Self
		x.abort("abort")
	case x.in.End().How != anysock.NotEnded:
		end := x.in.End()
		rec.How, rec.By = end.How, relay.Inbound
		_ = x.in.Close() // it has its ending
	default:
		rec.How, rec.By = anysock.Refused, relay.Self
		x.abort("refusal")
	}
	rec.Inbound = relay.RecordLeg(x.in)
}

// isTargets reports whether it was the target's doing.
func isTargets(why reason) bool {
	switch why {
	case becauseFailure, becauseName, becauseNetUnreachable, becauseUnreachable, becauseTimeout, becauseRefused:
		return true
	}
	return false
}

// disconnect closes in order, so that a reply is delivered: what the client
// still sends is drained, or its kernel would answer with a reset that destroys
// the reply. If Shutdown cuts that short, the rest is given up.
func (x *session) disconnect() {
	if end, err := x.in.Disconnect(x.s.ctx); err != nil && end.How == anysock.NotEnded {
		if cause := context.Cause(x.s.ctx); cause != nil {
			err = cause
		}
		_ = x.in.AbortAs(anysock.AbortedByUs, err)
	}
}

func (x *session) abort(ending string) {
	err := x.in.AbortAs(x.rec.How, x.rec.Err)
	if errors.Is(err, errors.ErrUnsupported) && x.in.End().How == x.rec.How {
		x.rec.Downgrades = append(x.rec.Downgrades, relay.Downgrade{Leg: relay.Inbound, Ending: ending, Became: "close"})
	}
}

// join is the second half of run.
func (x *session) join(out *anysock.Conn) {
	rec := relay.Join(x.s.ctx, x.in, out, x.s.Options)
	rec.Accepted, rec.Connected, rec.Target = x.rec.Accepted, x.rec.Connected, x.rec.Target
	if rec.ToOutbound.FirstByte.Before(rec.Connected) {
		// The first byte was the request's, and the first of the data is not
		// known.
		rec.ToOutbound.FirstByte = time.Time{}
	}
	x.rec.Record = rec
	x.finish()
}

// finish completes the record, hands it over, and counts the session out.
func (x *session) finish() {
	x.rec.Attempts = relay.RecordAttempts(x.attempts)
	x.rec.Done = time.Now()
	if x.s.OnEnd != nil {
		x.s.OnEnd(x.rec)
	}
	if x.open {
		x.s.open.give(x.client)
	}
	x.s.finished(x)
}

// unmapped is an address without IPv6 around an IPv4 one, and without a zone.
func unmapped(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
