//go:build linux

// io-uring: the same echo server on epoll and on io_uring, both in Go, and what they cost.
//
// Each is a process of its own with one thread that does all the work: epoll with recvfrom and sendto through
// the raw entry of package syscall, io_uring with multishot accept and receive, provided buffers, its own file
// table, and work deferred to the one call that submits and reaps. They are measured in pairs of short slots,
// in turn; the cost is the kernel's account of the process, for exactly the messages that were echoed, every
// byte of which is compared. The figures are this machine's; that the echoes are right is what is judged.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/anysock/anysock/docs/notes/fact"
)

const (
	pairs  = 9
	slot   = 50 * time.Millisecond
	warmup = 5 * time.Millisecond
)

var works = []work{
	{"1 connection, 250 bytes", 1, 1, 250},
	{"64 connections, 250 bytes", 64, 1, 250},
	{"64 connections, 16 messages in flight on each, 250 bytes", 64, 16, 250},
	{"4000 connections, 250 bytes", 4000, 1, 250},
	{"16 connections, 64 KiB", 16, 1, 64 << 10},
}

// errNoURing says that this kernel does not do what the io_uring server needs.
var errNoURing = errors.New("no io_uring here")

func main() {
	if len(os.Args) == 2 {
		if err := server(os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	fact.Bound = 40 * time.Second // ten, on a machine that does nothing else
	fact.Main("io-uring", run)
}

// cpus are the first and the last processor: the load's and the servers'.
func cpus() (load, server int) { return 0, runtime.NumCPU() - 1 }

// pin keeps the goroutine on its thread, and the thread on a processor. Where it may not, it floats.
func pin(cpu int) {
	runtime.LockOSThread()
	var mask [16]uint64
	mask[cpu/64] = 1 << (cpu % 64)
	syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask)))
}

// server is the child: it prints its port and ends with its input.
func server(engine string) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1) // inherited
	}
	if err == nil {
		err = syscall.Bind(fd, fact.Loopback(0))
	}
	if err == nil {
		err = syscall.Listen(fd, 4096)
	}
	if err != nil {
		return err
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		return err
	}
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	_, cpu := cpus()
	pin(cpu)
	if engine == "io_uring" {
		probe, err := newRing(1)
		if err != nil {
			return errors.Join(errNoURing, err)
		}
		syscall.Close(probe.fd)
	}
	fmt.Println(bound.(*syscall.SockaddrInet4).Port)
	if engine == "io_uring" {
		return serveURing(fd)
	}
	return serveEpoll(fd)
}

// A side is one server, seen from the load.
type side struct {
	engine string
	pid    int
	addr   syscall.Sockaddr
}

func start(r *fact.Report, engine string) side {
	self, err := os.Executable()
	r.Must("find this program", err)
	cmd := exec.Command(self, engine)
	in, err := cmd.StdinPipe()
	r.Must("make a pipe", err)
	out, err := cmd.StdoutPipe()
	r.Must("make a pipe", err)
	cmd.Stderr = os.Stderr
	r.Must("start a server", cmd.Start())
	r.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	lines.Scan()
	port, err := strconv.Atoi(lines.Text())
	if err != nil && strings.HasPrefix(lines.Text(), errNoURing.Error()) {
		lines.Scan()
		r.Skip("%s", lines.Text())
	}
	r.Must("start the "+engine+" server", err)
	return side{engine, cmd.Process.Pid, fact.Loopback(port)}
}

// cpu is the processor time of the server so far: the clock of another process, as clock_getcpuclockid(3)
// makes it.
func (s side) cpu(r *fact.Report) time.Duration {
	var t syscall.Timespec
	clock := ^s.pid<<3 | 2
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		r.Must("read the clock of a server", errno)
	}
	return time.Duration(t.Nano())
}

func run(r *fact.Report) {
	load, _ := cpus()
	pin(load)
	debug.SetGCPercent(-1)
	sides := []side{start(r, "epoll"), start(r, "io_uring")}
	var again []float64
	for _, w := range works {
		r.Step("%s", w.name)
		ratios, costs := measure(r, w, sides[0], sides[1])
		r.Figure("io_uring / epoll: %.2f (%.2f to %.2f); %.2f and %.2f µs of processor time a message",
			middle(ratios), slices.Min(ratios), slices.Max(ratios), costs[1], costs[0])
		again = append(again, middle(ratios))
	}
	r.Step("the noise: epoll against itself")
	ratios, _ := measure(r, works[1], sides[0], sides[0])
	r.Figure("%s: %.2f (%.2f to %.2f)", works[1].name, middle(ratios), slices.Min(ratios), slices.Max(ratios))
	r.Figure("medians of all works: %.2f to %.2f", slices.Min(again), slices.Max(again))
}

// measure returns the second side's cost by the first's, pair by pair, and the median cost of each in µs.
func measure(r *fact.Report, w work, a, b side) (ratios, costs []float64) {
	w.connections = min(w.connections, most())
	sides := []side{a, b}
	var clients [2]*client
	for i, s := range sides {
		var err error
		clients[i], err = connect(w, s.addr)
		r.Must("connect to the "+s.engine+" server", err)
		defer clients[i].close()
	}
	wrong := 0
	var each [2][]float64
	for pair := range pairs {
		var cost [2]float64
		for turn := range 2 {
			i := (turn + pair) % 2
			err := clients[i].run(warmup)
			before := sides[i].cpu(r)
			err = errors.Join(err, clients[i].run(slot))
			cost[i] = (sides[i].cpu(r) - before).Seconds() * 1e6 / float64(max(clients[i].passed, 1))
			if err != nil {
				fmt.Println(err)
				wrong++
			}
			each[i] = append(each[i], cost[i])
		}
		ratios = append(ratios, cost[1]/cost[0])
	}
	r.Expect("slots with a wrong, missing or late echo", 0, wrong)
	return ratios, []float64{middle(each[0]), middle(each[1])}
}

// most is how many connections to each of two servers this process may have.
func most() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1
	}
	return int(min(limit.Cur, math.MaxInt32))/2 - 50
}

func middle(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return s[len(s)/2]
}
