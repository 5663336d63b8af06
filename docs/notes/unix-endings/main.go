//go:build linux

// unix-endings: what differs on unix stream sockets.
//
// SIOCOUTQ is the memory of what the peer has not read, overhead included; so it falls when the peer's
// program reads, and there is no acknowledgement by a kernel. There is no abort: closing with linger 0 is
// an end of file. Closing with unread data gives the peer ECONNRESET, after all that was queued for it.
// A connect to a full backlog is EAGAIN and the listener lives; to a file nobody listens on, ECONNREFUSED.
// The mode that fchmod gives the descriptor before bind becomes the mode of the file, under the umask;
// the file is never there with any other mode.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("unix-endings", run) }

func run(r *fact.Report) {
	memory(r)
	endings(r)
	connecting(r)
	modes(r)
}

func memory(r *fact.Report) {
	r.Step("SIOCOUTQ")
	a, b := r.UnixPair()
	fact.Send(a, 1)
	one := r.OutQ(a)
	r.AtLeast("1 byte the peer has not read", 100, one)
	fact.Send(a, 1)
	r.Expect("1 more", 2*one, r.OutQ(a))
	fact.Recv(b, 1)
	r.Expect("the peer has read one of them", one, r.OutQ(a))
	fact.Recv(b, 1)
	r.Expect("and the other", 0, r.OutQ(a))
	fact.Send(a, 10_000)
	r.AtLeast("10000 bytes", 10_001, r.OutQ(a))
	r.CloseWrite(a)
	before := r.OutQ(a)
	fact.Drain(b)
	r.Expect("shutdown adds nothing; read: ", 0, r.OutQ(a))
	r.Figure("1 byte takes %d, 10000 bytes take %d", one, before)
}

func endings(r *fact.Report) {
	r.Step("close with linger 0")
	a, b := r.UnixPair()
	fact.Send(a, 5)
	r.Abort(a)
	r.Expect("poll", "IN|OUT|RDHUP|HUP", fact.Poll(b))
	r.Expect("read", "5 bytes, 0 bytes", fact.Join(fact.Recv(b, 10), fact.Recv(b, 10)))
	r.Expect("write", "EPIPE", fact.Send(b, 1))

	r.Step("close with unread data")
	a, b = r.UnixPair()
	fact.Send(a, 5) // our reply, queued for the peer
	fact.Send(b, 3) // the peer's data, which we do not read
	r.Close(a)
	r.Expect("poll", "IN|OUT|RDHUP|HUP|ERR", fact.Poll(b))
	r.Expect("read: the reply, the reset, then a false end of file", "5 bytes, ECONNRESET, 0 bytes",
		fact.Join(fact.Recv(b, 10), fact.Recv(b, 10), fact.Recv(b, 10)))

	r.Step("the same, and the peer writes first")
	a, b = r.UnixPair()
	fact.Send(a, 5)
	fact.Send(b, 3)
	r.Close(a)
	r.Expect("write", "EPIPE", fact.Send(b, 1))
	r.Expect("read", "5 bytes, ECONNRESET, 0 bytes", fact.Join(fact.Recv(b, 10), fact.Recv(b, 10), fact.Recv(b, 10)))

	r.Step("shutdown of the sending direction, then close with unread data")
	a, b = r.UnixPair()
	fact.Send(b, 3)
	r.CloseWrite(a)
	r.Close(a)
	r.Expect("read: a reset, although the end came first", "ECONNRESET, 0 bytes", fact.Join(fact.Recv(b, 10), fact.Recv(b, 10)))
}

func connecting(r *fact.Report) {
	r.Step("connect")
	listener, addr := r.ListenUnix(0)
	try := func() string {
		fd := r.Unix()
		err := syscall.Connect(fd, addr)
		if err != nil {
			r.Close(fd)
		}
		return fact.Name(err)
	}
	r.Expect("backlog 0", "nil, EAGAIN, EAGAIN", fact.Join(try(), try(), try()))
	r.Close(r.Accept(listener))
	r.Expect("after an accept", "nil, EAGAIN", fact.Join(try(), try()))
	r.Close(listener)
	r.Expect("nobody listens, the file is there", "ECONNREFUSED", try())

	bound := r.Unix()
	r.Must("unlink", syscall.Unlink(addr.Name))
	r.Must("bind", syscall.Bind(bound, addr))
	r.Expect("bound and not listening", "ECONNREFUSED", try())
	r.Expect("bind to a file that is there", "EADDRINUSE", fact.Name(syscall.Bind(r.Unix(), addr)))
	r.Must("unlink", syscall.Unlink(addr.Name))
	r.Expect("no file", syscall.ENOENT.Error(), try())
}

func modes(r *fact.Report) {
	r.Step("mode of the socket file")
	dir := r.TempDir()
	for _, c := range []struct{ umask, fchmod, want int }{
		{0o022, -1, 0o755},
		{0o022, 0o600, 0o600},
		{0o022, 0o660, 0o640},
		{0o000, 0o660, 0o660},
	} {
		fd := r.Unix()
		if c.fchmod >= 0 {
			r.Must("fchmod", syscall.Fchmod(fd, uint32(c.fchmod)))
		}
		path := filepath.Join(dir, fmt.Sprintf("%o.%o", c.umask, c.fchmod))
		old := syscall.Umask(c.umask)
		err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
		syscall.Umask(old)
		r.Must("bind", err)
		info, err := os.Stat(path)
		r.Must("stat", err)
		what := fmt.Sprintf("umask %#o, fchmod %#o", c.umask, c.fchmod)
		if c.fchmod < 0 {
			what = fmt.Sprintf("umask %#o, no fchmod", c.umask)
		}
		r.Expect(what, fmt.Sprintf("%#o", c.want), fmt.Sprintf("%#o", info.Mode().Perm()))
		r.Must("fchmod after bind", syscall.Fchmod(fd, 0o777))
		info, err = os.Stat(path)
		r.Must("stat", err)
		r.Expect("fchmod of the descriptor after bind changes nothing", fmt.Sprintf("%#o", c.want), fmt.Sprintf("%#o", info.Mode().Perm()))
		r.Close(fd)
	}
}
