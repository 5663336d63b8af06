package anysock_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// TestSilentCrowdOfOneAddress: clients of one address that say nothing hold up
// that address, and no other; and when they leave, those that waited are served.
func TestSilentCrowdOfOneAddress(t *testing.T) {
	const crowd = 600 // more than one address may have at once
	ln := mustListen(t, &anysock.ListenConfig{}, "tls+tcp://127.0.0.1:0")
	ends := echoUntilEnd(t, ln)
	base := "tcp://" + ln.Addr().String()
	before := xorHandshakes.Load()
	var silent []*anysock.Conn
	for range crowd {
		silent = append(silent, mustDial(t, &anysock.Dialer{}, base))
	}
	eventually(t, "the handshakes of the crowd have begun", func() bool { return xorHandshakes.Load()-before >= 512 })
	if n := xorHandshakes.Load() - before; n != 512 {
		t.Errorf("%d handshakes of one address are in flight", n)
	}

	other := mustDial(t, &anysock.Dialer{Local: "127.0.0.2:0"}, "tls+"+base)
	if got := exchange(t, other); got != "ping" {
		t.Errorf("the other address was answered %q", got)
	}

	waiting := make(chan error, 1)
	go func() {
		c, err := anysock.Dial(t.Context(), "tls+"+base)
		if err == nil {
			_, err = c.Disconnect(t.Context())
		}
		waiting <- err
	}()
	for _, c := range silent {
		_ = c.Abort()
	}
	must(t, "a client of the same address, once the crowd has left", <-waiting)
	<-ends
}

// exchange sends and reads back, through a server that echoes until the end.
func exchange(t *testing.T, c *anysock.Conn) string {
	t.Helper()
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	must(t, "CloseWrite", c.CloseWrite())
	return readAll(t, c)
}

// TestManyStreamsOfOneConnection: a layer may bring several streams per
// connection; closing the listener, or draining it, ends accepting them.
func TestManyStreamsOfOneConnection(t *testing.T) {
	for _, drain := range []bool{false, true} {
		t.Run(fmt.Sprintf("drain %t", drain), func(t *testing.T) {
			ln := mustListen(t, &anysock.ListenConfig{}, "ssh://127.0.0.1:0?hostkey=a&hostkey=b")
			c := mustDial(t, &anysock.Dialer{}, "tcp://"+ln.Addr().String())
			if _, err := c.Write([]byte{3}); err != nil {
				t.Fatal(err)
			}
			var got string
			for range 3 {
				s := mustAccept(t, ln)
				var b [1]byte
				if _, err := s.ReadAtLeast(soon(t), b[:], 1); err != nil {
					t.Fatal(err)
				}
				got += string(b[:])
			}
			if got != "012" {
				t.Errorf("the streams are %q", got)
			}
			ln.SetDeadline(time.Now().Add(20 * time.Millisecond))
			if _, err := ln.AcceptContext(soon(t)); err == nil {
				t.Error("a fourth stream was accepted")
			}
			if drain {
				if _, err := ln.Drain(); err != nil {
					t.Errorf("Drain: %v", err)
				}
			}
			must(t, "Close", ln.Close())
			c.SetReadDeadline(time.Now().Add(tooLong))
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
				t.Errorf("the connection of a closed listener: %v", err)
			}
		})
	}
	_, err := anysock.Listen(t.Context(), "ssh://127.0.0.1:0")
	if err == nil || !strings.Contains(err.Error(), "host key") {
		t.Errorf("listening without a host key: %v", err)
	}
}
