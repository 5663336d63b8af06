package anysock_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testproc"
)

// This file runs a server that is really out of descriptors, in a process of
// its own.

// fewDescriptors is what the child's limit is lowered to.
const fewDescriptors = 20

// exhaustion is what the child has to say.
type exhaustion struct {
	Accepted int           // connections before descriptors ran out
	Failures int64         // accepts that failed
	Shed     int64         // clients that were reset
	CPU      time.Duration // used while being exhausted
	Over     time.Duration // for so long
}

func init() { testproc.Role("few-descriptors", serveWithFewDescriptors) }

func cpuTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// serveWithFewDescriptors accepts and keeps connections until there is no
// descriptor left, says how that went, and serves everybody when told to.
func serveWithFewDescriptors() int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx := context.Background()
	ln, err := anysock.Listen(ctx, os.Getenv("LISTEN"))
	if err != nil {
		return fail(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: fewDescriptors, Max: fewDescriptors}); err != nil {
		return fail(err)
	}
	accepted := make(chan *anysock.Conn, 1000)
	failed := make(chan error, 1)
	go func() {
		for c, err := range ln.Conns(ctx) {
			if err != nil {
				failed <- err
				return
			}
			accepted <- c
		}
	}()
	fmt.Println(urlOf(ln))
	stdin := bufio.NewScanner(os.Stdin)
	stdin.Scan() // everybody has connected
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if n, _ := ln.Exhausted(); n >= 3 {
			break
		}
	}
	start, used := time.Now(), cpuTime()
	<-time.After(600 * time.Millisecond)
	var x exhaustion
	x.CPU, x.Over = cpuTime()-used, time.Since(start)
	x.Accepted = len(accepted)
	x.Failures, x.Shed = ln.Exhausted()
	b, err := json.Marshal(x)
	if err != nil {
		return fail(err)
	}
	fmt.Println(string(b))

	clients, err := strconv.Atoi(os.Getenv("CLIENTS"))
	if err != nil {
		return fail(err)
	}
	stdin.Scan()
	for range clients {
		select {
		case c := <-accepted:
			if _, err := c.Write([]byte("hello")); err != nil {
				return fail(err)
			}
			if err := c.Close(); err != nil {
				return fail(err)
			}
		case err := <-failed:
			return fail(err)
		}
	}
	if ends, err := anysock.Wait(ctx); err != nil {
		return fail(fmt.Errorf("%w %v", err, ends))
	}
	fmt.Println("all served")
	return 0
}

// TestServerOutOfDescriptors: a server with 20 descriptors and 60 clients
// stays alive and idle, and serves all of them as descriptors come free.
func TestServerOutOfDescriptors(t *testing.T) {
	for _, listen := range []string{"tcp://127.0.0.1:0", "unix:" + t.TempDir() + "/s"} {
		network, _, _ := strings.Cut(listen, ":")
		t.Run(network, func(t *testing.T) {
			const clients = 60
			server := testproc.Start(t, "few-descriptors", "LISTEN="+listen, "CLIENTS="+strconv.Itoa(clients))
			addr := server.Line()
			var cs []*anysock.Conn
			for range clients {
				cs = append(cs, mustDial(t, &anysock.Dialer{}, addr))
			}
			server.Tell("all are there")
			var x exhaustion
			must(t, "the report", json.Unmarshal([]byte(server.Line()), &x))
			t.Logf("%+v", x)
			if x.Accepted == 0 || x.Accepted >= fewDescriptors {
				t.Errorf("accepted %d connections with %d descriptors", x.Accepted, fewDescriptors)
			}
			if x.CPU > x.Over/4 {
				t.Errorf("used %s of CPU in %s without a descriptor: it spins", x.CPU, x.Over)
			}
			if x.Shed != 0 {
				t.Errorf("%d clients were reset, before %s had passed", x.Shed, anysock.DefaultShedAfter)
			}
			server.Tell("go on")
			var wg sync.WaitGroup
			for _, c := range cs {
				wg.Go(func() {
					c.SetReadDeadline(time.Now().Add(tooLong))
					b, err := io.ReadAll(c)
					if string(b) != "hello" || err != nil {
						t.Errorf("a client read %q, %v", b, err)
					}
					if _, err := c.Disconnect(soon(t)); err != nil {
						t.Errorf("disconnect: %v", err)
					}
				})
			}
			wg.Wait()
			if s := server.Line(); s != "all served" {
				t.Errorf("the server says %q", s)
			}
		})
	}
}
