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
	port := localPort(r, shut)
	r.Close(shut)
	start := time.Now()
	r.Expect("kernel's table", "FIN_WAIT2", inTable(r, port))
	fact.Until(func() bool { return inTable(r, port) == "gone" })
	r.Expect("kernel's table, later", "gone", inTable(r, port))
	r.Within("after ms", 700, 2500, int(time.Since(start).Milliseconds()))
	r.Expect("the peer has heard nothing of it", "CLOSE_WAIT", r.State(shutPeer))
	r.Expect("the peer sends", "100 bytes", fact.Send(shutPeer, 100))
	r.Expect("the peer's state", "CLOSE", r.WaitState(shutPeer, "CLOSE"))
	r.Expect("the peer's error, its end having been read", "EPIPE", fact.Name(fact.SocketError(shutPeer)))

	r.Step("after close, before the timeout, the peer sends")
	port = localPort(r, data)
	r.Close(data)
	r.Expect("kernel's table", "FIN_WAIT2", inTable(r, port))
	r.Expect("the peer sends", "100 bytes", fact.Send(dataPeer, 100))
	r.Expect("the peer's state", "CLOSE", r.WaitState(dataPeer, "CLOSE"))
	r.Expect("kernel's table", "gone", inTable(r, port))
}

func localPort(r *fact.Report, fd int) int {
	addr, err := syscall.Getsockname(fd)
	r.Must("read the local address", err)
	return addr.(*syscall.SockaddrInet4).Port
}

// inTable looks a socket up in /proc/net/tcp by its local port: a closed descriptor has no TCP_INFO.
func inTable(r *fact.Report, port int) string {
	table, err := os.ReadFile("/proc/net/tcp")
	r.Must("read /proc/net/tcp", err)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) > 3 && fields[1] == fmt.Sprintf("0100007F:%04X", port) {
			return map[string]string{"05": "FIN_WAIT2", "06": "TIME_WAIT"}[fields[3]]
		}
	}
	return "gone"
}
