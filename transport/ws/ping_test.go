package ws

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/deadline"
)

// inBubble runs f with a client that writes every byte itself and our end of
// it, in memory, by a clock of its own.
func inBubble(t *testing.T, options string, f func(t *testing.T, p *rawPeer, c *anysock.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		ln, err := anysock.Listen(ctx, "ws+mem:ping"+options)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		nc, err := anysock.Dial(ctx, "mem:ping")
		if err != nil {
			t.Fatal(err)
		}
		p := newRawPeer(t, nc, true)
		if err := nc.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		p.send(request("/", "localhost"))
		if resp := p.answer(); resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("status %d", resp.StatusCode)
		}
		c, err := ln.AcceptContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		f(t, p, c)
		_, _ = c.Abort(), nc.Abort()
	})
}

// A ping comes after 30 seconds without traffic. That nobody answers it means
// nothing: the peer may have paused.
func TestPingWhenIdle(t *testing.T) {
	inBubble(t, "", func(t *testing.T, p *rawPeer, c *anysock.Conn) {
		began := time.Now()
		f, err := p.next()
		if err != nil || f.first != fin|ping || time.Since(began) != DefaultPing {
			t.Fatalf("%#x, %v after %s; want a ping after %s", f.first, err, time.Since(began), DefaultPing)
		}
		// No further one while this one is not answered, and no failure.
		<-time.After(time.Hour)
		synctest.Wait()
		if n := p.r.Buffered(); n > 0 || isClosed(c.Done()) {
			t.Fatalf("%d bytes came, the ending is %v", n, c.End())
		}
		p.frame(fin|binaryData, "hello")
		wantRead(t, c, "hello")
		p.frame(fin|pong, f.payload)
		began = time.Now()
		// The pong is looked at when nobody has read for the time of Relief, by the
		// timer's second look at the latest, unless somebody looks already.
		f, err = p.next()
		if after := time.Since(began) - DefaultPing; err != nil || f.first != fin|ping || after < 0 || after > 2*deadline.Relief {
			t.Errorf("%#x, %v after %s; want the next ping", f.first, err, time.Since(began))
		}
	})
}

// Traffic both ways needs no pings; traffic one way does, because a proxy may
// count each direction.
func TestPingDependsOnTraffic(t *testing.T) {
	for name, tt := range map[string]struct {
		send, receive bool
		pings         bool
	}{"both ways": {true, true, false}, "sending": {true, false, true}, "receiving": {false, true, true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, "?ping=10s", func(t *testing.T, p *rawPeer, c *anysock.Conn) {
				pings := 0
				done := make(chan struct{})
				go func() {
					defer close(done)
					for {
						f, err := p.next()
						if err != nil {
							return
						}
						if f.first == fin|ping {
							pings++
						}
					}
				}()
				for range 20 {
					<-time.After(3 * time.Second)
					if tt.send {
						if _, err := c.Write([]byte("x")); err != nil {
							t.Fatal(err)
						}
					}
					if tt.receive {
						p.frame(fin|binaryData, "y")
						wantRead(t, c, "y")
					}
				}
				_ = c.Abort()
				<-done
				if (pings > 0) != tt.pings {
					t.Errorf("%d pings in a minute, want some: %t", pings, tt.pings)
				}
			})
		})
	}
}

// ping=0 sends none.
func TestNoPings(t *testing.T) {
	inBubble(t, "?ping=0", func(t *testing.T, p *rawPeer, c *anysock.Conn) {
		<-time.After(24 * time.Hour)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		p.wantClose(1000)
		p.closeFrame(1000, "")
		<-c.Done()
	})
}

// With the option pong a peer from which nothing comes is lost.
func TestPongIsDemanded(t *testing.T) {
	inBubble(t, "?ping=10s&pong=20s", func(t *testing.T, p *rawPeer, c *anysock.Conn) {
		began := time.Now()
		for range 5 { // one that answers is not lost
			f, err := p.next()
			if err != nil || f.first != fin|ping {
				t.Fatalf("%#x, %v", f.first, err)
			}
			<-time.After(19 * time.Second)
			p.frame(fin|pong, f.payload)
		}
		if took := time.Since(began); took < time.Minute {
			t.Fatalf("5 pings in %s", took)
		}
		if f, err := p.next(); err != nil || f.first != fin|ping {
			t.Fatalf("%#x, %v", f.first, err)
		}
		began = time.Now()
		_, err := c.Read(make([]byte, 1))
		var e *anysock.Error
		if !errors.As(err, &e) || e.Kind != anysock.KindLost || !strings.Contains(e.Hint, "pong") || time.Since(began) != 20*time.Second {
			t.Errorf("%v after %s, want lost after 20s", err, time.Since(began))
		}
		if how := c.End().How; how != anysock.Lost {
			t.Errorf("the ending is %s", how)
		}
	})
}

// While our own program does not read, pongs are not seen either, and nothing
// is lost.
func TestPongBehindUnreadData(t *testing.T) {
	inBubble(t, "?ping=10s&pong=5s", func(t *testing.T, p *rawPeer, c *anysock.Conn) {
		go func() {
			for {
				f, err := p.next()
				if err != nil {
					return
				}
				if f.first == fin|ping {
					_, _ = p.Write(frame(fin|pong, []byte(f.payload), true))
				}
			}
		}()
		data := strings.Repeat("d", 200_000)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = p.Write(frame(fin|binaryData, []byte(data), true))
		}()
		<-time.After(time.Hour)
		if isClosed(c.Done()) {
			t.Fatalf("the ending is %v", c.End())
		}
		buf := make([]byte, len(data))
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != data {
			t.Errorf("after the pause: %v", err)
			_ = c.Abort()
		}
		<-sent
	})
}
