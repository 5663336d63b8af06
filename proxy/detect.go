// This file finds out which protocol a client speaks, from its first byte,
// without consuming it.

package proxy

import (
	"context"
	"fmt"

	"github.com/anysock/anysock"
)

// firstByteTLS is the type of the record that every TLS client begins with: a
// handshake message (RFC 8446 section 5.1).
const firstByteTLS = 0x16

// errTLS is a client that speaks TLS to a proxy that does not.
var errTLS = fmt.Errorf("the client speaks TLS, and this listener does not: %w", errUnknownProtocol)

// errUnknownProtocol is the reason of a connection that was none of what the
// server understands.
var errUnknownProtocol = fmt.Errorf("neither SOCKS4, SOCKS5 nor HTTP CONNECT")

// detect waits for the first byte and says which protocol it begins. SOCKS
// begins with its version (RFC 1928 section 3), HTTP with the first letter of
// a method; every method that is registered is of capitals (RFC 9110 section
// 16.1).
func detect(ctx context.Context, c *anysock.Conn) (dialogue, error) {
	var first [1]byte
	if _, err := c.Peek(ctx, first[:]); err != nil {
		return nil, err
	}
	switch b := first[0]; {
	case b == version5:
		return &dialogue5{}, nil
	case b == version4:
		return &dialogue4{}, nil
	case 'A' <= b && b <= 'Z':
		return &dialogueHTTP{}, nil
	case b == firstByteTLS:
		return nil, errTLS
	default:
		return nil, fmt.Errorf("the client's first byte is 0x%02x: %w", b, errUnknownProtocol)
	}
}
