// This file holds the words on a diagram: what a step is called, what its
// arrow carries, and why it failed.

package sequence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/anysock/anysock"
)

// label names a step in the words of the classical calls. A line break says
// where it is best broken.
func label(ev *anysock.Event, listener bool) string {
	switch ev.Op {
	case anysock.OpSocket:
		return join("socket", ev.Network)
	case anysock.OpBind:
		return join("bind", ev.Local)
	case anysock.OpListen:
		return join("listen", strings.Replace(ev.Detail, "=", " ", 1))
	case anysock.OpResolve:
		if ev.Err == nil {
			return join("resolve", ev.Peer) + "\n" + join("=", strings.ReplaceAll(ev.Detail, ",", ", "))
		}
		return join("resolve", ev.Peer)
	case anysock.OpRead:
		if ev.Bytes == 0 && errors.Is(ev.Err, io.EOF) {
			return "read: end of file"
		}
		if ev.Bytes == 0 && ev.Err != nil {
			return "read"
		}
		return fmt.Sprintf("read %d", ev.Bytes)
	case anysock.OpWrite:
		if ev.Bytes == 0 && ev.Err != nil {
			return "write"
		}
		return fmt.Sprintf("write %d", ev.Bytes)
	case anysock.OpShutdown:
		if ev.Detail == "read" {
			return "shutdown read"
		}
		return "shutdown"
	case anysock.OpAccept:
		return "accept"
	case anysock.OpConnect:
		return "connect"
	case anysock.OpDisconnect:
		if ev.Bytes > 0 {
			return fmt.Sprintf("disconnected,\n%d bytes discarded", ev.Bytes)
		}
		return "disconnected"
	case anysock.OpWait:
		what, bound, _ := strings.Cut(ev.Detail, ", ")
		if bound != "" {
			return join("wait", what+",") + "\n" + roundly(clean(bound))
		}
	case anysock.OpClose:
		if listener {
			return "close listener"
		}
		return "close"
	}
	return join(ev.Op, ev.Detail)
}

// roundly rounds the duration at the end of a text: what was left of a bound
// when the step began is less than the bound by nothing that matters.
func roundly(s string) string {
	i := strings.LastIndexByte(s, ' ') + 1
	if d, err := time.ParseDuration(s[i:]); err == nil && d >= time.Second {
		return s[:i] + d.Round(100*time.Millisecond).String()
	}
	return s
}

// freight names what a step sends to the other socket; empty for nothing.
func freight(ev *anysock.Event) string {
	switch {
	case ev.Op == anysock.OpConnect && ev.Err == nil:
		return ev.Peer
	case ev.Op == anysock.OpWrite && ev.Bytes == 1:
		return "1 byte"
	case ev.Op == anysock.OpWrite && ev.Bytes > 0:
		return fmt.Sprintf("%d bytes", ev.Bytes)
	case ev.Op == anysock.OpShutdown && ev.Detail != "read" && ev.Err == nil:
		return "end (FIN)"
	case ev.Op == anysock.OpAbort:
		return "abort (RST)"
	}
	return ""
}

// reason is why a step failed, without the step and the address, which the
// diagram shows already.
func reason(err error) string {
	var e *anysock.Error
	if errors.As(err, &e) {
		if len(e.Attempts) <= 1 && e.Err != nil {
			return reason(e.Err)
		}
		return e.Error()
	}
	// What package os and net put before an errno is known too.
	var sc *os.SyscallError
	if errors.As(err, &sc) {
		return sc.Err.Error()
	}
	return err.Error()
}

// isReset reports whether err is the peer's abort.
func isReset(err error) bool {
	var e *anysock.Error
	return errors.As(err, &e) && e.Kind == anysock.KindReset
}

// isGivenUp reports whether a step ended because its own side called it off:
// that is the consequence of another step, and no failure.
func isGivenUp(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed)
}

// join puts words together, leaving out empty ones, and replaces what would
// disturb a terminal.
func join(words ...string) string {
	var kept []string
	for _, w := range words {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return clean(strings.Join(kept, " "))
}

// clean replaces what is not printable.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
