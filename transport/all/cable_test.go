package all_test

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// A cable stands between a client and a listener, below every layer. Cut, it
// ends both halves without anybody's goodbye: with a FIN where there is one,
// with silence where there is none.
type cable interface {
	// at is the address to dial instead of the listener's.
	at() string
	cut()
}

// lay lays a cable of a kind to an address.
func lay(t *testing.T, kind, to string) cable {
	t.Helper()
	if kind == "udp" {
		return layPackets(t, to)
	}
	return layStreams(t, kind, to)
}

// A streamCable is for carriers on tcp or unix.
type streamCable struct {
	network, to string
	ln          net.Listener
	wg          sync.WaitGroup

	mu    sync.Mutex
	ends  []net.Conn
	isCut bool
}

func layStreams(t *testing.T, network, to string) *streamCable {
	t.Helper()
	where := "127.0.0.1:0"
	if network == "unix" {
		where = filepath.Join(t.TempDir(), "c")
	}
	ln, err := net.Listen(network, where)
	if err != nil {
		t.Fatal(err)
	}
	c := &streamCable{network: network, to: to, ln: ln}
	c.wg.Go(c.run)
	t.Cleanup(func() {
		ln.Close()
		c.mu.Lock()
		for _, end := range c.ends {
			end.Close()
		}
		c.mu.Unlock()
		c.wg.Wait()
	})
	return c
}

func (c *streamCable) at() string { return c.ln.Addr().String() }

func (c *streamCable) run() {
	for {
		near, err := c.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial(c.network, c.to)
		if err != nil {
			near.Close()
			continue
		}
		c.mu.Lock()
		c.ends = append(c.ends, near, far)
		c.mu.Unlock()
		c.wg.Go(func() { c.carry(near, far) })
		c.wg.Go(func() { c.carry(far, near) })
	}
}

// carry copies one direction. After a cut what comes is taken and thrown away,
// so that nobody's kernel turns it into a reset.
func (c *streamCable) carry(from, to net.Conn) {
	p := make([]byte, 64<<10)
	for {
		n, err := from.Read(p)
		c.mu.Lock()
		cut := c.isCut
		c.mu.Unlock()
		switch {
		case errors.Is(err, io.EOF) && !cut:
			to.(interface{ CloseWrite() error }).CloseWrite()
			return
		case err != nil:
			if !cut {
				to.Close()
			}
			return
		case !cut:
			if _, err := to.Write(p[:n]); err != nil {
				from.Close()
				return
			}
		}
	}
}

func (c *streamCable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	for _, end := range c.ends {
		end.(interface{ CloseWrite() error }).CloseWrite()
	}
}

// A packetCable is for quic; it has one client.
type packetCable struct {
	near, far *net.UDPConn
	wg        sync.WaitGroup

	mu     sync.Mutex
	client *net.UDPAddr
	isCut  bool
}

func layPackets(t *testing.T, to string) *packetCable {
	t.Helper()
	dst, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	near, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	far, err := net.DialUDP("udp", nil, dst)
	if err != nil {
		t.Fatal(err)
	}
	c := &packetCable{near: near, far: far}
	c.wg.Go(c.out)
	c.wg.Go(c.back)
	t.Cleanup(func() {
		near.Close()
		far.Close()
		c.wg.Wait()
	})
	return c
}

func (c *packetCable) at() string { return c.near.LocalAddr().String() }

func (c *packetCable) out() {
	p := make([]byte, 64<<10)
	for {
		n, from, err := c.near.ReadFromUDP(p)
		if err != nil {
			return
		}
		c.mu.Lock()
		c.client = from
		cut := c.isCut
		c.mu.Unlock()
		if !cut {
			_, _ = c.far.Write(p[:n]) // a packet may be lost
		}
	}
}

func (c *packetCable) back() {
	p := make([]byte, 64<<10)
	for {
		n, err := c.far.Read(p)
		if err != nil {
			if c.closed() {
				return
			}
			continue // nobody listens there now
		}
		c.mu.Lock()
		to, cut := c.client, c.isCut
		c.mu.Unlock()
		if !cut && to != nil {
			_, _ = c.near.WriteToUDP(p[:n], to)
		}
	}
}

// closed reports whether the test is over.
func (c *packetCable) closed() bool {
	_, err := c.far.SyscallConn()
	return err != nil || c.near.SetReadBuffer(1<<16) != nil
}

func (c *packetCable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
}
