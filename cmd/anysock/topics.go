package main

import "github.com/spf13/cobra"

// This file holds the topics of 'anysock help' that are no verbs.

// newExitTopic is 'anysock help exit'.
func newExitTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit",
		Short: "The exit statuses",
		Long: `The exit status says what became of the connection:

` + exitTable() + `
'connect' and a 'listen' of one connection report that connection. Servers and
'listen --keep' report their own end: 0 after a drain in which every connection
finished, 7 if some had to be cut.`,
	}
}

// newAddressTopic is 'anysock help address'.
func newAddressTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "address",
		Short: "How addresses are written",
		Long: `An address is a URL. "+" reads "over", nearest the application first; a comma
separates hops, first hop first. A bare host:port is tcp.

  tcp://:3005                   all addresses of this machine, IPv6 and IPv4
  localhost:3005                the same as tcp://localhost:3005
  tcp4://0.0.0.0:3005           IPv4 alone; tcp6:// is IPv6 alone
  tcp6://[fe80::1%25eth0]:3005  a zone; % is written %25
  tcp://127.0.0.1:0             any free port; the bound address is printed
  unix:/run/x.sock?mode=0660    a socket file, else with mode 0600
  unix:@name                    an abstract name (Linux)
  tls://db:5432                 TLS over tcp; tls+unix:/run/x.sock over a Unix socket
  wss://edge:443/path           a WebSocket over TLS; ws:// without
  quic://db:4433                a QUIC stream
  vsock://3:1024                a virtual machine, or from a guest its host (2)
  lc+wss://edge:443/path        the lifecycle protocol over it, at both ends
  socks5://proxy:1080,tcp://db:5432       through a proxy; also socks4a:, http:, https:
  ssh://ops@bastion:22,tls://db:5432      through an SSH server
  fd:3  stdio:  exec:/bin/cat   what was inherited; a program
  original:                     a relay's target: where a redirected connection was going
  echo:  discard:  chargen:     built-in services, to connect or relay to

Options follow a question mark: tcp://:3005?backlog=10&reuseport=1. An option that
nothing on the way knows is an error that lists those there are. require=abort,halfclose
demands capabilities; 'anysock caps ADDR' says what an address has. Passwords have no
place in an address: write pass=env:NAME or pass=file:PATH.`,
	}
}
