// A listener that has one connection and is through cuts nothing: --drain is
// for signals.

package integration_test

import (
	"io"
	"net"
	"testing"
	"time"
)

// beyondDrain is longer than the --drain of these tests.
const beyondDrain = 600 * time.Millisecond

func TestOneShotListenerIsNotDrained(t *testing.T) {
	t.Run("echo", func(t *testing.T) {
		p := anysockPiped(t, "echo", "--drain=200ms", "stdio:")
		p.write("early\n")
		p.says("early")
		<-time.After(beyondDrain)
		p.write("late\n")
		p.says("late")
		p.endInput()
		p.ok()
	})
	t.Run("relay", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			text, _ := io.ReadAll(c)
			<-time.After(beyondDrain)
			_, _ = c.Write(append([]byte("a late reply to "), text...))
		}()
		p := anysock(t, []byte("request"), "relay", "--drain=200ms", "stdio:", "tcp://"+ln.Addr().String())
		p.ok()
		if got := p.out.String(); got != "a late reply to request" {
			t.Errorf("the reply is %q", got)
		}
	})
}
