// Package ssh makes streams through SSH servers, and is one that only does
// that. Import it to register the transport "ssh" in two parts.
//
// A hop (RFC 4254 section 7.2, and direct-streamlocal@openssh.com of OpenSSH's
// PROTOCOL) reaches the next address from the server's machine:
//
//	ssh://ops@bastion:22,tcp://db:5432
//	ssh://bastion:22,ssh://inner:22,unix:/run/app.sock
//	ssh://bastion:22?key=file:/etc/app/id&hostkey=SHA256:hQ5…,tls://db:5432
//
// The server's host key is checked against known_hosts, and one that is not
// there is refused with its fingerprint. Without a key in the address those of
// the agent (SSH_AUTH_SOCK) are offered, and then ~/.ssh/id_ed25519, id_ecdsa
// and id_rsa. Every stream has an SSH connection of its own: streams cannot
// hold each other up, and one is as cheap to abort as a socket.
//
// A listener accepts the channels that clients with an authorized key open,
// many over one connection:
//
//	ssh://:2222?hostkey=file:/etc/app/host_key&authorized=file:/etc/app/authorized_keys
//
// Every direct-tcpip or direct-streamlocal channel is one accepted connection,
// whatever destination the client names: "ssh -W any:1 -p 2222 host" and
// "ssh -N -L 5432:any:1 -p 2222 host" talk to whatever serves the listener. The
// destination is LocalAddr. There is no shell, no command, no subsystem, and no
// forwarding from the server to the client. OpenSSH's -W stops sending when the
// other direction has ended, with any server; its -L does not.
//
// It is not for those who need a shell, files, or a terminal: use
// golang.org/x/crypto/ssh.
//
// # Endings
//
//	ours         on the wire                     the other side
//	CloseWrite   SSH_MSG_CHANNEL_EOF             end of file, and goes on sending
//	Close        the end as above; the hop       graceful
//	             then waits until the server
//	             has closed the channel, which
//	             is when the target has it all
//	Abort        hop: a reset below;             a hop: what sshd makes of a lost client, usually
//	             listener: SSH_MSG_CHANNEL_CLOSE an end at the target; anysock: an abort
//
// SSH has no abort of one stream, and OpenSSH turns a reset of the target into
// an end of file: a capability for it is not declared, and lc is what helps. A
// stream whose SSH connection ends without the stream's own end never reads end
// of file: it is truncated, reset or lost. One case is beyond telling: a client
// of the listener that hangs up in order (SSH_MSG_DISCONNECT) after our own end
// counts as one that has ended.
//
// What a stream can do is half-close and deadlines. A write returns when its
// bytes are taken; at most 128 KiB of them are still on their way to the
// connection below, and CloseWrite, Disconnect and Close wait for those. So a
// passed deadline or a cancelled call never breaks the SSH connection
// (internal/deadline).
package ssh

import (
	"time"

	"github.com/anysock/anysock"
)

// The bounds of this package.
const (
	// DefaultKeepAlive is after how much silence the other side is asked
	// whether it is there (keepalive@openssh.com): the option alive.
	DefaultKeepAlive = 30 * time.Second
	// KeepAliveMisses is how many such questions stay unanswered, one per
	// interval, until the connection is lost.
	KeepAliveMisses = 3
	// MaxAuthTries is how many keys a client may try.
	MaxAuthTries = 6
	// DefaultMaxChannels is how many streams one connection may have open at
	// once: the option maxchannels. Further ones are refused. One that is not
	// read holds at most the library's window of 2 MiB, and 128 KiB of ours.
	DefaultMaxChannels = 64
	// DefaultMaxClients is how many clients may be let in at once, with or
	// without streams: the option maxclients. Further ones are turned away.
	DefaultMaxClients = 1024

	// maxKeyFile bounds files of keys, in bytes.
	maxKeyFile = 1 << 20
	// cutGrace is how long the end of the connection below is kept from the
	// streams over it, while one of them may still have to look at its own
	// end that came before.
	cutGrace = 100 * time.Millisecond
	// releaseBound is how long a closed stream waits for its goroutines, and how
	// long a connection waits for those of the library.
	releaseBound = time.Second
	// smallRead is what an idle stream reads first, so that it holds no
	// larger buffer.
	smallRead = 512
)

// version is what we say in the first line (RFC 4253 section 4.2).
const version = "SSH-2.0-anysock"

// streamCaps is what a channel can do.
const streamCaps = anysock.CapHalfClose | anysock.CapDeadline

func init() {
	str := func(name, help string, dial, listen, repeat bool) anysock.OptionSpec {
		return anysock.OptionSpec{Name: name, Type: anysock.OptionString, Dial: dial, Listen: listen, Repeat: repeat, Help: help}
	}
	anysock.Register(anysock.Transport{
		Scheme: "ssh",
		Options: []anysock.OptionSpec{
			str("key", "private key to offer: file:PATH; may be repeated (default: the agent's, then ~/.ssh/id_ed25519, id_ecdsa, id_rsa)", true, false, true),
			str("key-pass", "passphrase of the private keys: env:NAME or file:PATH", true, false, false),
			{Name: "agent", Type: anysock.OptionBool, Dial: true, Help: "offer the keys of the agent at SSH_AUTH_SOCK (default 1 without key, else 0)"},
			str("pass", "password, where the server wants one: env:NAME or file:PATH", true, false, false),
			str("knownhosts", "file of host keys: file:PATH (default ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts)", true, false, false),
			str("hostkey", "dialing: the server's only host keys, SHA256:FINGERPRINT; listening: private host key, file:PATH; may be repeated", true, true, true),
			str("insecure", "skip-verify takes any host key", true, false, false),
			{Name: "alive", Type: anysock.OptionDuration, Dial: true, Listen: true, Help: "silence after which the other side is asked whether it is there (default 30s, 0 never)"},
			str("authorized", "keys that are let in: file:PATH in the form of authorized_keys (sshd(8))", false, true, false),
			str("user", "user name that is let in; may be repeated (default any)", false, true, true),
			{Name: "maxchannels", Type: anysock.OptionInt, Listen: true, Help: "open streams of one client connection (default 64)"},
			{Name: "maxclients", Type: anysock.OptionInt, Listen: true, Help: "clients that are let in at once (default 1024)"},
		},
		Caps:      func(anysock.Caps, anysock.Target) anysock.Caps { return streamCaps },
		Prepare:   prepare,
		Through:   through,
		ServeMany: serveMany,
	})
}

// prepare looks at the options of one side.
func prepare(t anysock.Target, listening bool) (any, error) {
	if listening {
		return newServer(t)
	}
	return newClient(t)
}
