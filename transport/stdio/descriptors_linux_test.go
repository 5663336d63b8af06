// Tests of which descriptors a program gets, and in which mode.

package stdio

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/anysock/anysock"
)

func init() {
	// Lists its descriptors with what they are and their flags.
	roles["list"] = func() error {
		for _, n := range openNumbers() {
			to, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(n))
			if err != nil {
				continue // that of the listing itself
			}
			flags, err := fcntl(n, syscall.F_GETFL)
			if err != nil {
				return err
			}
			fd, err := fcntl(n, syscall.F_GETFD)
			if err != nil {
				return err
			}
			if fd&syscall.FD_CLOEXEC == 0 { // what Go opened by now has it
				fmt.Println(n, flags&syscall.O_NONBLOCK != 0, to)
			}
		}
		return nil
	}
}

// A program gets its three streams, blocking as programs expect, and nothing
// else: not what we opened, not what we inherited, not another program's pipes.
func TestExecDescriptorsOfTheProgram(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, _ := number(f)
	leak, err := syscall.Dup(n) // without close-on-exec, as one that was inherited
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leak)
	l, err := anysock.Listen(bounded(t), "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial(t, "exec:/bin/cat")

	var numbers []int
	sc := bufio.NewScanner(strings.NewReader(all(t, dial(t, runs("list", "stderr=discard")))))
	for sc.Scan() {
		var (
			n        int
			nonblock bool
			to       string
		)
		if _, err := fmt.Sscan(sc.Text(), &n, &nonblock, &to); err != nil {
			t.Fatal(sc.Text(), err)
		}
		numbers = append(numbers, n)
		want := "pipe:"
		if n == 2 {
			want = os.DevNull
		}
		if nonblock || !strings.HasPrefix(to, want) {
			t.Errorf("descriptor %d is %s, non-blocking %t", n, to, nonblock)
		}
	}
	slices.Sort(numbers)
	if !slices.Equal(numbers, []int{0, 1, 2}) {
		t.Errorf("the program has descriptors %v", numbers)
	}
	// It was marked, and is still known as inherited.
	if _, err := inherited.look(anysock.OpConnect, leak); err != nil {
		t.Error(err)
	}
}

func init() {
	// Starts programs with ever more descriptors allowed, until it works. What
	// did not work must leave none behind.
	roles["exhausted"] = func() error {
		before := len(openNumbers())
		for allowed := before; allowed < before+100; allowed++ {
			limit := syscall.Rlimit{Cur: uint64(allowed), Max: 1 << 12}
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
				return err
			}
			c, err := anysock.Dial(context.Background(), "exec:/bin/cat?stderr=log")
			if err == nil && allowed == before {
				return errors.New("it worked with none to spare")
			}
			if err == nil {
				return c.Abort()
			}
			var e *anysock.Error
			if !errors.As(err, &e) || e.Kind != anysock.KindLimit {
				return fmt.Errorf("with %d descriptors: %w", allowed, err)
			}
			limit.Cur = 1 << 10
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
				return err
			}
			if now := len(openNumbers()); now > before+pollerDescriptors {
				return fmt.Errorf("%d descriptors before, %d after %w", before, now, err)
			}
		}
		return errors.New("it never worked")
	}
}

// pollerDescriptors are what the runtime's poller opens at its first use.
const pollerDescriptors = 2

func TestExecOutOfDescriptors(t *testing.T) {
	c := dial(t, runs("exhausted"))
	if got := all(t, c); got != "" {
		t.Error(got)
	}
	graceful(t, c)
}
