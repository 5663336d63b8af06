// This file holds the listener: clients are let in by their keys, and each of
// the channels that they open is an accepted stream.

package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/printable"
	xssh "golang.org/x/crypto/ssh"
)

// A server is what the options of a listener say, and what its clients share.
type server struct {
	hostKeys    []xssh.Signer
	authorized  *authorizedKeys
	users       []string // nil is any
	keepAlive   time.Duration
	maxChannels int
	maxClients  int64
	clients     atomic.Int64 // that are let in
}

// newServer reads the files that the options name.
func newServer(t anysock.Target) (*server, error) {
	s := &server{
		users:       t.Strings("user"),
		keepAlive:   t.Duration("alive", DefaultKeepAlive),
		maxChannels: t.Int("maxchannels", DefaultMaxChannels),
		maxClients:  int64(t.Int("maxclients", DefaultMaxClients)),
	}
	wrong := func(err error, hint string) error { return addressError(serverName(t.Hop), err, hint) }
	switch {
	case t.Has("insecure"):
		return nil, wrong(errors.New("insecure means nothing for a listener"), "leave it out")
	case s.maxChannels == 0 || s.maxClients == 0:
		return nil, wrong(errors.New("maxchannels and maxclients must be at least 1"), "")
	case !t.Has("hostkey"):
		return nil, wrong(errors.New("the listener needs a host key"), "make one with 'ssh-keygen -t ed25519 -N \"\" -f host_key', and give it: hostkey=file:PATH")
	case !t.Has("authorized"):
		return nil, wrong(errors.New("nobody can be let in without a file of authorized keys"), "give it: authorized=file:PATH")
	}
	for _, ref := range t.Strings("hostkey") {
		path, err := fileOption("hostkey", ref)
		if err != nil {
			return nil, wrong(err, "")
		}
		key, err := readKey(path, "")
		if err != nil {
			return nil, wrong(fmt.Errorf("option hostkey: %w", err), "")
		}
		s.hostKeys = append(s.hostKeys, key.Signer)
	}
	path, err := fileOption("authorized", t.String("authorized", ""))
	if err != nil {
		return nil, wrong(err, "")
	}
	if s.authorized, err = newAuthorizedKeys(path); err != nil {
		return nil, wrong(fmt.Errorf("option authorized: %w", err), "see AUTHORIZED_KEYS FILE FORMAT in sshd(8)")
	}
	return s, nil
}

// serveMany is Transport.ServeMany.
func serveMany(ctx context.Context, below *anysock.Conn, t anysock.Target) (net.Listener, error) {
	s, ok := t.Prepared.(*server)
	if !ok {
		var err error
		if s, err = newServer(t); err != nil {
			return nil, err
		}
	}
	if s.clients.Add(1) > s.maxClients {
		s.clients.Add(-1)
		return nil, &anysock.Error{Op: anysock.OpHandshake, Addr: "ssh:" + below.RemoteAddr().String(), Kind: anysock.KindLimit, Err: fmt.Errorf("%d clients are let in already", s.maxClients)}
	}
	stop := context.AfterFunc(ctx, func() { _ = below.Abort() })
	session, err := s.handshake(below)
	if !stop() && err == nil {
		session.abort()
		session.wg.Wait()
		err = ctx.Err()
	}
	if err != nil {
		s.clients.Add(-1)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, &anysock.Error{Op: anysock.OpHandshake, Addr: "ssh:" + below.RemoteAddr().String(), Kind: anysock.KindAuth, Err: err}
	}
	session.start()
	return session, nil
}

// handshake lets a client in.
func (s *server) handshake(below *anysock.Conn) (*session, error) {
	var rule keyRule
	config := &xssh.ServerConfig{
		ServerVersion: version, MaxAuthTries: MaxAuthTries,
		PublicKeyCallback: func(meta xssh.ConnMetadata, key xssh.PublicKey) (*xssh.Permissions, error) {
			r, err := s.admit(meta.User(), key, below.RemoteAddr())
			if err != nil {
				return nil, err
			}
			// Which of the keys it offers a client has proved to own is known
			// from what comes back with the connection.
			return &xssh.Permissions{ExtraData: map[any]any{ruleOf: r}}, nil
		},
	}
	for _, key := range s.hostKeys {
		config.AddHostKey(key)
	}
	carrier := newCarrier(below)
	conn, channels, reqs, err := xssh.NewServerConn(carrier, config)
	if err != nil {
		return nil, err
	}
	if conn.Permissions != nil {
		rule, _ = conn.Permissions.ExtraData[ruleOf].(keyRule)
	}
	return &session{
		connection: newConnection(carrier, conn, reqs, true, s.keepAlive),
		server:     s, rule: rule, channels: channels,
		accepted: make(chan *stream, s.maxChannels), ended: make(chan struct{}), quiet: make(chan struct{}),
	}, nil
}

type permissionKey int

// ruleOf is where a keyRule is among the permissions.
const ruleOf permissionKey = 0

// admit judges one key of a client.
func (s *server) admit(user string, key xssh.PublicKey, client net.Addr) (keyRule, error) {
	rule, err := s.authorized.lookup(key, client, time.Now())
	if err == nil && s.users != nil && !slices.Contains(s.users, user) {
		err = fmt.Errorf("user %q is not let in", user)
	}
	return rule, err
}

// A session is the connection of a client that was let in. It is the
// net.Listener of that client's channels. It lives until the client hangs up,
// or until it is closed and the last of its streams is.
type session struct {
	*connection
	server   *server
	rule     keyRule
	channels <-chan xssh.NewChannel
	accepted chan *stream
	ended    chan struct{} // closed by Close
	quiet    chan struct{} // closed when, after Close, every stream is closed

	mu     sync.Mutex // guards what follows
	places int        // channels that are not gone
	open   int        // streams that are not closed
	gone   bool       // Close was called
}

// start begins to take channels.
func (s *session) start() {
	s.wg.Go(s.takeChannels)
	go s.run()
}

// run ends the session: it waits for everything of it. The client hangs up or
// Close makes it, and whoever has the streams closes them.
func (s *session) run() {
	<-s.over
	<-s.ended
	<-s.quiet
	s.wg.Wait()
	s.server.clients.Add(-1)
}

// hangUp ends the connection of a closed session whose streams are closed, if
// the client does not confirm that in time.
func (s *session) hangUp() {
	<-s.quiet
	t := time.NewTimer(anysock.DefaultCloseTimeout)
	defer t.Stop()
	select {
	case <-s.over:
	case <-t.C:
		s.abort()
	}
}

// takeChannels decides about the channels that the client opens.
func (s *session) takeChannels() {
	for ch := range s.channels {
		to, err := wanted(ch)
		switch {
		case err != nil:
			_ = ch.Reject(xssh.ConnectionFailed, err.Error())
		case to.channel == "":
			_ = ch.Reject(xssh.Prohibited, "no "+printable.Text(ch.ChannelType())+" here: only forwarding, as ssh -W or ssh -N -L does")
		case !s.rule.permits(to):
			_ = ch.Reject(xssh.Prohibited, "the key does not permit this destination")
		case !s.admit():
			_ = ch.Reject(xssh.ResourceShortage, "too many channels, or the server is going away")
		default:
			s.take(ch, to)
		}
	}
	close(s.accepted)
	s.refuseRest()
}

// admit takes a place for a channel and its stream.
func (s *session) admit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || max(s.places, s.open) >= s.server.maxChannels {
		return false
	}
	s.places++
	s.open++
	return true
}

// take makes the channel a stream, for which there is a place.
func (s *session) take(ch xssh.NewChannel, to destination) {
	c, reqs, err := ch.Accept()
	if err != nil { // the connection has ended
		s.left()
		s.closed()
		return
	}
	st := newStream(s.connection, c, reqs, to.addr, s.RemoteAddr(), s)
	s.mu.Lock()
	gone := s.gone
	if !gone {
		s.accepted <- st // never blocks: it has room for all that are open
	}
	s.mu.Unlock()
	if gone {
		_ = st.Abort()
	}
}

// left gives a channel's place back. The last one ends the connection of a
// session that is closed.
func (s *session) left() {
	s.mu.Lock()
	s.places--
	last := s.gone && s.places == 0
	s.mu.Unlock()
	if last {
		s.release()
	}
}

// closed counts a stream that was closed on our side.
func (s *session) closed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.gone && s.open == 0 {
		close(s.quiet)
	}
}

// Accept is the next stream of this client.
func (s *session) Accept() (net.Conn, error) {
	select {
	case st, ok := <-s.accepted:
		if ok {
			return st, nil
		}
	case <-s.ended:
	}
	return nil, net.ErrClosed
}

// Addr is where the client has connected to.
func (s *session) Addr() net.Addr { return s.LocalAddr() }

// Close takes no more channels, and lets the connection end with the last
// stream that was accepted.
func (s *session) Close() error {
	s.mu.Lock()
	if s.gone {
		s.mu.Unlock()
		return nil
	}
	s.gone = true
	idle := s.places == 0
	s.wg.Go(s.hangUp)
	close(s.ended)
	if s.open == 0 {
		close(s.quiet)
	}
	s.mu.Unlock()
	s.refuseRest()
	if idle {
		s.release()
	}
	return nil
}

// refuseRest aborts the streams that nobody has accepted and nobody will.
func (s *session) refuseRest() {
	for {
		select {
		case st, ok := <-s.accepted:
			if !ok {
				return
			}
			_ = st.Abort()
		default:
			return
		}
	}
}

// wanted is the destination that the client names; the zero destination for
// channels of another sort.
func wanted(ch xssh.NewChannel) (destination, error) {
	switch ch.ChannelType() {
	case channelTCP:
		var msg openTCP
		if err := xssh.Unmarshal(ch.ExtraData(), &msg); err != nil || msg.Port > 1<<16-1 || len(msg.Host) > maxName {
			return destination{}, errors.New("malformed request")
		}
		return destination{channel: channelTCP, addr: addr{"ssh", net.JoinHostPort(printable.Text(msg.Host), strconv.Itoa(int(msg.Port)))}}, nil
	case channelUnix:
		var msg openUnix
		if err := xssh.Unmarshal(ch.ExtraData(), &msg); err != nil || len(msg.Path) > maxName {
			return destination{}, errors.New("malformed request")
		}
		return destination{channel: channelUnix, addr: addr{"ssh", printable.Text(msg.Path)}}, nil
	}
	return destination{}, nil
}

// maxName bounds the destination that a client names, in bytes.
const maxName = 1024
