//go:build linux

// Package serve is what the servers under bench/servers that are written in Go
// share: their arguments, the line that says where they listen, and garbage
// collection on request, so that their idle memory can be compared with that of
// servers which have no garbage.
//
// A server is started as
//
//	NAME [-buffer BYTES] ADDRESS THREADS [TARGET]
//
// prints the bound address on a line of its own, and serves until it is killed.
// After SIGUSR1 it collects its garbage, gives the memory back and prints
// [Collected].
package serve

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Collected is the line that answers SIGUSR1.
const Collected = "collected"

// Arguments are those of a server.
type Arguments struct {
	Address string // IPv4 address and port; port 0 lets the kernel choose
	Threads int    // event loops, or whatever the engine calls them
	Target  string // of a relay
	Buffer  int    // bytes that a connection's own buffer holds, where a server has one
}

// Main parses the arguments and runs the server, which calls announce once it
// listens, with the bound address. An error ends the process with status 1.
func Main(run func(a Arguments, announce func(address string)) error) {
	var a Arguments
	flag.IntVar(&a.Buffer, "buffer", 4096, "bytes of a connection's own buffer")
	flag.Parse()
	threads, err := strconv.Atoi(flag.Arg(1))
	if flag.NArg() < 2 || err != nil || threads < 1 || a.Buffer < 1 {
		fmt.Fprintln(os.Stderr, "usage: [-buffer BYTES] ADDRESS THREADS [TARGET]")
		os.Exit(2)
	}
	a.Address, a.Threads, a.Target = flag.Arg(0), threads, flag.Arg(2)
	requests := make(chan os.Signal, 1)
	signal.Notify(requests, syscall.SIGUSR1)
	go collect(requests) // ends with the process
	if err := run(a, func(address string) { fmt.Println(address) }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func collect(requests <-chan os.Signal) {
	for range requests {
		debug.FreeOSMemory() // collects first
		fmt.Println(Collected)
	}
}

// FixedPort replaces port 0 by a free one, for engines that cannot say which
// port they got, or that listen once for each loop. The port stays taken, by a
// socket that does not listen, until release is called.
func FixedPort(address string) (fixed string, release func(), err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", nil, err
	}
	if port != "0" {
		return address, func() {}, nil
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	release = func() { _ = syscall.Close(fd) }
	defer func() {
		if err != nil {
			release()
		}
	}()
	for _, option := range []int{syscall.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, option, 1); err != nil {
			return "", nil, err
		}
	}
	var bind syscall.SockaddrInet4
	copy(bind.Addr[:], net.ParseIP(host).To4())
	if err = syscall.Bind(fd, &bind); err != nil {
		return "", nil, err
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		return "", nil, err
	}
	return net.JoinHostPort(host, strconv.Itoa(bound.(*syscall.SockaddrInet4).Port)), release, nil
}

// Goroutines listens on TCP as package net does for a server that sets nothing,
// but without MPTCP, which costs and which no other candidate has. Each
// connection is handled by a goroutine of its own, which closes it.
func Goroutines(address string, announce func(string), handle func(*net.TCPConn)) error {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	ln, err := config.Listen(context.Background(), "tcp4", address)
	if err != nil {
		return err
	}
	announce(ln.Addr().String())
	for {
		c, err := ln.(*net.TCPListener).AcceptTCP()
		if err != nil {
			return err
		}
		go handle(c) // ends with its connection
	}
}
