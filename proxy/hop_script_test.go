// This file holds a proxy that does what a test says, byte for byte.

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/anysock/anysock"
)

func TestMain(m *testing.M) { os.Exit(runAndWait(m)) }

// runAndWait is the tests, and that they leave nothing behind.
func runAndWait(m *testing.M) int {
	code := m.Run()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var incomplete *anysock.WaitError
	if _, err := anysock.Wait(ctx); errors.As(err, &incomplete) && incomplete.Pending > 0 {
		fmt.Fprintln(os.Stderr, "still closing:", err)
		code = 1
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// patience bounds every wait of a test.
const patience = 15 * time.Second

// A step of a script: what the proxy must hear, and what it then says.
type step struct {
	hear string
	say  string
}

// A scriptedProxy plays its script on each connection.
type scriptedProxy struct {
	t     testing.TB
	ln    net.Listener
	steps []step
	// after is called when the script is through; without it the connection
	// is held until the client ends.
	after func(net.Conn)
	// slow says it byte by byte, each in a segment of its own.
	slow bool

	mu    sync.Mutex
	extra []byte // what the client sent beyond the script
	wg    sync.WaitGroup
}

func newScript(t testing.TB, p *scriptedProxy) *scriptedProxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.t, p.ln = t, ln
	p.wg.Add(1)
	go p.run()
	t.Cleanup(func() {
		ln.Close()
		p.wg.Wait()
	})
	return p
}

func (p *scriptedProxy) run() {
	defer p.wg.Done()
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Add(1)
		go p.serve(c)
	}
}

func (p *scriptedProxy) serve(c net.Conn) {
	defer p.wg.Done()
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	for i, s := range p.steps {
		heard := make([]byte, len(s.hear))
		if n, err := io.ReadFull(c, heard); err != nil || string(heard) != s.hear {
			p.t.Errorf("step %d: heard %q, %v, want %q", i, heard[:n], err, s.hear)
			return
		}
		if err := p.say(c, s.say); err != nil {
			return
		}
	}
	if p.after != nil {
		p.after(c)
		return
	}
	extra, _ := io.ReadAll(c)
	p.mu.Lock()
	p.extra = append(p.extra, extra...)
	p.mu.Unlock()
}

func (p *scriptedProxy) say(c net.Conn, text string) error {
	pieces := []string{text}
	if p.slow {
		pieces = strings.Split(text, "")
	}
	for _, piece := range pieces {
		if piece == "" {
			continue
		}
		if _, err := io.WriteString(c, piece); err != nil {
			return err
		}
	}
	return nil
}

// heardBeyond waits until the clients are gone and returns what they sent
// beyond the script.
func (p *scriptedProxy) heardBeyond() string {
	p.ln.Close()
	p.wg.Wait()
	return string(p.extra)
}

func (p *scriptedProxy) hostPort() string { return p.ln.Addr().String() }

// dialChain dials within the patience of a test.
func dialChain(t testing.TB, d *anysock.Dialer, format string, args ...any) (*anysock.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := d.Dial(ctx, fmt.Sprintf(format, args...))
	if c != nil {
		t.Cleanup(func() { _ = c.Abort() })
	}
	return c, err
}

// failure is the error as one of ours.
func failure(t testing.TB, err error) *anysock.Error {
	t.Helper()
	var e *anysock.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *anysock.Error", err)
	}
	return e
}

// noControl: messages are for terminals.
func noControl(t testing.TB, e *anysock.Error) {
	t.Helper()
	for _, s := range []string{e.Error(), e.Hint} {
		if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
			t.Errorf("%q has control characters", s)
		}
	}
}

// readExactly reads what must come.
func readExactly(t testing.TB, c *anysock.Conn, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got := make([]byte, len(want))
	if n, err := c.ReadAtLeast(ctx, got, len(got)); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got[:n], err, want)
	}
}
