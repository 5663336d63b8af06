package ws

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/deadline"
)

// However frames and the bytes of them are cut, whatever the sizes of the
// reads, and whoever looks at what comes when a deadline passes: every byte
// comes once and in order, and every ping is answered.
func TestFramesInPieces(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, "?ping=0", func(t *testing.T, p *rawPeer, c *anysock.Conn) {
				r := rand.New(rand.NewPCG(seed, 1))
				data, wire, pings := manyFrames(r)
				go func() {
					for len(wire) > 0 {
						n := min(len(wire), 1+r.IntN(1<<r.IntN(15)))
						if _, err := p.Write(wire[:n]); err != nil {
							t.Error(err)
							return
						}
						wire = wire[n:]
						if r.IntN(4) == 0 {
							<-time.After(time.Duration(r.IntN(30)) * time.Millisecond)
						}
					}
				}()
				pongs := make(chan int, 1)
				go func() {
					n := 0
					for {
						f, err := p.next()
						if err != nil || f.first != fin|pong {
							pongs <- n
							return
						}
						n++
					}
				}()
				got := readInPieces(t, c, rand.New(rand.NewPCG(seed, 2)))
				if !bytes.Equal(got, data) {
					t.Errorf("%d bytes came of %d, or others", len(got), len(data))
				}
				if n := <-pongs; n != pings {
					t.Errorf("%d pongs for %d pings", n, pings)
				}
			})
		})
	}
}

// manyFrames is messages of all sizes in frames of all sizes, with control
// frames in between, and a close frame.
func manyFrames(r *rand.Rand) (data, wire []byte, pings int) {
	for range 60 {
		for first := byte(binaryData); ; first = continuation {
			payload := make([]byte, r.IntN(1<<r.IntN(17)))
			for i := range payload {
				payload[i] = byte(r.Uint32())
			}
			data = append(data, payload...)
			last := r.IntN(2) == 0
			if last {
				first |= fin
			}
			wire = append(wire, frame(first, payload, true)...)
			switch r.IntN(6) {
			case 0:
				wire = append(wire, frame(fin|ping, make([]byte, r.IntN(126)), true)...)
				pings++
			case 1:
				wire = append(wire, frame(fin|pong, nil, true)...)
			}
			if last {
				break
			}
		}
	}
	return data, append(wire, closeFrame(1000, "", true)...), pings
}

// readInPieces reads to the end, with buffers of all sizes, deadlines that pass,
// and pauses in which nobody reads.
func readInPieces(t *testing.T, c *anysock.Conn, r *rand.Rand) (got []byte) {
	for {
		if r.IntN(3) == 0 {
			<-time.After(time.Duration(r.IntN(3)) * deadline.Relief)
		}
		until := time.Time{}
		if r.IntN(2) == 0 {
			until = time.Now().Add(time.Duration(r.IntN(20)) * time.Millisecond)
		}
		if err := c.SetReadDeadline(until); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1+r.IntN(1<<r.IntN(18)))
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		clear(buf) // it is ours again
		switch {
		case errors.Is(err, io.EOF):
			return got
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatal(err)
		}
	}
}

// What has come of a frame is not kept back until the rest is there.
func TestPartOfAFrame(t *testing.T) {
	for _, pause := range []time.Duration{0, 2 * deadline.Relief} {
		inBubble(t, "", func(t *testing.T, p *rawPeer, c *anysock.Conn) {
			<-time.After(pause) // with it, the goroutine has begun
			whole := frame(fin|binaryData, bytes.Repeat([]byte("w"), 5000), true)
			for _, n := range []int{8 + 1000, 3000, 1000} {
				p.send(string(whole[:n]))
				whole = whole[n:]
				buf := make([]byte, 4<<10)
				want := n
				if n == 8+1000 {
					want = 1000
				}
				if n, err := io.ReadFull(c, buf[:want]); err != nil || string(buf[:n]) != string(bytes.Repeat([]byte("w"), want)) {
					t.Fatalf("%q, %v", buf[:n], err)
				}
			}
		})
	}
}

// Unread counts what is here, whoever has read it in.
func TestUnread(t *testing.T) {
	inBubble(t, "", func(t *testing.T, p *rawPeer, c *anysock.Conn) {
		p.frame(fin|binaryData, "0123456789")
		wantRead(t, c, "0")
		if n, err := c.Unread(); n != 9 || err != nil {
			t.Errorf("behind a short read: %d, %v", n, err)
		}
		<-time.After(2 * deadline.Relief)
		p.frame(fin|binaryData, "abc")
		synctest.Wait()
		if n, err := c.Unread(); n != 12 || err != nil {
			t.Errorf("without a reader: %d, %v", n, err)
		}
		wantRead(t, c, "123456789abc")
		if n, err := c.Unread(); n != 0 || err != nil {
			t.Errorf("at last: %d, %v", n, err)
		}
	})
}
