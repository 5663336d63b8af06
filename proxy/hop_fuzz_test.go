package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/anysock/anysock"
)

// FuzzExchange plays a proxy that answers anything and then ends. The exchange
// comes to its end, says so in words, and leaves what follows an answer.
func FuzzExchange(f *testing.F) {
	schemes := []string{schemeSocks5, schemeSocks4, schemeSocks4a, schemeHTTP}
	f.Add(byte(0), []byte("\x05\x00"+granted5+"glued"))
	f.Add(byte(0), []byte("\x05\x02\x01\x00"+granted5+"glued"))
	f.Add(byte(0), []byte("\x05\x00\x05\x05"))
	f.Add(byte(1), []byte(granted4+"glued"))
	f.Add(byte(2), []byte("\x00\x5d"))
	f.Add(byte(3), []byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nglued"))
	f.Add(byte(3), []byte("HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n"))
	f.Add(byte(3), []byte("SSH-2.0-x\r\n"))
	f.Fuzz(func(t *testing.T, scheme byte, answer []byte) {
		if len(answer) > anysock.DefaultMemBuffer {
			t.Skip("more than the pipe holds")
		}
		a, b := anysock.Pipe(anysock.Options{})
		defer func() {
			_ = a.Abort()
			_ = b.Abort()
		}()
		if _, err := b.Write(answer); err != nil {
			t.Fatal(err)
		}
		if err := b.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		x := &exchange{
			hopSettings: hopSettings{scheme: schemes[int(scheme)%len(schemes)], addr: "proxy:1080", user: "ann", pass: "s3cret"},
			ctx:         context.Background(), op: anysock.OpConnect, c: a, to: ip("192.0.2.7", 80),
		}
		err := x.connect()
		if err == nil {
			rest, err := io.ReadAll(a)
			if err != nil || !bytes.HasSuffix(answer, rest) || len(rest) == len(answer) {
				t.Errorf("%q: %q is left, %v", answer, rest, err)
			}
			return
		}
		var e *anysock.Error
		if !errors.As(err, &e) || e.Kind != anysock.KindHop && e.Kind != anysock.KindAuth || e.Hint == "" {
			t.Fatalf("%q: %v", answer, err)
		}
		if errors.Is(err, io.EOF) {
			t.Errorf("%q: the error matches io.EOF", answer)
		}
		checkText(t, err.Error())
		checkText(t, e.Hint)
		if bytes.Contains([]byte(err.Error()+e.Hint), []byte("s3cret")) {
			t.Errorf("the password is in %q", err)
		}
	})
}
