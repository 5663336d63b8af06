package loop

import (
	"errors"

	"github.com/anysock/anysock/internal/bridge"
)

// The built-in services of package anysock, echo (RFC 862), discard (RFC 863)
// and chargen (RFC 864), as handlers.

// Echo sends back what comes until the peer ends its direction, then ends ours.
func Echo() Handler {
	return Handler{Data: func(c *Conn, p []byte) { _, _ = c.Write(p) }} // a failure is the connection's ending
}

// Discard forgets what comes until the peer ends its direction, then ends ours.
func Discard() Handler {
	return Handler{Data: func(*Conn, []byte) {}}
}

// chargenTurn bounds what one connection writes before the others have their
// turn.
const chargenTurn = 8

// Chargen sends lines of 72 printing characters, each beginning one character
// later, and forgets what comes. When the peer ends its direction it ends ours,
// in the middle of a line if the peer does not read.
func Chargen() Handler {
	return Handler{Open: writeLines, Sent: writeLines, Data: func(*Conn, []byte) {}}
}

// writeLines writes until the peer has enough for now, or its turn is over.
func writeLines(c *Conn) {
	text := bridge.ChargenText()
	for range chargenTurn {
		if _, err := c.Write(text); errors.Is(err, ErrFull) {
			return // Sent goes on
		} else if err != nil {
			return // so does nobody
		}
	}
	_ = c.Post(func() { writeLines(c) }) // the loop runs: this is it
}
