// This file tests that endings pass through the server as they are, that a
// drain loses nothing, and what records say.

package proxy

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/printable"
	"github.com/anysock/anysock/relay"
)

// The reply that comes after the client's end is kept, however late it is.
func TestHalfCloseWithLateReply(t *testing.T) {
	to := newTarget(t, "127.0.0.1", func(c *anysock.Conn) {
		got, err := io.ReadAll(c)
		if err != nil || string(got) != "request" {
			t.Errorf("the target read %q, %v", got, err)
		}
		<-time.After(50 * time.Millisecond)
		_, _ = c.Write([]byte("late reply"))
		_, _ = c.Disconnect(context.Background())
	})
	st := newStation(t, &Server{})
	c := st.through(at(to))
	say(t, c, "request", 0)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, c); got != "late reply" {
		t.Errorf("got %q", got)
	}
	c.Close()
	if r := st.record(); r.How != anysock.Graceful || r.By != relay.Inbound {
		t.Errorf("%v", r)
	}
}

// A reset stays a reset, both ways.
func TestAbortsPassThrough(t *testing.T) {
	heard := make(chan error, 1)
	to := newTarget(t, "127.0.0.1", func(c *anysock.Conn) {
		var b [8]byte
		n, _ := io.ReadFull(c, b[:5])
		if string(b[:n]) == "abort" {
			_, _ = c.Write([]byte("part"))
			_ = c.Abort()
			return
		}
		_, err := io.ReadAll(c)
		heard <- err
	})
	st := newStation(t, &Server{})
	c := st.through(at(to))
	say(t, c, "abort", 0)
	wantReset(t, c)
	if r := st.record(); r.How != anysock.AbortedByPeer || r.By != relay.Outbound {
		t.Errorf("%v", r)
	}
	c = st.through(at(to))
	say(t, c, "hello", 0)
	until(t, "the target has it", func() bool { return st.Stats().ToOutbound == 10 })
	_ = c.Abort()
	var e *anysock.Error
	if err := <-heard; !errors.As(err, &e) || e.Kind != anysock.KindReset {
		t.Errorf("the target heard %v", err)
	}
	if r := st.record(); r.How != anysock.AbortedByPeer || r.By != relay.Inbound {
		t.Errorf("%v", r)
	}
}

// A client that leaves while the target is dialed ends the dialing.
func TestClientLeavesWhileDialing(t *testing.T) {
	full := fullPort(t)
	st := newStation(t, &Server{Handshake: time.Minute})
	c := st.dial()
	say(t, c, socks5(commandConnect, at(full)), 0)
	var b [2]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		t.Fatal(err)
	}
	_ = c.Abort()
	start := time.Now()
	r := st.record()
	if !errors.Is(r.Err, relay.ErrClientLeft) || r.By != relay.Inbound || r.How != anysock.AbortedByPeer {
		t.Errorf("%v", r)
	}
	if took := time.Since(start); took > patience/2 {
		t.Errorf("noticed after %v", took)
	}
}

// Shutdown takes what waits, lets what runs finish, and turns newcomers away.
func TestShutdownFinishes(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	st := newStation(t, &Server{Handshakes: 1})
	running := st.through(at(to))
	holder := st.dial() // takes the place of the handshake
	say(t, holder, "\x05", 0)
	until(t, "it is accepted", func() bool { return st.Stats().Accepted == 2 })
	queued := st.dial()
	say(t, queued, socks5(commandConnect, at(to))+"queued", 0)

	type result struct {
		d   relay.Drained
		err error
	}
	done := make(chan result, 1)
	go func() {
		d, err := st.Shutdown(context.Background())
		done <- result{d, err}
	}()
	if r, _ := answer5(t, queued); r != replySucceeded {
		t.Errorf("one that waited: %v", r)
	}
	readExactly(t, queued, "queued")
	say(t, running, "hello", 0)
	readExactly(t, running, "hello")
	for _, c := range []*anysock.Conn{running, queued} {
		_ = c.CloseWrite()
		readAll(t, c)
	}
	_ = holder.Abort()
	r := <-done
	if r.err != nil || r.d.Queued != 1 || r.d.Finished != 3 || r.d.Cut != 0 {
		t.Errorf("%+v", r)
	}
	if len(st.records) != 3 {
		t.Errorf("%d records", len(st.records))
	}
	if c, err := anysock.Dial(context.Background(), "tcp://"+st.addr); err == nil {
		c.Abort()
		t.Error("a newcomer was accepted")
	}
}

// What still runs at the deadline is reset, in whatever state it is.
func TestShutdownCuts(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	full := fullPort(t)
	s := &Server{Drain: 100 * time.Millisecond, Handshake: time.Minute, Rules: *rulesOf(t, "allow command=bind", "default allow")}
	st := newStation(t, s)
	joined := st.through(at(to))
	silent, dialing, binding := st.dial(), st.dial(), st.dial()
	say(t, dialing, socks5(commandConnect, at(full)), 0)
	say(t, binding, socks5(commandBind, endpoint{}), 0)
	if r, _ := answer5(t, binding); r != replySucceeded {
		t.Fatal(r)
	}
	say(t, silent, "\x05\x01", 0)
	var b [2]byte
	if _, err := io.ReadFull(dialing, b[:]); err != nil {
		t.Fatal(err)
	}
	until(t, "all are there", func() bool { return st.Stats().Active == 4 })
	d, err := st.Shutdown(context.Background())
	if err != nil || d.Cut != 4 {
		t.Errorf("%+v, %v", d, err)
	}
	for _, c := range []*anysock.Conn{joined, silent, dialing, binding} {
		wantReset(t, c)
	}
	for range 4 {
		if r := st.record(); r.How != anysock.AbortedByUs || !errors.Is(r.Err, relay.ErrDrainDeadline) {
			t.Errorf("%v", r)
		}
	}
}

func TestIdleConnection(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	st := newStation(t, &Server{Options: relay.Options{Idle: 100 * time.Millisecond}})
	c := st.through(at(to))
	wantReset(t, c)
	if r := st.record(); r.How != anysock.Idle {
		t.Errorf("%v", r)
	}
}

// Logins, right and wrong, in each protocol.
func TestLogins(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	users := someUsers(t, "alice:"+hashOf(t, "s3cret"), "bob:"+hashOf(t, "b:ob"))
	st := newStation(t, &Server{Users: users, Rules: *rulesOf(t, "deny user=bob to=127.0.0.2", "allow all")})
	password := func(user, pass string) string {
		return string(appendPassword(appendGreeting5(nil, methodNone, methodPassword), user, pass)) + string(appendRequest5(nil, commandConnect, at(to)))
	}
	basic := func(text string) string {
		return string(appendConnect(nil, at(to), []field{{"Proxy-Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(text))}}))
	}
	const good5 = "\x05\x02\x01\x00\x05\x00\x00\x01"
	for _, c := range []struct {
		name, say, want string
		user, claimed   string
		code            int
	}{
		{"socks5", password("alice", "s3cret"), good5, "alice", "", 0},
		{"socks5 colon", password("bob", "b:ob"), good5, "bob", "", 0},
		{"socks5 wrong", password("alice", "secret"), "\x05\x02\x01\x01", "", "alice", 1},
		{"socks5 unknown", password("mallory", "s3cret"), "\x05\x02\x01\x01", "", "mallory", 1},
		{"socks5 empty", password("", ""), "\x05\x02\x01\x01", "", "", 1},
		{"socks5 none", socks5(commandConnect, at(to)), "\x05\xff", "", "", 255},
		{"socks5 bad version", "\x05\x01\x02\x05\x05alice\x06s3cret", "\x05\x02\x01\x01", "", "", 1},
		{"socks4", socks4(commandConnect, at(to)), failed4, "", "who", 91},
		{"http", basic("alice:s3cret"), "HTTP/1.1 200 ", "alice", "", 200},
		{"http colon", basic("bob:b:ob"), "HTTP/1.1 200 ", "bob", "", 200},
		{"http wrong", basic("alice:secret"), "HTTP/1.1 407 ", "", "alice", 407},
		{"http unknown", basic("mallory:s3cret"), "HTTP/1.1 407 ", "", "mallory", 407},
		{"http none", httpConnect(at(to)), "HTTP/1.1 407 ", "", "", 407},
		{"http no colon", basic("alice"), "HTTP/1.1 400 ", "", "", 400},
		{"http no base64", "CONNECT a:1 HTTP/1.1\r\nProxy-Authorization: Basic !!!\r\n\r\n", "HTTP/1.1 400 ", "", "", 400},
		{"http digest", "CONNECT a:1 HTTP/1.1\r\nProxy-Authorization: Digest x\r\n\r\n", "HTTP/1.1 407 ", "", "", 407},
		// A stranger does not learn what is wrong with the target.
		{"http nonsense", "CONNECT nonsense HTTP/1.1\r\n\r\n", "HTTP/1.1 407 ", "", "", 407},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := st.dial()
			say(t, conn, c.say, 0)
			_ = conn.CloseWrite()
			got := readAll(t, conn)
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("answered with %q, want %q", got, c.want)
			}
			if c.code == 407 && !strings.Contains(got, "Proxy-Authenticate: Basic realm=") {
				t.Errorf("no challenge in %q", got)
			}
			conn.Close()
			r := st.record()
			if r.User != c.user || r.Claimed != c.claimed || r.Reply == nil || r.Reply.Code != c.code {
				t.Errorf("%v: user %q, claimed %q, reply %+v", r, r.User, r.Claimed, r.Reply)
			}
			for _, text := range []string{r.String(), fmt.Sprint(r.LogValue()), jsonOf(t, r), got} {
				if strings.Contains(text, "s3cret") || strings.Contains(text, "b:ob") {
					t.Errorf("a password in %q", text)
				}
			}
		})
	}
}

func jsonOf(t testing.TB, r Record) string {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What clients say of themselves cannot forge a line of a log.
func TestLogInjection(t *testing.T) {
	st := newStation(t, &Server{Rules: Rules{Default: PolicyDeny}})
	evil := "x\n2026 forged: \x1b[2J\u202e\xff\x7f"
	for _, request := range []string{
		"\x04\x01\x00\x50\x7f\x00\x00\x01" + evil + "\x00",
		"\x04\x01\x00\x50\x00\x00\x00\x01" + "u\x00" + evil + "\x00",
		greet5 + "\x05\x01\x00\x03" + string(rune(len(evil))) + evil + "\x00\x50",
		"CONNECT " + strings.ReplaceAll(evil, "\n", "\r") + " HTTP/1.1\r\n\r\n",
		"EVIL" + strings.ReplaceAll(evil, "\n", "") + " x HTTP/1.1\r\n\r\n",
		"CONNECT a:1 " + strings.ReplaceAll(evil, "\n", "") + "\r\n\r\n",
	} {
		c := st.dial()
		say(t, c, request, 0)
		_ = c.CloseWrite()
		readAll(t, c)
		c.Close()
		r := st.record()
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("end", "connection", r)
		for _, text := range []string{r.String(), strings.TrimSuffix(log.String(), "\n"), jsonOf(t, r), r.Err.Error()} {
			// JSON escapes what could end a line; the command escapes the rest.
			isJSON := strings.HasPrefix(text, "{")
			if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || !isJSON && !printable.Is(c) }) {
				t.Errorf("%q", text)
			}
		}
		if strings.Contains(log.String(), "\n2026") {
			t.Errorf("a forged line: %q", log.String())
		}
	}
}

// Nor can a record that somebody else has filled in.
func TestForgedRecord(t *testing.T) {
	evil := "a\nb\x1b[2J\u202e\xff"
	r := Record{Record: relay.Record{Target: evil}, Protocol: evil, Command: evil, User: evil, Reply: &Reply{Text: evil}}
	for _, text := range []string{r.String(), fmt.Sprint(r.LogValue())} {
		if strings.ContainsFunc(text, func(c rune) bool { return !printable.Is(c) }) {
			t.Errorf("%q", text)
		}
	}
	if got := printable.Text(`a "quoted" \ text`); got != `a "quoted" \ text` {
		t.Errorf("%q was changed", got)
	}
}

// The names of the JSON fields are for programs.
func TestRecordJSON(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	st := newStation(t, &Server{Users: someUsers(t, "alice:"+hashOf(t, "x"))})
	c := st.dial()
	say(t, c, string(appendPassword(appendGreeting5(nil, methodPassword), "alice", "x"))+string(appendRequest5(nil, commandConnect, at(to)))+"hello", 0)
	_ = c.CloseWrite()
	readAll(t, c)
	c.Close()
	var got map[string]any
	if err := json.Unmarshal([]byte(jsonOf(t, st.record())), &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"protocol": "socks5", "command": "CONNECT", "user": "alice", "how": "graceful", "by": "inbound", "target": to.String()} {
		if got[key] != want {
			t.Errorf("%s is %v, want %s", key, got[key], want)
		}
	}
	for _, key := range []string{"reply", "inbound", "outbound", "to_outbound", "to_inbound", "accepted", "connected", "done", "seconds"} {
		if got[key] == nil {
			t.Errorf("no %s", key)
		}
	}
	if reply, _ := got["reply"].(map[string]any); reply["code"] != 0.0 || reply["text"] != "succeeded" {
		t.Errorf("reply %v", got["reply"])
	}
	attrs := Record{Protocol: "socks5", Reply: &Reply{Code: 5}}.LogValue().Group()
	if !slices.ContainsFunc(attrs, func(a slog.Attr) bool { return a.Key == "reply" && a.Value.Int64() == 5 }) || !slices.ContainsFunc(attrs, func(a slog.Attr) bool { return a.Key == "how" }) {
		t.Errorf("%v", attrs)
	}
}
