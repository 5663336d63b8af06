package anysock

import (
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// An abort is heard as a reset even where the kernel refuses SO_LINGER
// (contract 6).
func TestAbortWithoutLinger(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ln, err := Listen(ctx, "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := Dial(ctx, "tcp://"+ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.AcceptContext(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write([]byte("some")); err != nil {
		t.Fatal(err)
	}
	restore := sys.Inject(func(call sys.Call, _ int) error {
		if call == sys.CallSetsockopt {
			return syscall.ENOBUFS
		}
		return nil
	})
	err = a.Abort()
	restore()
	if err != nil {
		t.Errorf("Abort: %v", err)
	}
	_, err = io.ReadAll(b)
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindReset {
		t.Errorf("the peer reads %v, not a reset", err)
	}
	_ = b.Abort()
}
