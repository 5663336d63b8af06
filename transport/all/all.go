// Package all registers every transport and proxy hop there is. Import it for
// its effect where any address should work; a program that needs a few imports
// those alone.
package all

import (
	_ "github.com/anysock/anysock/lifecycle"       // lc
	_ "github.com/anysock/anysock/proxy"           // socks5, socks4, socks4a, http
	_ "github.com/anysock/anysock/transport/quic"  // quic
	_ "github.com/anysock/anysock/transport/ssh"   // ssh
	_ "github.com/anysock/anysock/transport/stdio" // stdio, fd, exec
	_ "github.com/anysock/anysock/transport/tls"   // tls
	_ "github.com/anysock/anysock/transport/vsock" // vsock
	_ "github.com/anysock/anysock/transport/ws"    // ws
)
