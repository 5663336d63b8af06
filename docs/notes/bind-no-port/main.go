//go:build linux

// bind-no-port: a client that binds its source address takes a port for itself, whatever its destination.
//
// bind with port 0 cannot know the destination, so it chooses a port that nobody uses on that address.
// With IP_BIND_ADDRESS_NO_PORT the choice waits for connect, and one port serves every destination.
package main

import (
	"fmt"
	"syscall"

	"github.com/anysock/anysock/docs/notes/fact"
)

func main() { fact.Main("bind-no-port", run) }

const ports = 16

func run(r *fact.Report) {
	ns := r.Namespace()
	ns.Sysctl("net/ipv4/ip_local_port_range", fmt.Sprintf("40000 %d", 40000+ports-1))
	ns.Do(func() {
		r.Step("%d ephemeral ports, two destinations", ports)
		count(r, "no bind", false, false, ports, ports)
		count(r, "source bind", true, false, ports, 0)
		count(r, "source bind, IP_BIND_ADDRESS_NO_PORT", true, true, ports, ports)
	})
}

// count connects to one destination and then to another until the ports are used up.
func count(r *fact.Report, what string, bind, noPort bool, wantFirst, wantSecond int) {
	var open []int
	connect := func(addr syscall.Sockaddr) (made int, failed string) {
		for range ports + 1 {
			fd := r.TCP()
			open = append(open, fd)
			if noPort {
				r.Set(fd, syscall.IPPROTO_IP, fact.IPBindAddressNoPort, 1)
			}
			if bind {
				if err := syscall.Bind(fd, fact.Loopback(0)); err != nil {
					return made, "bind " + fact.Name(err)
				}
			}
			if err := r.Finish(fd, syscall.Connect(fd, addr)); err != nil {
				return made, "connect " + fact.Name(err)
			}
			made++
		}
		return made, "none"
	}
	first, second := listener(r, 50001), listener(r, 50002)
	n1, failed := connect(fact.Loopback(50001))
	r.Expect(what+": connections to the first", wantFirst, n1)
	r.Figure("%s: the call that failed: %s", what, failed)
	n2, _ := connect(fact.Loopback(50002))
	r.Expect(what+": connections to the second", wantSecond, n2)
	for _, fd := range open {
		r.Abort(fd) // leaves no TIME_WAIT behind
	}
	r.Close(first)
	r.Close(second)
}

func listener(r *fact.Report, port int) int {
	fd := r.TCP()
	r.Set(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	r.Must("bind", syscall.Bind(fd, fact.Loopback(port)))
	r.Must("listen", syscall.Listen(fd, 2*ports))
	return fd
}
