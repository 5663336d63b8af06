//go:build !anysock_portable

package anysock_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// The listeners of ListenEach share the connections, and a second server is
// refused the port, whether it listens once or many times.
func TestListenEach(t *testing.T) {
	for _, addr := range []string{"tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://:0"} {
		t.Run(addr, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			a, err := anysock.ParseAddress(addr)
			if err != nil {
				t.Fatal(err)
			}
			var lc anysock.ListenConfig
			lns, err := lc.ListenEach(ctx, a, 3)
			if err != nil {
				t.Fatal(err)
			}
			if len(lns) != 3 {
				t.Fatalf("%d listeners", len(lns))
			}
			accepted := make(chan int)
			for i, ln := range lns {
				if ln.Addr().String() != lns[0].Addr().String() {
					t.Fatalf("listener %d has %v, the first %v", i, ln.Addr(), lns[0].Addr())
				}
				go func() {
					for c, err := range ln.Conns(ctx) {
						if err != nil {
							return
						}
						accepted <- i
						_ = c.Abort()
					}
				}()
				defer ln.Close()
			}
			port := lns[0].Addr().(*net.TCPAddr).AddrPort()
			to := "tcp://" + port.String()
			if port.Addr().IsUnspecified() {
				to = "tcp://[::1]:" + port.String()[len("[::]:"):]
			}
			shares := make([]int, 3)
			for range 200 {
				c, err := anysock.Dial(ctx, to)
				if err != nil {
					t.Fatal(err)
				}
				shares[<-accepted]++
				_ = c.Abort()
			}
			for i, n := range shares {
				if n == 0 {
					t.Errorf("listener %d got none of 200 connections: %v", i, shares)
				}
			}
			var e *anysock.Error
			at := "tcp://" + port.String()
			if ln, err := anysock.Listen(ctx, at); err == nil {
				ln.Close()
				t.Error("a second server can listen too")
			} else if !errors.As(err, &e) || e.Kind != anysock.KindInUse {
				t.Errorf("a second server: %v, not KindInUse", err)
			}
			b, _ := anysock.ParseAddress(at)
			if _, err := lc.ListenEach(ctx, b, 2); !errors.As(err, &e) || e.Kind != anysock.KindInUse {
				t.Errorf("a second ListenEach: %v, not KindInUse", err)
			}
		})
	}
}
