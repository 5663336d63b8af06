//go:build linux

// fin-wait2: after our FIN is acknowledged the kernel waits for the peer's for as long as the descriptor is
// open. TCP_LINGER2 and net.ipv4.tcp_fin_timeout count only from close.
//
// While it is open the half-closed connection works: the peer can send. After close the peer's data is
// answered with a reset at once, and after the timeout nothing of the connection is left. So a bound for the
// peer's end is the program's business, and close is no way to keep receiving.
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("fin-wait2", run) }

const timeout = 1 // second, in place of 60

func run(r *fact.Report) {
	open, openPeer := r.TCPPair()
	shut, shutPeer := r.TCPPair()
	data, dataPeer := r.TCPPair()
	for _, fd := range []int{open, shut, data} {
		r.Set(fd, syscall.IPPROTO_TCP, syscall.TCP_LINGER2, timeout)
		r.CloseWrite(fd)
		r.Expect("state once the FIN is acknowledged", "FIN_WAIT2", r.WaitState(fd, "FIN_WAIT2"))
	}

	r.Step("descriptor open, three times the timeout")
	fact.Wait(open, fact.In, 3*timeout*time.Second)
	r.Expect("state", "FIN_WAIT2", r.State(open))
	r.Expect("the peer sends", "100 bytes", fact.Send(openPeer, 100))
	fact.Wait(open, fact.In, fact.Patience)
	r.Expect("we read", "100 bytes", fact.Recv(open, 1000))

	r.Step("after close")
	pair := addresses(r, shut)
	r.Close(shut)
	start := time.Now()
	r.Expect("kernel's table", "FIN_WAIT2", inTable(r, pair))
	fact.Until(func() bool { return inTable(r, pair) == "gone" })
	r.Expect("kernel's table, later", "gone", inTable(r, pair))
	r.Within("after ms", 700, 2500, int(time.Since(start).Milliseconds()))
	r.Expect("the peer has heard nothing of it", "CLOSE_WAIT", r.State(shutPeer))
	r.Expect("the peer sends", "100 bytes", fact.Send(shutPeer, 100))
	r.Expect("the peer's state", "CLOSE", r.WaitState(shutPeer, "CLOSE"))
	r.Expect("the peer's error, its end having been read", "EPIPE", fact.Name(fact.SocketError(shutPeer)))

	r.Step("after close, before the timeout, the peer sends")
	pair = addresses(r, data)
	r.Close(data)
	r.Expect("kernel's table", "FIN_WAIT2", inTable(r, pair))
	r.Expect("the peer sends", "100 bytes", fact.Send(dataPeer, 100))
	r.Expect("the peer's state", "CLOSE", r.WaitState(dataPeer, "CLOSE"))
	r.Expect("kernel's table", "gone", inTable(r, pair))
}

// addresses are a connection's two, as /proc/net/tcp has them: another connection can have the same port of
// ours.
func addresses(r *fact.Report, fd int) [2]string {
	local, err := syscall.Getsockname(fd)
	r.Must("read the local address", err)
	peer, err := syscall.Getpeername(fd)
	r.Must("read the peer's address", err)
	text := func(a syscall.Sockaddr) string {
		return fmt.Sprintf("0100007F:%04X", a.(*syscall.SockaddrInet4).Port)
	}
	return [2]string{text(local), text(peer)}
}

// inTable looks a connection up in /proc/net/tcp: a closed descriptor has no TCP_INFO.
func inTable(r *fact.Report, pair [2]string) string {
	table, err := os.ReadFile("/proc/net/tcp")
	r.Must("read /proc/net/tcp", err)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) > 3 && fields[1] == pair[0] && fields[2] == pair[1] {
			return map[string]string{"05": "FIN_WAIT2", "06": "TIME_WAIT"}[fields[3]]
		}
	}
	return "gone"
}
