// Package testproc is the frame of a package's tests: what they leave behind is
// a failure, and with a role in its environment the test binary is a program
// that a test runs, in a process and, if it likes, in a network of its own.
package testproc

import (
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/anysock/anysock/internal/sys"
)

// Patience is what goroutines and descriptors have to go after the tests, on a
// busy machine, unless a Frame says otherwise.
const Patience = 10 * time.Second

// A Frame is what a package's tests ask for. The zero value is fit for most.
type Frame struct {
	AtOnce   int           // parallel tests at a time, unless -parallel says so; 0 leaves it to the processors
	Patience time.Duration // 0 is Patience
	Finally  func() error  // what else has to be true after the tests
}

// Main is the TestMain of a package: it plays the role that the environment
// asks for, or runs the tests and looks what they have left. It does not
// return.
func Main(m *testing.M, f Frame) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	flag.Parse()
	if err := f.atOnce(); err != nil {
		panic(err)
	}
	openPoller()
	before := Descriptors()
	code := m.Run()
	if code == 0 {
		if err := f.left(len(before)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func (f Frame) atOnce() error {
	asked := f.AtOnce == 0
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if asked {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(f.AtOnce))
}

// left says what is left of the tests.
func (f Frame) left(before int) error {
	if f.Finally != nil {
		if err := f.Finally(); err != nil {
			return err
		}
	}
	patience := f.Patience
	if patience == 0 {
		patience = Patience
	}
	end := time.Now().Add(patience)
	err := goleak.Find() // which itself waits a little
	for err != nil && time.Now().Before(end) {
		err = goleak.Find()
	}
	if err != nil {
		return fmt.Errorf("goroutines left behind: %w", err)
	}
	// What the last goroutines have put back. The runtime closes descriptors of
	// finished programs in its own time, and package net the pipes that it splices
	// through when they are garbage.
	sys.CloseIdlePipes()
	after := Descriptors()
	for len(after) > before && time.Now().Before(end) {
		runtime.GC()
		<-time.After(10 * time.Millisecond)
		after = Descriptors()
	}
	if len(after) > before {
		return fmt.Errorf("descriptors left behind: %d before, %d after the tests: %q", before, len(after), after)
	}
	return nil
}

// openPoller has the runtime open its poller, which comes with its first use
// and stays.
func openPoller() {
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
}

// Descriptors names the open ones; none where that cannot be known.
func Descriptors() []string {
	const dir = "/proc/self/fd"
	ents, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range ents {
		// The one that reads the directory is gone by now.
		if to, err := os.Readlink(dir + "/" + e.Name()); err == nil {
			names = append(names, e.Name()+" "+to)
		}
	}
	return names
}
