// This file holds the hop: a stream to the next address from the server's
// machine.

package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/anysock/anysock"
	xssh "golang.org/x/crypto/ssh"
)

// A client is what the options of a hop say.
type client struct {
	user      string
	server    string // host:port for known_hosts and messages
	keys      hostKeys
	identity  identity
	keepAlive time.Duration
}

// newClient reads the files that the options name.
func newClient(t anysock.Target) (*client, error) {
	c := &client{user: t.Hop.User, server: serverName(t.Hop), keepAlive: t.Duration("alive", DefaultKeepAlive)}
	if c.user == "" {
		u, err := user.Current()
		if err != nil {
			return nil, addressError(c.server, fmt.Errorf("who we are on this machine is not known: %w", err), "write the user name: ssh://USER@HOST:PORT")
		}
		c.user = u.Username
	}
	var err error
	if c.keys, err = newHostKeys(t, c.server); err != nil {
		return nil, err
	}
	c.identity, err = newIdentity(t, c.server)
	return c, err
}

// serverName is the server in known_hosts and in messages.
func serverName(h anysock.Hop) string {
	if h.Opaque != "" {
		return h.Opaque
	}
	host := h.Host
	if host == "" {
		host = "localhost"
	}
	return net.JoinHostPort(host, h.Port)
}

func addressError(server string, err error, hint string) *anysock.Error {
	return &anysock.Error{Op: "parse", Addr: "ssh:" + server, Kind: anysock.KindAddress, Err: err, Hint: hint}
}

// through is Transport.Through.
func through(ctx context.Context, below *anysock.Conn, t anysock.Target, next anysock.Hop) (net.Conn, error) {
	c, ok := t.Prepared.(*client)
	if !ok {
		var err error
		if c, err = newClient(t); err != nil {
			return nil, err
		}
	}
	to, err := c.destination(next)
	if err != nil {
		return nil, err
	}
	// The library knows no deadlines during the handshake either.
	stop := context.AfterFunc(ctx, func() { _ = below.Abort() })
	defer stop()
	n, err := c.connect(ctx, below)
	if err == nil {
		var s *stream
		if s, err = c.open(n, to); err == nil {
			if stop() {
				return s, nil
			}
			_ = s.Abort()
		} else {
			n.abort()
			n.wg.Wait()
		}
	}
	if ctx.Err() != nil {
		err = &anysock.Error{Op: anysock.OpHandshake, Addr: "ssh:" + c.server, Kind: kindOfContext(ctx), Err: ctx.Err(), Hint: "the server, or what it was asked to reach, did not answer in time"}
	}
	return nil, err
}

func kindOfContext(ctx context.Context) anysock.Kind {
	if errors.Is(ctx.Err(), context.Canceled) {
		return anysock.KindCanceled
	}
	return anysock.KindTimeout
}

// connect performs the handshake and logs in.
func (c *client) connect(ctx context.Context, below *anysock.Conn) (*connection, error) {
	methods, tried, done, err := c.identity.methods(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	carrier := newCarrier(below)
	var keyErr error
	conn, channels, reqs, err := xssh.NewClientConn(carrier, c.server, &xssh.ClientConfig{
		User: c.user, Auth: methods, ClientVersion: version,
		HostKeyAlgorithms: c.keys.algorithms(),
		HostKeyCallback: func(_ string, _ net.Addr, key xssh.PublicKey) error {
			keyErr = c.keys.check(key)
			return keyErr
		},
	})
	if keyErr != nil {
		return nil, keyErr
	}
	if err != nil {
		return nil, c.handshakeError(err, carrier, tried())
	}
	n := newConnection(carrier, conn, reqs, false, c.keepAlive)
	n.wg.Go(func() {
		for ch := range channels { // a server has no reason to open any
			_ = ch.Reject(xssh.Prohibited, "no channels are accepted here")
		}
	})
	return n, nil
}

// handshakeError says why the server did not let us in.
func (c *client) handshakeError(err error, carrier *carrier, tried []string) error {
	e := &anysock.Error{Op: anysock.OpHandshake, Addr: "ssh:" + c.server, Kind: anysock.KindAuth}
	var below *anysock.Error
	var nego *xssh.AlgorithmNegotiationError
	_, _, lost := carrier.alive()
	switch {
	case strings.Contains(err.Error(), "unable to authenticate"):
		e.Err = fmt.Errorf("the server does not let %s in; offered: %s", c.user, offered(tried))
		e.Hint = "add one of these keys to the server's authorized_keys, name another by key=file:PATH, or another user by ssh://USER@"
	case errors.As(err, &nego):
		e.Err = errors.New(strings.TrimPrefix(nego.Error(), "ssh: "))
		if strings.Contains(nego.What, "host key") {
			e.Hint = c.keys.algorithmHint()
		}
	case errors.As(err, &below):
		return below
	case isEOF(lost):
		e.Err = errors.New("the server closed the connection during the handshake")
		e.Hint = "it may be no SSH server, refuse this client's address, or have too many clients at the moment"
	default:
		e.Err = errors.New(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "ssh: handshake failed: "), "ssh: "))
	}
	return e
}

func offered(tried []string) string {
	if len(tried) == 0 {
		return "nothing, because there is no key and no password"
	}
	return strings.Join(tried, ", ")
}

// A destination is what the server is asked for.
type destination struct {
	channel string
	payload []byte
	addr    addr
}

// openTCP is what follows "direct-tcpip" (RFC 4254 section 7.2).
type openTCP struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// openUnix is what follows "direct-streamlocal@openssh.com" (OpenSSH's
// PROTOCOL, section 2.4).
type openUnix struct {
	Path      string
	Reserved  string
	Reserved1 uint32
}

const (
	channelTCP  = "direct-tcpip"
	channelUnix = "direct-streamlocal@openssh.com"
)

// destination is the base of the next hop as the server is to be told.
func (c *client) destination(next anysock.Hop) (destination, error) {
	switch base := next.Layers[len(next.Layers)-1].Scheme; base {
	case "tcp", "tcp4", "tcp6":
		return c.tcp(base, next)
	case "unix":
		if strings.HasPrefix(next.Opaque, "@") {
			return destination{}, addressError(c.server, errors.New("an SSH server cannot connect to an abstract Unix socket"), "use a socket file")
		}
		return destination{channelUnix, xssh.Marshal(openUnix{Path: next.Opaque}), addr{"unix", next.Opaque}}, nil
	default:
		return destination{}, addressError(c.server, errors.New("an SSH server cannot reach "+base+" addresses, only tcp and unix"), "")
	}
}

func (c *client) tcp(base string, next anysock.Hop) (destination, error) {
	port, err := strconv.ParseUint(next.Port, 10, 16)
	if err != nil || port == 0 {
		return destination{}, addressError(c.server, fmt.Errorf("the server cannot connect to port %q", next.Port), "")
	}
	host := next.Host
	if host == "" {
		return destination{}, addressError(c.server, errors.New("the host behind the server is missing"), "name it; localhost is then the server's machine")
	}
	if base != "tcp" {
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return destination{}, addressError(c.server, errors.New("the server resolves "+host+" and takes whatever family it finds"), "write tcp")
		}
		if ip.Is4() != (base == "tcp4") {
			return destination{}, addressError(c.server, errors.New(host+" is not an address of "+base), "")
		}
	}
	// The origin is for the server's log; there is nothing to tell.
	payload := xssh.Marshal(openTCP{Host: host, Port: uint32(port), OriginHost: "127.0.0.1"})
	return destination{channelTCP, payload, addr{base, net.JoinHostPort(host, next.Port)}}, nil
}

// open asks for the stream.
func (c *client) open(n *connection, to destination) (*stream, error) {
	ch, reqs, err := n.ssh.OpenChannel(to.channel, to.payload)
	if err == nil {
		return newStream(n, ch, reqs, n.LocalAddr(), to.addr, nil), nil
	}
	e := &anysock.Error{Op: anysock.OpConnect, Addr: to.addr.network + ":" + to.addr.name + " through ssh:" + c.server, Kind: anysock.KindHop}
	var refused *xssh.OpenChannelError
	if !errors.As(err, &refused) {
		if _, _, lost := n.alive(); lost != nil {
			err = lost
		}
		e.Err = fmt.Errorf("the server hung up instead of answering: %w", err)
		return nil, e
	}
	text := refused.Message
	if text == "" {
		text = "no reason given"
	}
	switch refused.Reason {
	case xssh.Prohibited:
		e.Err = fmt.Errorf("the server forbids it: %q", text)
		e.Hint = "see AllowTcpForwarding, AllowStreamLocalForwarding and PermitOpen of its sshd_config, and the options of your key"
	case xssh.ConnectionFailed:
		e.Err = fmt.Errorf("the server could not connect: %q", text)
		e.Hint = "the name and the port are as the server's machine sees them"
	case xssh.UnknownChannelType:
		e.Err = fmt.Errorf("the server does not know %s: %q", to.channel, text)
	default:
		e.Err = fmt.Errorf("the server refuses: %q", text)
	}
	return nil, e
}
