//go:build linux

// close-listener: closing a listener resets the connections that wait in its queue, on tcp and on unix.
//
// Their clients have been connected for a while and may have sent a request. So a server that drains
// accepts what is queued first. shutdown of the listener does the same on tcp; on unix it does nothing to
// those queued, which can still be accepted while new ones are refused: a drain without a gap. On tcp a
// socket filter that drops everything does it: a client outside keeps trying, those queued live on.
package main

import (
	"syscall"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("close-listener", run) }

func run(r *fact.Report) {
	closing(r)
	shutdown(r)
	filter(r)
}

func closing(r *fact.Report) {
	r.Step("close of the listener")
	tcp, addr := r.ListenTCP(10)
	client := r.Connect(addr)
	r.Expect("tcp client sends a request", "100 bytes", fact.Send(client, 100))
	fact.Wait(tcp, fact.In, fact.Patience)
	r.Close(tcp)
	fact.Wait(client, fact.RdHup, fact.Patience)
	r.Expect("tcp client: poll", "IN|OUT|RDHUP|HUP|ERR", fact.Poll(client))
	r.Expect("tcp client: read", "ECONNRESET", fact.Recv(client, 10))

	unix, uaddr := r.ListenUnix(10)
	client = r.Unix()
	r.Must("connect", syscall.Connect(client, uaddr))
	r.Expect("unix client sends a request", "100 bytes", fact.Send(client, 100))
	r.Close(unix)
	r.Expect("unix client: poll", "IN|OUT|RDHUP|HUP|ERR", fact.Poll(client))
	r.Expect("unix client: read", "ECONNRESET", fact.Recv(client, 10))

	unix, uaddr = r.ListenUnix(10)
	client = r.Unix()
	r.Must("connect", syscall.Connect(client, uaddr))
	r.Close(unix)
	r.Expect("unix client that has sent nothing: read", "ECONNRESET", fact.Recv(client, 10))
}

func shutdown(r *fact.Report) {
	r.Step("shutdown of the listener")
	tcp, addr := r.ListenTCP(10)
	client := r.Connect(addr)
	fact.Wait(tcp, fact.In, fact.Patience)
	r.Must("shut down", syscall.Shutdown(tcp, syscall.SHUT_RDWR))
	fact.Wait(client, fact.RdHup, fact.Patience)
	r.Expect("tcp client: read", "ECONNRESET", fact.Recv(client, 10))
	r.Expect("tcp listener: accept", "EINVAL", accept(tcp))
	unix, uaddr := r.ListenUnix(10)
	client = r.Unix()
	r.Must("connect", syscall.Connect(client, uaddr))
	r.Must("shut down", syscall.Shutdown(unix, syscall.SHUT_RDWR))
	r.Expect("unix client: read", "EAGAIN", fact.Recv(client, 10))
	late := r.Unix()
	r.Expect("unix: another connect", "ECONNREFUSED", fact.Name(syscall.Connect(late, uaddr)))
	r.Expect("unix listener: accept", "nil", accept(unix))
}

func filter(r *fact.Report) {
	r.Step("a filter on the tcp listener that drops everything")
	listener, addr := r.ListenTCP(10)
	client := r.Connect(addr)
	fact.Wait(listener, fact.In, fact.Patience)
	r.Deaf(listener)
	late := r.TCP()
	r.Expect("another connect", "EINPROGRESS", fact.Name(syscall.Connect(late, addr)))
	r.Expect("its outcome", "nothing", fact.Wait(late, fact.Out, fact.Quiet))
	server := r.Accept(listener)
	r.Expect("accept after the one that was queued", "EAGAIN", accept(listener))
	r.Close(listener)
	r.Expect("the one that was queued: client sends", "100 bytes", fact.Send(client, 100))
	fact.Wait(server, fact.In, fact.Patience)
	r.Expect("server reads, sends", "100 bytes, 10 bytes", fact.Join(fact.Recv(server, 1000), fact.Send(server, 10)))
	fact.Wait(client, fact.In, fact.Patience)
	r.Expect("client reads", "10 bytes", fact.Recv(client, 1000))
	fact.Wait(late, fact.Out, fact.Patience) // its next SYN, after a second, finds nobody
	r.Expect("the connect that came late", "ECONNREFUSED", fact.Name(fact.SocketError(late)))
}

func accept(listener int) string {
	_, _, err := syscall.Accept4(listener, syscall.SOCK_CLOEXEC)
	return fact.Name(err)
}
