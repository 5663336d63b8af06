package bench

// This file compares the cost of small messages: a server that echoes on
// a goroutine per connection, with Conn and with package net.

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

const (
	messageSize = 250
	echoConns   = 64
	// echoWarmup comes before a slot: stacks grow, and the kernel learns what
	// buffers it takes.
	echoWarmup = 150 * time.Millisecond
)

var slotTime = flag.Duration("slot", 500*time.Millisecond, "how long BenchmarkEcho measures each side in a pair")

// listenConfig is package net's with plain TCP, as anysock's is: Multipath TCP
// would be a difference of its own.
func listenConfig() *net.ListenConfig {
	lc := new(net.ListenConfig)
	lc.SetMultipathTCP(false)
	return lc
}

// echoNet is the server on package net.
func echoNet(announce func(net.Addr)) error {
	ln, err := listenConfig().Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	return serveEcho(ln, announce)
}

// echoConn is the server on Conn, with every option at its default.
func echoConn(announce func(net.Addr)) error {
	ln, err := anysock.Listen(context.Background(), "tcp://127.0.0.1:0")
	if err != nil {
		return err
	}
	return serveEcho(ln, announce)
}

// serveEcho is all that the two have in common.
func serveEcho(ln net.Listener, announce func(net.Addr)) error {
	announce(ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go echo(c) // ends with the client's end, or with the process
	}
}

func echo(c net.Conn) {
	defer c.Close()
	buf := make([]byte, messageSize)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// An echoClient sends a message on one connection and waits for it to come
// back, again and again. Each message differs from the one before.
type echoClient struct {
	conn  net.Conn
	sent  [messageSize]byte
	got   [messageSize]byte
	count uint64
}

func (c *echoClient) once() error {
	c.count++
	binary.BigEndian.PutUint64(c.sent[:], c.count)
	binary.BigEndian.PutUint64(c.sent[messageSize-8:], ^c.count)
	if _, err := c.conn.Write(c.sent[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.conn, c.got[:]); err != nil {
		return err
	}
	if !bytes.Equal(c.sent[:], c.got[:]) {
		return errors.New("what came back is not what was sent")
	}
	return nil
}

// echoClients are the load.
type echoClients []*echoClient

func dialEcho(addr string, n int) (clients echoClients, err error) {
	for range n {
		conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", addr)
		if err != nil {
			clients.close()
			return nil, err
		}
		c := &echoClient{conn: conn}
		for i := range c.sent {
			c.sent[i] = byte(i * 31)
		}
		clients = append(clients, c)
	}
	return clients, nil
}

func (cs echoClients) close() {
	for _, c := range cs {
		_ = c.conn.Close()
	}
}

// run keeps all connections busy for d, waits for the last echo of each, and
// returns how many there were.
func (cs echoClients) run(d time.Duration) (int, error) {
	var stop atomic.Bool
	var total atomic.Int64
	errs := make([]error, len(cs))
	var wg sync.WaitGroup
	for i, c := range cs {
		wg.Go(func() {
			before := c.count
			for !stop.Load() && errs[i] == nil {
				errs[i] = c.once()
			}
			total.Add(int64(c.count - before))
		})
	}
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	defer timer.Stop()
	wg.Wait()
	return int(total.Load()), errors.Join(errs...)
}

// echoSide is the server of that role.
func echoSide(name, role string) side {
	return side{name, func(tb testing.TB) slot {
		tb.Helper()
		w := startWorker(tb, role)
		clients, err := dialEcho(w.addr, echoConns)
		if err == nil {
			_, err = clients.run(echoWarmup)
		}
		if err != nil {
			tb.Fatal(err)
		}
		return echoSlot{w, clients}
	}}
}

// An echoSlot is one server and its clients.
type echoSlot struct {
	w       *worker
	clients echoClients
}

func (s echoSlot) slice(tb testing.TB) sample {
	tb.Helper()
	before := s.w.usage(tb)
	n, err := s.clients.run(*slotTime / slicesPerSlot)
	if err != nil {
		tb.Fatal(err)
	}
	return s.w.usage(tb).since(before, float64(n))
}

func (s echoSlot) stop() {
	s.w.stop()
	s.clients.close()
}

// BenchmarkEcho is the processor time of the server per echo of 250 bytes at
// 64 connections over loopback.
func BenchmarkEcho(b *testing.B) {
	plain := echoSide("net", "echo-net")
	for b.Loop() {
		conn := &comparison{base: plain, subject: echoSide("Conn", "echo-conn")}
		noise := &comparison{base: plain, subject: plain}
		comparePairs(b, conn, noise)
		report{
			title:  fmt.Sprintf("Echo: %d bytes, %d connections, loopback TCP", messageSize, echoConns),
			unit:   "µs per echo",
			scale:  1e6,
			allocs: true,
			target: 1.03,
			methods: fmt.Sprintf("CPU is the server process's, a new one for each slot of %v, measured in %d slices in turn;"+
				" a goroutine per connection, GOMAXPROCS as it comes.", *slotTime, slicesPerSlot),
		}.publish(b, conn, noise)
	}
}

func TestEchoServersEcho(t *testing.T) {
	for _, role := range []string{"echo-net", "echo-conn"} {
		t.Run(role, func(t *testing.T) {
			w := startWorker(t, role)
			clients, err := dialEcho(w.addr, 4)
			if err != nil {
				t.Fatal(err)
			}
			defer clients.close()
			for range 100 {
				for _, c := range clients {
					if err := c.once(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if u := w.usage(t); u.CPU <= 0 {
				t.Errorf("the worker used %v of CPU", u.CPU)
			}
		})
	}
}

// Read and Write of a Conn allocate nothing, waiting or not.
func TestReadAndWriteAllocateNothing(t *testing.T) {
	ctx := context.Background()
	ln, err := anysock.Listen(ctx, "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := anysock.Dial(ctx, "tcp://"+ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Abort()
	server, err := ln.AcceptContext(ctx)
	if err != nil {
		t.Fatal(err)
	}
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		echo(server)
	}()
	p := make([]byte, messageSize)
	allocs := testing.AllocsPerRun(2000, func() {
		if _, err := client.Write(p); err != nil {
			t.Error(err)
		}
		for n := 0; n < len(p); {
			m, err := client.Read(p[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per echo, both ends together; want none", allocs)
	}
	if err := client.CloseWrite(); err != nil {
		t.Error(err)
	}
	<-echoed
	client.Close()
	if _, err := anysock.Wait(ctx); err != nil {
		t.Error(err)
	}
}
