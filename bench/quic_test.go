package bench

// This file compares the cost of one QUIC stream: through Conn, and the library
// underneath used bare. Both ends are in this process. The processor's time for
// a byte is what bounds the throughput of QUIC on loopback, and is measured
// because other programs disturb it least; -quicclock measures the throughput.

import (
	"context"
	"crypto/tls"
	"flag"
	"io"
	"net"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testcert"
	_ "github.com/anysock/anysock/transport/quic"
)

var quicMegabytes = flag.Int("quicmegabytes", 32, "how much BenchmarkQUIC moves for each side in a slice, in 1e6 bytes")

var quicClock = flag.Bool("quicclock", false, "BenchmarkQUIC goes by the clock instead of the processor's time")

// spent is the time so far that a slice's cost is counted in.
func spent() (time.Duration, error) {
	if *quicClock {
		return time.Since(programStart), nil
	}
	return processTime()
}

var programStart = time.Now()

// quicChunk is how much is written at once.
const quicChunk = 64 << 10

// A quicSlot moves bytes from one end of a stream to the other.
type quicSlot struct {
	w     io.Writer
	r     io.Reader
	close func()
}

func (s quicSlot) stop() { s.close() }

// slice is the time for -quicmegabytes, in gigabytes of work.
func (s quicSlot) slice(tb testing.TB) sample {
	tb.Helper()
	total := *quicMegabytes * 1e6
	read := make(chan error, 1)
	began, err := spent()
	if err != nil {
		tb.Fatal(err)
	}
	go func() {
		_, err := io.CopyN(io.Discard, struct{ io.Reader }{s.r}, int64(total))
		read <- err
	}()
	buf := make([]byte, quicChunk)
	for left := total; left > 0; {
		n, err := s.w.Write(buf[:min(left, quicChunk)])
		if err != nil {
			tb.Fatal(err)
		}
		left -= n
	}
	if err := <-read; err != nil {
		tb.Fatal(err)
	}
	used, err := spent()
	if err != nil {
		tb.Fatal(err)
	}
	return sample{cpu: used - began, work: float64(total) / 1e9}
}

// bareQUIC is the library's own stream, with the flow control windows and the
// timeouts of ours.
func bareQUIC(ca *testcert.Authority, cert testcert.Certificate) side {
	return side{"quic-go", func(tb testing.TB) slot {
		tb.Helper()
		ctx := context.Background()
		conf := &quicgo.Config{MaxIdleTimeout: time.Minute}
		var socks [2]net.PacketConn
		var trs [2]*quicgo.Transport
		for i := range socks {
			pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp", "127.0.0.1:0")
			if err != nil {
				tb.Fatal(err)
			}
			socks[i], trs[i] = pc, &quicgo.Transport{Conn: pc}
		}
		ln, err := trs[0].Listen(&tls.Config{Certificates: []tls.Certificate{cert.TLS}, NextProtos: []string{"bench"}, MinVersion: tls.VersionTLS13}, conf)
		if err != nil {
			tb.Fatal(err)
		}
		dialed, err := trs[1].Dial(ctx, ln.Addr(), &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1", NextProtos: []string{"bench"}, MinVersion: tls.VersionTLS13}, conf)
		if err != nil {
			tb.Fatal(err)
		}
		accepted, err := ln.Accept(ctx)
		if err != nil {
			tb.Fatal(err)
		}
		w, err := dialed.OpenStream()
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write([]byte{0}); err != nil {
			tb.Fatal(err)
		}
		r, err := accepted.AcceptStream(ctx)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
			tb.Fatal(err)
		}
		return warm(tb, quicSlot{w, r, func() {
			_ = dialed.CloseWithError(0, "")
			_ = accepted.CloseWithError(0, "")
			for i := range socks {
				_ = trs[i].Close()
				_ = socks[i].Close()
			}
		}})
	}}
}

// connQUIC is the same through the library, with every option at its default.
func connQUIC(ca *testcert.Authority, cert testcert.Certificate) side {
	return side{"Conn", func(tb testing.TB) slot {
		tb.Helper()
		ctx := context.Background()
		ln, err := anysock.Listen(ctx, "quic://127.0.0.1:0?cert=file:"+cert.CertFile+"&key=file:"+cert.KeyFile)
		if err != nil {
			tb.Fatal(err)
		}
		dialed, err := anysock.Dial(ctx, "quic://"+ln.Addr().String()+"?ca=file:"+ca.File)
		if err != nil {
			tb.Fatal(err)
		}
		accepted, err := ln.AcceptContext(ctx)
		if err != nil {
			tb.Fatal(err)
		}
		return warm(tb, quicSlot{dialed, accepted, func() {
			_ = dialed.Abort()
			_ = accepted.Abort()
			_ = ln.Close()
		}})
	}}
}

// warm lets the congestion window and the flow control windows open.
func warm(tb testing.TB, s quicSlot) slot {
	tb.Helper()
	s.slice(tb)
	return s
}

// BenchmarkQUIC is for -benchtime 1x: it decides itself how much to do.
func BenchmarkQUIC(b *testing.B) {
	ca := testcert.New(b)
	cert := ca.Server(b)
	for b.Loop() {
		bare := bareQUIC(ca, cert)
		subject := &comparison{base: bare, subject: connQUIC(ca, cert)}
		noise := &comparison{base: bare, subject: bare}
		comparePairs(b, subject, noise)
		report{
			title: "One QUIC stream, 64 KiB writes, both ends in one process", unit: "s per GB", scale: 1, target: 1.10,
			methods: "With -quicclock CPU is the time by the clock.",
		}.publish(b, subject, noise)
	}
}
