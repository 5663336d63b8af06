package loop_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

// The services do what RFC 862 to 864 say and end when their peer does: chargen
// also towards a peer that reads all the time, so that there is always something
// to be written (contract 3 and 9).
func TestServices(t *testing.T) {
	for _, network := range networks {
		t.Run("discard/"+network, func(t *testing.T) {
			r := serve(t, network, "", &loop.Server{Handler: loop.Discard()})
			c := r.dial()
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
				t.Errorf("%d bytes came, %v", len(got), err)
			}
			if e := r.end(); e.How != anysock.Graceful || e.Received != 1<<20 {
				t.Errorf("server: %v", e)
			}
		})
		t.Run("chargen/"+network, func(t *testing.T) {
			r := serve(t, network, "", &loop.Server{Handler: loop.Chargen()})
			c := r.dial()
			line := make([]byte, 74)
			for n := range 100_000 {
				if n == 10_000 {
					if err := c.CloseWrite(); err != nil {
						t.Fatal(err)
					}
				}
				before := bytes.Clone(line)
				got, err := io.ReadFull(c, line)
				if err == nil {
					if n > 0 && (!bytes.HasSuffix(line, []byte("\r\n")) || !bytes.HasPrefix(before[1:], line[:71])) {
						t.Fatalf("line %d is %q after %q", n, line, before)
					}
					continue
				}
				if got > 0 && !bytes.HasPrefix(before[1:72], line[:min(got, 71)]) {
					t.Fatalf("the last line is %q after %q", line[:got], before)
				}
				if n < 10_000 {
					t.Fatalf("line %d: %v", n, err)
				}
				if e := r.end(); e.How != anysock.Graceful || e.By != anysock.Peer {
					t.Errorf("server: %v", e)
				}
				return
			}
			t.Error("it goes on and on after the peer's end")
		})
	}
}
