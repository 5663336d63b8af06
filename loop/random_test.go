package loop_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

// A plan is what one connection of a random run does. The client sends it
// ahead, so that both sides know.
type plan struct {
	order    uint8 // see the constants
	up, down uint32
	seed     uint64
	step     uint32 // bytes written or read at once
}

// The orders of ending.
const (
	clientEndsFirst uint8 = iota // up, end, down, end
	serverEndsFirst              // down, end, up, end
	bothAtOnce                   // each sends and ends, whatever the other does
	clientAborts                 // in the middle of up
	serverAborts                 // in the middle of down
	orders
)

const planSize = 21

func (p plan) bytes() []byte {
	b := []byte{p.order}
	b = binary.BigEndian.AppendUint32(b, p.up)
	b = binary.BigEndian.AppendUint32(b, p.down)
	b = binary.BigEndian.AppendUint64(b, p.seed)
	return binary.BigEndian.AppendUint32(b, p.step)
}

func parsePlan(b []byte) plan {
	return plan{b[0], binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint32(b[5:]), binary.BigEndian.Uint64(b[9:]), binary.BigEndian.Uint32(b[17:])}
}

func randomPlan(r *rand.Rand) plan {
	size := func() uint32 {
		switch r.IntN(4) {
		case 0:
			return r.Uint32N(2)
		case 1:
			return r.Uint32N(1000)
		case 2:
			return r.Uint32N(100_000)
		}
		return r.Uint32N(600_000)
	}
	return plan{uint8(r.UintN(uint(orders))), size(), size(), r.Uint64(), 1 + r.Uint32N(200_000)}
}

// message is the bytes of one direction, made as they are needed.
func message(seed uint64, size uint32) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), byte(seed >> 32)})
	_, _ = r.Read(b) // it cannot fail
	return b
}

func sum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// said is what one side found out, and which ending it is to have.
type said struct {
	sum  uint32 // of what it read
	n    int
	read error // nil: the peer's end was read
}

// sendAll writes b in pieces; the error is the first.
func sendAll(w io.Writer, b []byte, step uint32) error {
	for len(b) > 0 {
		n, err := w.Write(b[:min(len(b), int(step))])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func hear(r io.Reader, step uint32) said {
	b, err := readAll(r, int(step))
	return said{sum(b), len(b), err}
}

// play is one side of the plan, for code that does one thing at a time: nobody
// sends while the other does.
func play(s side, p plan, server bool) said {
	mine, order := message(p.seed, p.up), p.order
	if server {
		mine = message(p.seed+1, p.down)
	}
	switch {
	case order == clientAborts && !server || order == serverAborts && server:
		_ = sendAll(s, mine[:len(mine)/2], p.step)
		_ = s.Abort()
		return said{}
	case order == clientEndsFirst && server || order == serverEndsFirst && !server || order == clientAborts:
		got := hear(s, p.step)
		if got.read == nil {
			got.read = sendAll(s, mine, p.step)
		}
		if got.read == nil {
			got.read = s.CloseWrite()
		}
		return got
	}
	if err := sendAll(s, mine, p.step); err != nil {
		return said{read: err}
	}
	if err := s.CloseWrite(); err != nil {
		return said{read: err}
	}
	return hear(s, p.step)
}

// judge says what is wrong with what a side found out.
func (p plan) judge(got said, server bool, end anysock.End, network string) error {
	theirs := message(p.seed+1, p.down)
	if server {
		theirs = message(p.seed, p.up)
	}
	aborter := p.order == clientAborts && !server || p.order == serverAborts && server
	aborted := p.order == clientAborts && server || p.order == serverAborts && !server
	switch {
	case aborter && end.How == anysock.AbortedByUs:
		return nil
	case aborted && network == "unix":
		return nil // it may see an end, or a reset for what it had sent
	case aborted && end.How == anysock.AbortedByPeer && got.read != nil:
		return nil
	case aborter || aborted:
		return fmt.Errorf("read %d bytes, %w; the ending: %q", got.n, got.read, end)
	case got.read != nil:
		return fmt.Errorf("after %d bytes of %d: %w; the ending: %q", got.n, len(theirs), got.read, end)
	case got.n != len(theirs) || got.sum != sum(theirs):
		return fmt.Errorf("%d bytes of %d, checksum %08x for %08x", got.n, len(theirs), got.sum, sum(theirs))
	case end.How != anysock.Graceful:
		return fmt.Errorf("the ending: %q, %w", end, end.Err)
	}
	return nil
}

// bothAtOnce needs somebody who reads while both write: the sides that can do
// two things at once do.
func playBoth(s side, p plan, server bool) said {
	if p.order != bothAtOnce {
		return play(s, p, server)
	}
	mine := message(p.seed, p.up)
	if server {
		mine = message(p.seed+1, p.down)
	}
	heard := make(chan said, 1)
	go func() { heard <- hear(s, p.step) }()
	err := sendAll(s, mine, p.step)
	if err == nil {
		err = s.CloseWrite()
	}
	got := <-heard
	if got.read == nil {
		got.read = err
	}
	return got
}

// A random run: many clients, messages of all sizes in pieces of all sizes, every
// order of ending, aborts in the middle. Nothing may be lost or invented, and
// both sides have to say how it ended.
func TestRandom(t *testing.T) {
	const clients = 8
	connections := 200
	if testing.Short() {
		connections = 80
	}
	for _, network := range networks {
		for _, kind := range []string{"callbacks", "coroutine"} {
			t.Run(network+"/"+kind, func(t *testing.T) {
				wrong := func(p plan, who string, err error) { t.Errorf("%s, plan %+v: %v", who, p, err) }
				var mu sync.Mutex
				found := map[any]said{} // by connection
				plans := map[any]plan{}
				var players sync.WaitGroup
				t.Cleanup(players.Wait)
				h := loop.Handler{Serve: func(s *loop.Stream) error {
					b := make([]byte, planSize)
					if _, err := io.ReadFull(s, b); err != nil {
						return err
					}
					p := parsePlan(b)
					got := play(pausing{s}, p, true)
					mu.Lock()
					found[s.Conn()], plans[s.Conn()] = got, p
					mu.Unlock()
					return nil
				}}
				if kind == "callbacks" {
					h = blockingHandler(func(b *blocking) {
						players.Go(func() {
							head := make([]byte, planSize)
							if _, err := io.ReadFull(b, head); err != nil {
								_ = b.Close()
								return
							}
							p := parsePlan(head)
							got := playBoth(b, p, true)
							mu.Lock()
							found[b.c], plans[b.c] = got, p
							mu.Unlock()
							_ = b.Close()
						})
					})
				}
				type ended struct {
					c   *loop.Conn
					end anysock.End
				}
				var ends []ended
				told := h.Ended
				h.Ended = func(c *loop.Conn, end anysock.End) {
					if told != nil {
						told(c, end)
					}
					mu.Lock()
					ends = append(ends, ended{c, end})
					mu.Unlock()
				}
				srv := &loop.Server{Loops: 2, Handler: h}
				r := serve(t, network, "", srv)
				var left atomic.Int64
				left.Store(int64(connections))
				var all sync.WaitGroup
				for seed := range uint64(clients) {
					all.Go(func() {
						rnd := rand.New(rand.NewPCG(seed, 4711))
						for left.Add(-1) >= 0 {
							p := randomPlan(rnd)
							if p.order == bothAtOnce && kind == "coroutine" {
								// Its server writes first: this side has to read.
								p.order = clientEndsFirst
							}
							c, err := anysock.Dial(r.ctx, r.addr)
							if err != nil {
								t.Error(err)
								return
							}
							_, err = c.Write(p.bytes())
							got := said{read: err}
							if err == nil && (p.order == serverAborts || p.order == clientAborts) {
								got = playAborted(c, p)
							} else if err == nil {
								got = playBoth(c, p, false)
							}
							end, derr := c.Disconnect(r.ctx)
							if derr != nil && !errors.Is(derr, end.Err) && end.How == anysock.NotEnded {
								wrong(p, "client", derr)
							}
							if err := p.judge(got, false, end, network); err != nil {
								wrong(p, "client", err)
							}
						}
					})
				}
				all.Wait()
				settle(t, "all have ended", func() bool { return srv.Stats().Active == 0 })
				players.Wait()
				mu.Lock()
				defer mu.Unlock()
				seen := map[*loop.Conn]bool{}
				for _, e := range ends {
					if seen[e.c] {
						t.Errorf("a second ending: %q", e.end)
					}
					seen[e.c] = true
					p, ok := plans[e.c]
					if !ok { // a reset came before the plan was read
						if e.end.How != anysock.AbortedByPeer && network != "unix" {
							t.Errorf("server, without a plan: %q", e.end)
						}
						continue
					}
					if err := p.judge(found[e.c], true, e.end, network); err != nil {
						wrong(p, "server", err)
					}
				}
				if len(ends) != connections {
					t.Errorf("%d endings of %d connections", len(ends), connections)
				}
			})
		}
	}
}

// playAborted is the client's side of an abort: it sends while it reads, so that
// nobody waits for anybody.
func playAborted(c *anysock.Conn, p plan) said {
	mine := message(p.seed, p.up)
	if p.order == clientAborts {
		_ = sendAll(c, mine[:len(mine)/2], p.step)
		_ = c.Abort()
		return said{}
	}
	sent := make(chan error, 1)
	go func() { sent <- sendAll(c, mine, p.step) }()
	got := hear(c, p.step)
	err := <-sent
	if got.read == nil {
		got.read = err
	}
	return got
}
