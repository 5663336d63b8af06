package verify

// This file holds relays with one defect each, and one without.

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A defect is what a bad relay does. Its functions are nil where it does as it
// should.
type defect struct {
	// refuses resets a connection at once.
	refuses func(number int64) bool
	// bytes changes what is passed on: up says which way, offset where it
	// begins.
	bytes func(p []byte, up bool, offset int64) []byte
	// last is passed on before an end.
	last func(up bool) []byte
	// tail: the last bytes are lost if an end follows them closely.
	tail bool
	// stops passes nothing on from this byte upward, 0 is never.
	stops int64
	// deafEnd: an end is not passed on.
	deafEnd bool
	// endsBoth: an end of the client is the end of the connection.
	endsBoth bool
	// polite: what was reset is ended in order.
	polite bool
}

// relayTo starts a relay with a defect, and returns its address.
func relayTo(t *testing.T, target string, d defect) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var number atomic.Int64
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			i := number.Add(1)
			wg.Go(func() {
				if d.refuses != nil && d.refuses(i) {
					reset(in)
					return
				}
				d.serve(ctx, in, target)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

func reset(cs ...net.Conn) {
	for _, c := range cs {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

func (d defect) serve(ctx context.Context, in net.Conn, target string) {
	out, err := net.Dial("tcp", target)
	if err != nil {
		reset(in)
		return
	}
	defer context.AfterFunc(ctx, func() { reset(in, out) })()
	var both sync.WaitGroup
	fail := func() {
		if d.polite {
			in.Close()
			out.Close()
			return
		}
		reset(in, out)
	}
	pass := func(from, to net.Conn, up bool) {
		err := d.pass(ctx, from, to, up)
		switch {
		case err != nil:
			fail()
		case d.endsBoth && up:
			in.Close()
			out.Close()
		case d.deafEnd:
		default:
			if to.(*net.TCPConn).CloseWrite() != nil {
				fail()
			}
		}
	}
	both.Go(func() { pass(in, out, true) })
	both.Go(func() { pass(out, in, false) })
	both.Wait()
	in.Close()
	out.Close()
}

// closely is how soon after its last bytes an end makes a relay lose them.
const closely = 20 * time.Millisecond

var errStopped = errors.New("stopped")

// pass copies one way until the end, which is nil.
func (d defect) pass(ctx context.Context, from, to net.Conn, up bool) error {
	buf := make([]byte, 32<<10)
	var kept []byte
	for offset := int64(0); ; {
		var soon time.Time
		if len(kept) > 0 {
			soon = time.Now().Add(closely)
		}
		_ = from.SetReadDeadline(soon)
		n, err := from.Read(buf)
		p := buf[:n]
		if d.tail && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)) {
			if _, err := to.Write(kept); err != nil {
				return err
			}
			kept = append(kept[:0], p...)
			offset += int64(n)
			continue
		}
		if d.stops > 0 && offset+int64(n) > d.stops {
			<-ctx.Done()
			return errStopped
		}
		if d.bytes != nil {
			p = d.bytes(p, up, offset)
		}
		offset += int64(n)
		if _, err := to.Write(p); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			if d.last != nil {
				if _, err := to.Write(d.last(up)); err != nil {
					return err
				}
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}
