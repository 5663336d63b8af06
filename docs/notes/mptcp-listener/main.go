//go:build linux

// mptcp-listener: package net listens with MPTCP, and such a socket lacks options that plain TCP has.
//
// TCP_USER_TIMEOUT cannot be set on it, and SO_RCVLOWAT set on it does not reach the accepted sockets (which
// read back 0, and behave as with 1), though those are plain TCP where the client is. So anysock listens with plain TCP and offers MPTCP by option.
package main

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("mptcp-listener", run) }

const (
	soProtocol = 38  // asm-generic/socket.h SO_PROTOCOL
	protoMPTCP = 262 // linux/in.h IPPROTO_MPTCP
)

func run(r *fact.Report) {
	enabled, err := os.ReadFile("/proc/sys/net/mptcp/enabled")
	if err != nil || strings.TrimSpace(string(enabled)) != "1" {
		r.Skip("MPTCP is not enabled in this kernel")
	}
	r.Step("net.Listen")
	mptcp, err := net.Listen("tcp", "127.0.0.1:0")
	r.Must("listen", err)
	options(r, mptcp, protoMPTCP, "ENOPROTOOPT", 0)

	r.Step("ListenConfig with SetMultipathTCP(false)")
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	plain, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	r.Must("listen", err)
	options(r, plain, syscall.IPPROTO_TCP, "nil", 1000)

	r.Step("net.Dial")
	c, err := net.Dial("tcp", plain.Addr().String())
	r.Must("dial", err)
	control(r, c.(*net.TCPConn), func(fd int) {
		r.Expect("protocol", syscall.IPPROTO_TCP, r.Get(fd, syscall.SOL_SOCKET, soProtocol))
	})
}

// options sets two options on a listener and looks at what an accepted socket has of them.
func options(r *fact.Report, ln net.Listener, protocol int, userTimeout string, lowat int) {
	control(r, ln.(*net.TCPListener), func(fd int) {
		r.Expect("protocol of the listener", protocol, r.Get(fd, syscall.SOL_SOCKET, soProtocol))
		r.Expect("set TCP_USER_TIMEOUT", userTimeout, fact.Name(syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, fact.TCPUserTimeout, 60_000)))
		r.Expect("set SO_RCVLOWAT", "nil", fact.Name(syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, 1000)))
		r.Expect("SO_RCVLOWAT of the listener", 1000, r.Get(fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT))
	})
	client := r.TCP()
	addr := ln.Addr().(*net.TCPAddr)
	r.Must("connect", r.Finish(client, syscall.Connect(client, fact.Loopback(addr.Port))))
	c, err := ln.Accept()
	r.Must("accept", err)
	control(r, c.(*net.TCPConn), func(fd int) {
		r.Expect("protocol of the accepted socket", syscall.IPPROTO_TCP, r.Get(fd, syscall.SOL_SOCKET, soProtocol))
		r.Expect("SO_RCVLOWAT of the accepted socket", lowat, r.Get(fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT))
		r.Expect("set TCP_USER_TIMEOUT on the accepted socket", "nil", fact.Name(syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, fact.TCPUserTimeout, 60_000)))
	})
}

func control(r *fact.Report, c syscall.Conn, f func(fd int)) {
	raw, err := c.SyscallConn()
	r.Must("reach the descriptor", err)
	r.Must("use the descriptor", raw.Control(func(fd uintptr) { f(int(fd)) }))
}
