package stdio

import (
	"context"
	"os"
	"syscall"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/anysock/anysock/socktest"
)

// The conformance suite on what a process can inherit.
func TestConformance(t *testing.T) {
	const halves = anysock.CapHalfClose | anysock.CapDeadline
	for _, tt := range []struct {
		name string
		caps anysock.Caps
		make func([]int) error // two descriptors: read end, write end
		in   func(*os.File) input
		out  func(*os.File) output
	}{
		{"pipes", halves, twoEnds, newInput, newOutput},
		{"pipes_that_cannot_be_waited_for", halves | anysock.CapCloseAck, twoEnds, func(f *os.File) input { return newPumpedInput(f) }, func(f *os.File) output { return newPumpedOutput(f) }},
		{"sockets_for_one_direction_each", halves, twoSockets, newInput, newOutput},
	} {
		socktest.TestTransport(t, socktest.Transport{
			Name: tt.name, Caps: tt.caps, MaxBuffered: 1 << 20,
			Pair: func(_ context.Context, opts anysock.Options) (a, b *anysock.Conn, err error) {
				p, q := make([]int, 2), make([]int, 2)
				if err := tt.make(p); err != nil {
					return nil, nil, err
				}
				if err := tt.make(q); err != nil {
					return nil, nil, err
				}
				file := func(n int) *os.File { return os.NewFile(uintptr(n), "test") }
				name := addr{"stdio", "test"}
				x := newDuplex(tt.in(file(p[0])), tt.out(file(q[1])), name, name)
				y := newDuplex(tt.in(file(q[0])), tt.out(file(p[1])), name, name)
				return anysock.Wrap(x, opts), anysock.Wrap(y, opts), nil
			},
		})
	}
	socktest.TestTransport(t, socktest.Transport{
		Name: "one_socket", Caps: halves | anysock.CapCutDetect,
		Pair: func(_ context.Context, opts anysock.Options) (a, b *anysock.Conn, err error) {
			p := make([]int, 2)
			if err := twoSockets(p); err != nil {
				return nil, nil, err
			}
			x, err := sys.Adopt(p[0])
			if err != nil {
				return nil, nil, err
			}
			y, err := sys.Adopt(p[1])
			if err != nil {
				return nil, nil, err
			}
			return anysock.Wrap(sys.NewNetConn(x), opts), anysock.Wrap(sys.NewNetConn(y), opts), nil
		},
	})
}

func twoEnds(p []int) error { return syscall.Pipe2(p, syscall.O_CLOEXEC) }

func twoSockets(p []int) error {
	s, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	copy(p, s[:])
	return err
}
