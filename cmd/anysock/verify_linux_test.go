//go:build linux

package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// naiveRelay copies both ways and closes both when one way is over, as many do.
func naiveRelay(t *testing.T, target string) string {
	t.Helper()
	ln := peerListener(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				out, err := net.Dial("unix", target)
				if err != nil {
					in.Close()
					return
				}
				var both sync.WaitGroup
				for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
					both.Go(func() {
						_, _ = io.Copy(way[0], way[1])
						in.Close()
						out.Close()
					})
				}
				both.Wait()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// shortPath is a path that fits into the address of a Unix socket.
func shortPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "as") //nolint:usetesting // TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// A relay that takes one end for both loses the reply to a half-close: that is
// status 9, named, counted, and told how to repeat it.
func TestVerifyFindsALostReply(t *testing.T) {
	t.Parallel()
	path := shortPath(t)
	at := naiveRelay(t, path)
	args := []string{"verify", "--seed", "11", "--count", "40", "--orders", "client-half-closes", "--relay", at + ",unix:" + path}
	b := start(t, command(t, args...))
	b.exits(t, exitVerify)
	b.sees(t, `^anysock: (lost-bytes|false-end): the client read an end of file after [0-9]+ of [0-9]+ bytes \(connection [0-9]+, client-half-closes, `)
	b.sees(t, `^anysock: further findings are only counted$`)
	b.sees(t, `^anysock: verify: a fault on [0-9]+ of 40 connections$`)
	b.sees(t, `^  try: to repeat one, add --seed 11 --first [0-9]+ --count 1$`)
	b.sees(t, `^false-end: [0-9]+ were told an end of file although the sender had not finished|^lost-bytes: [0-9]+ lost bytes before an end of file \([0-9]+ bytes\)$`)
	if n := strings.Count(b.errOut.String(), "client-half-closes"); n != verifyShown {
		t.Errorf("%d findings are shown:\n%s", n, b.errOut.String())
	}

	b = start(t, command(t, append(args, "--json")...))
	b.exits(t, exitVerify)
	b.sees(t, `^\{"time":"[^"]+","event":"finding","number":[0-9]+,"order":"client-half-closes","fault":"(lost-bytes|false-end)","side":"client",`)
	b.sees(t, `"faults":\{"(lost-bytes|false-end)":[0-9]+`)
	b.sees(t, `"msg":"verify: a fault on [0-9]+ of 40 connections","status":9`)
}

// What is broken off with an error is a fault, unless the user allows it.
func TestVerifyAllowsErrors(t *testing.T) {
	t.Parallel()
	ln := peerListener(t)
	target := peerListener(t)
	address := target.Addr().String()
	target.Close() // verify listens there
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			in, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", address)
			if i%4 == 3 || err != nil {
				_ = in.SetLinger(0)
				in.Close()
				if out != nil {
					out.Close()
				}
				continue
			}
			wg.Go(func() {
				var both sync.WaitGroup
				for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
					both.Go(func() {
						_, _ = io.Copy(way[0], way[1])
						_ = way[0].(*net.TCPConn).CloseWrite()
					})
				}
				both.Wait()
				in.Close()
				out.Close()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	args := []string{"verify", "--count", "20", "--orders", "client-half-closes,both-end", "--relay", ln.Addr().String() + "," + address}
	b := start(t, command(t, args...))
	b.exits(t, exitVerify)
	b.sees(t, `^broken: [0-9]+ were broken off with an error although both ends were in order$`)
	start(t, command(t, append(args, "--allow-errors")...)).exits(t, exitOK)
}

// On a terminal a line shows how far it is; an interrupt ends the run in order
// and reports what was done.
func TestVerifyOnATerminal(t *testing.T) {
	t.Parallel()
	far := start(t, command(t, "verify", "--serve", "tcp://127.0.0.1:0"))
	at := strings.TrimSpace(far.sees(t, listening.String()))
	b, keyboard := onTerminal(t, withEnv(command(t, "verify", "--duration", "1h", at), "NO_COLOR=1"))
	b.sees(t, `[1-9][0-9]*, [0-9]+/s, [0-9]+ at work, [0-9.]+ MB up, [0-9.]+ MB down, 0 with a fault`)
	write(t, keyboard, "\x03")
	b.exits(t, exitOK)
	b.sees(t, `^  interrupted: this is what was done so far\r$`)
	b.sees(t, `^nothing was lost, no end was false\r$`)
	far.signal(t, syscall.SIGTERM)
	far.exits(t, exitOK)
}

// A second interrupt does not wait for what runs.
func TestVerifyIsCut(t *testing.T) {
	t.Parallel()
	path := shortPath(t)
	ln := peerListener(t)
	var wg sync.WaitGroup
	held := make(chan struct{})
	wg.Go(func() {
		for first := true; ; first = false {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer in.Close()
				if !first {
					<-held // says nothing
					return
				}
				out, err := net.Dial("unix", path)
				if err != nil {
					return
				}
				defer out.Close()
				var both sync.WaitGroup
				both.Go(func() { _, _ = io.Copy(out, in); _ = out.(*net.UnixConn).CloseWrite() })
				both.Go(func() { _, _ = io.Copy(in, out); _ = in.(*net.TCPConn).CloseWrite() })
				both.Wait()
			})
		}
	})
	t.Cleanup(func() {
		close(held)
		ln.Close()
		wg.Wait()
	})
	b, keyboard := onTerminal(t, withEnv(command(t, "verify", "--count", "5", "--at-once", "5", "--relay", ln.Addr().String()+",unix:"+path), "NO_COLOR=1"))
	b.sees(t, `0 of 5, 0/s, 5 at work, `)
	write(t, keyboard, "\x03")
	b.sees(t, `no more connections, finishing those at work; a second signal aborts them\r$`)
	write(t, keyboard, "\x03")
	b.exits(t, exitAborted)
	b.sees(t, `^anysock: verify: 5 connections aborted, interrupted by interrupt\r$`)
	b.sees(t, `^  5 cut short by us, and not judged\r$`)
}
