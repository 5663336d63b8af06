//go:build linux

// Network namespaces of the experiment's own. A namespace lives as long as the thread that made it
// and the sockets in it: it disappears with the process, also after a failure.

package fact

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// Namespace is a network namespace held by one thread.
type Namespace struct {
	r     *Report
	tid   int
	calls chan func()
	ended chan struct{}
}

// Namespace makes a network namespace with its loopback interface up, or skips the experiment.
func (r *Report) Namespace() *Namespace {
	r.RequireRoot("a network namespace")
	if _, err := exec.LookPath("ip"); err != nil {
		r.Skip("needs the ip command")
	}
	ns := &Namespace{r: r, calls: make(chan func()), ended: make(chan struct{})}
	made := make(chan error)
	go ns.hold(made)
	if err := <-made; err != nil {
		r.Skip("cannot make a network namespace: %v", err)
	}
	r.Cleanup(ns.Leave)
	ns.IP("link set lo up")
	return ns
}

// hold owns the thread of the namespace. It ends without unlocking the thread,
// so that the runtime destroys the thread and no other goroutine ever runs in the namespace.
func (ns *Namespace) hold(made chan<- error) {
	defer close(ns.ended)
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		made <- err
		return
	}
	ns.tid = syscall.Gettid()
	made <- nil
	for call := range ns.calls {
		call()
	}
}

// Do runs f in the namespace. Sockets that f makes stay in it, whoever uses them later.
func (ns *Namespace) Do(f func()) {
	failed := make(chan any)
	ns.calls <- func() {
		defer func() { failed <- recover() }()
		f()
	}
	if p := <-failed; p != nil {
		panic(p)
	}
}

// Leave gives the namespace up. The kernel destroys it when its last socket is gone.
func (ns *Namespace) Leave() {
	select {
	case <-ns.ended:
	default:
		close(ns.calls)
		<-ns.ended
	}
}

// IP runs the ip command in the namespace.
func (ns *Namespace) IP(args string) {
	var out []byte
	var err error
	ns.Do(func() { out, err = exec.Command("ip", strings.Fields(args)...).CombinedOutput() })
	if err != nil {
		ns.r.Must("run ip "+args, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out))))
	}
}

// Sysctl sets a sysctl of the namespace, named by its path below /proc/sys.
func (ns *Namespace) Sysctl(path, value string) {
	var err error
	ns.Do(func() { err = os.WriteFile("/proc/sys/"+path, []byte(value), 0) })
	ns.r.Must("set "+path, err)
}

// Join connects two namespaces with a pair of virtual interfaces, v1 (10.0.0.1) here and v2 (10.0.0.2) there.
func (ns *Namespace) Join(other *Namespace) {
	ns.IP(fmt.Sprintf("link add v1 type veth peer name v2 netns %d", other.tid))
	ns.IP("addr add 10.0.0.1/24 dev v1")
	other.IP("addr add 10.0.0.2/24 dev v2")
	ns.IP("link set v1 up")
	other.IP("link set v2 up")
}

// PairTo connects a TCP socket of this namespace to one in the other. Configure is applied as in TCPPair.
func (ns *Namespace) PairTo(other *Namespace, configure ...func(fd int)) (here, there int) {
	var listener int
	var addr syscall.Sockaddr
	other.Do(func() {
		listener, addr = ns.r.listen(ns.r.TCP(), &syscall.SockaddrInet4{Addr: [4]byte{10, 0, 0, 2}}, 1, configure)
	})
	ns.Do(func() { here = ns.r.Connect(addr, configure...) })
	there = ns.r.Accept(listener)
	ns.r.Close(listener)
	return here, there
}
