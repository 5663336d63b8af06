// This file holds the messages of the control streams: what the two sides tell
// each other about the ends of their streams.

package quic

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	quicgo "github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// The types of messages. Each is followed by the stream's number, and where
// the comment says so by a count, all of them variable-length integers (RFC
// 9000 section 16). Counts are bytes of the Conn: the opening byte is none.
const (
	msgEnd      = 0x1 // count: my direction ends after so many bytes
	msgTaken    = 0x2 // count: I have taken so many bytes of yours
	msgAsk      = 0x3 // count: tell me when you have taken so many
	msgTakenEnd = 0x4 // I have taken all of yours, and your end
	msgDone     = 0x5 // I have your TAKEN_END too: nothing is missing here
	msgOpened   = 0x6 // the server's: the stream waits to be accepted, or is
)

// A message is one message of a control stream.
type message struct {
	kind   uint64
	stream quicgo.StreamID
	count  int64
}

// hasCount reports whether a type of message has a count.
func hasCount(kind uint64) bool { return kind == msgEnd || kind == msgTaken || kind == msgAsk }

// append adds the message to b.
func (m message) append(b []byte) []byte {
	b = quicvarint.Append(b, m.kind)
	b = quicvarint.Append(b, uint64(m.stream))
	if hasCount(m.kind) {
		b = quicvarint.Append(b, uint64(m.count))
	}
	return b
}

// errEndedControl says that the peer has ended its control stream, which lasts
// as long as the connection.
var errEndedControl = errors.New("the control stream ended")

// readMessage reads one message. Varints cannot be longer than eight bytes and
// fit into an int64.
func readMessage(r io.ByteReader) (message, error) {
	var m message
	kind, err := quicvarint.Read(r)
	if err != nil {
		return m, controlError(err)
	}
	if kind < msgEnd || kind > msgOpened {
		return m, fmt.Errorf("unknown message %#x on the control stream", kind)
	}
	id, err := quicvarint.Read(r)
	if err != nil {
		return m, controlError(err)
	}
	m.kind, m.stream = kind, quicgo.StreamID(id)
	if !hasCount(kind) {
		return m, nil
	}
	n, err := quicvarint.Read(r)
	m.count = int64(n)
	return m, controlError(err)
}

func controlError(err error) error {
	if errors.Is(err, io.EOF) {
		return errEndedControl
	}
	return err
}

// send puts a message into the outbox; a goroutine of the session writes it.
// It never blocks.
func (se *session) send(m message) {
	if !se.mapped {
		return
	}
	se.omu.Lock()
	defer se.omu.Unlock()
	if m.kind == msgTaken && len(se.outbox) > maxReports {
		return
	}
	if len(se.outbox) > maxOutbox {
		se.violation(errors.New("the peer does not read its control stream"))
		return
	}
	se.outbox = m.append(se.outbox)
	if !se.sending {
		se.sending = true
		go se.flush()
	}
}

// flush writes the outbox until it is empty. It ends with the connection.
func (se *session) flush() {
	for {
		se.omu.Lock()
		b := se.outbox
		se.outbox = nil
		if len(b) == 0 {
			se.sending = false
			se.omu.Unlock()
			return
		}
		se.omu.Unlock()
		if se.control == nil {
			str, err := se.qc.OpenUniStream()
			if err != nil {
				se.violation(fmt.Errorf("no control stream: %w", err))
				return
			}
			se.control = str
		}
		if _, err := se.control.Write(b); err != nil {
			return // the connection is over; sending stays true, for good
		}
	}
}

// listen reads the peer's control stream until the connection ends, which is
// the owner of this goroutine.
func (se *session) listen() {
	str, err := se.qc.AcceptUniStream(se.qc.Context())
	if err != nil {
		return
	}
	r := bufio.NewReaderSize(str, 512)
	for {
		m, err := readMessage(r)
		if err == nil {
			err = se.handle(m)
		}
		if err != nil {
			se.violation(err)
			return
		}
	}
}

// handle acts on a message. One about a stream that we are done with is late,
// and means nothing; one about a stream that is still to be accepted waits for
// it, because a control stream can overtake.
func (se *session) handle(m message) error {
	if m.stream%4 != 0 {
		return fmt.Errorf("a message about stream %d, which the client did not open", m.stream)
	}
	se.mu.Lock()
	s := se.streams[m.stream]
	if s == nil && m.stream > se.newest {
		err := se.keep(m)
		se.mu.Unlock()
		return err
	}
	se.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.hear(m)
}

// keep puts an early message by; mu is held.
func (se *session) keep(m message) error {
	if se.client || len(se.early) >= maxEarly {
		return fmt.Errorf("a message about stream %d, which there is not", m.stream)
	}
	se.early = append(se.early, m)
	return nil
}
