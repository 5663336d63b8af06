//go:build linux

package compare

// This file runs the comparisons for moments, and shows that the load generator
// finds what is wrong.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tools builds into a directory of the test's own, and skips where there is no
// C compiler.
func tools(t *testing.T) *Toolbox {
	t.Helper()
	b, err := NewToolbox(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Remove)
	if _, err := b.c(context.Background(), "load"); errors.Is(err, ErrMissing) {
		t.Skipf("the load generator is written in C: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSmoke takes one server and one relay in each language through every kind
// of work, with one short round.
func TestSmoke(t *testing.T) {
	if err := Adopt(); err != nil {
		t.Fatal(err)
	}
	cpus := processors(t)
	b := &Bench{Tools: tools(t), ServerCPUs: cpus[len(cpus)-1:], LoadCPUs: cpus[:1], AllCPUs: cpus}
	plan := Plan{Rounds: 1, Slot: 20 * time.Millisecond, Warmup: 5 * time.Millisecond}
	for _, s := range Sets() {
		t.Run(s.Name, func(t *testing.T) {
			if _, err := exec.LookPath("perf"); err != nil && s.Profile {
				t.Skip("perf(1) is not installed (Debian: linux-perf)")
			}
			s.Candidates = slices.DeleteFunc(s.Candidates, func(c Candidate) bool {
				return !slices.Contains([]string{"package net", "C epoll", "C splice", "Go io.Copy", "no relay"}, c.Name)
			})
			s.Works = slices.DeleteFunc(s.Works, func(w Work) bool { return w.Connections > 100 })
			for i := range s.Points {
				s.Points[i] /= 100
			}
			var log bytes.Buffer
			section, err := s.Run(context.Background(), b, &log, plan)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(section, "Left out") || strings.Contains(section, "NaN") {
				t.Errorf("something was left out: %s%s", log.String(), section)
			}
			for _, c := range s.Candidates {
				rows := max(len(s.Works), 1)
				if c.command == nil && len(s.Works) == 0 {
					rows = 0 // there is no server to look at
				}
				if got := strings.Count(section, "\n| "+c.Name+" |"); got != rows {
					t.Errorf("%s has %d rows, want %d:\n%s", c.Name, got, rows, section)
				}
			}
		})
	}
}

// TestLoadFindsWrongEchoes has servers that are not quite echo servers.
func TestLoadFindsWrongEchoes(t *testing.T) {
	b := tools(t)
	for name, c := range map[string]struct {
		serve func(c net.Conn, p []byte) error
		want  string
	}{
		"one bit":     {func(c net.Conn, p []byte) error { p[len(p)/2] ^= 1; return write(c, p) }, "wrong bytes"},
		"a lost byte": {func(c net.Conn, p []byte) error { return write(c, p[1:]) }, "wrong bytes"},
		"one twice":   {func(c net.Conn, p []byte) error { return write(c, append(p[:1:1], p...)) }, "251 bytes came back for 250 sent"},
		"an end":      {func(c net.Conn, p []byte) error { return errors.Join(write(c, p[:10]), io.EOF) }, "end of file after 10 bytes of 250"},
		"a reset": {func(c net.Conn, _ []byte) error {
			return errors.Join(c.(*net.TCPConn).SetLinger(0), c.Close(), io.EOF)
		}, "recv: Connection reset"},
		"none of it": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			serve := c.serve
			if serve == nil {
				serve = write
			}
			address := serveEach(t, func(c net.Conn) {
				p := make([]byte, 4096)
				for {
					n, err := c.Read(p)
					if err != nil || serve(c, p[:n]) != nil {
						return
					}
				}
			})
			err := loadOnce(t, b, address, nil, echo)
			if c.want == "" {
				if err != nil {
					t.Errorf("an echo server is refused: %v", err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestLoadFindsWrongBulk has a relay that loses one byte, long after the part in
// which every byte is looked at.
func TestLoadFindsWrongBulk(t *testing.T) {
	b := tools(t)
	for _, losing := range []bool{false, true} {
		target, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		file, err := target.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		address := serveEach(t, func(in net.Conn) {
			out, err := net.Dial("tcp4", target.Addr().String())
			if err != nil {
				return
			}
			defer out.Close()
			_ = target.Close() // the file goes on listening
			if losing {
				if _, err := io.CopyN(out, in, 64<<20); err != nil {
					return
				}
				if _, err := io.ReadFull(in, make([]byte, 1)); err != nil {
					return
				}
			}
			_, _ = io.Copy(out, in)
		})
		err = loadOnce(t, b, address, file, bulk)
		if losing && (err == nil || !strings.Contains(err.Error(), "wrong bytes")) {
			t.Errorf("a byte was lost: %v", err)
		}
		if !losing && err != nil {
			t.Errorf("nothing was lost: %v", err)
		}
	}
}

// loadOnce loads the address on one connection: once, in bulk until enough has
// passed for TestLoadFindsWrongBulk.
func loadOnce(t *testing.T, b *Toolbox, address string, target *os.File, mode string) error {
	t.Helper()
	ctx := context.Background()
	program, err := b.c(ctx, "load")
	if err != nil {
		t.Fatal(err)
	}
	l, err := startLoad(ctx, program, processors(t), address, target, mode)
	if err != nil {
		t.Fatal(err)
	}
	defer l.stop()
	if err := l.open(ctx, 1); err != nil {
		return err
	}
	const enough, tries = 128 << 20, 100
	var passed int64
	for range tries {
		r, err := l.run(ctx, 200*time.Millisecond)
		if err != nil || mode != bulk {
			return err
		}
		if passed += r.Bytes; passed >= enough {
			return nil
		}
	}
	return fmt.Errorf("only %d bytes passed", passed)
}

func write(c net.Conn, p []byte) error {
	_, err := c.Write(p)
	return err
}

// serveEach serves every connection until the test ends.
func serveEach(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		all.Wait()
	})
	return ln.Addr().String()
}
