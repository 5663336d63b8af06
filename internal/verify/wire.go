package verify

// This file holds the bytes of the protocol (see the package's comment).

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/anysock/anysock"
)

const (
	magic   = "\x89AVF\r\n\x1a\n"
	version = 1

	kindAsk  = 1
	kindPlan = 2

	flagSlowServer = 1
	flagSlowClient = 2
	flagGreet      = 4

	greeting = 0x06 // ACK

	maxAsk    = 64 << 10
	maxAnswer = 1 << 20
)

// An opening is what a client sends first.
type opening struct {
	Magic         [len(magic)]byte
	Version, Kind uint8
	Order, Flags  uint8
	Run, Number   uint64
	Up, Down, Cut uint64
	Late          uint32
	Seed          uint64
	CRC           uint32
}

const openingSize = len(magic) + 4 + 5*8 + 4 + 8 + 4

// encode is the bytes of an opening, with its checksum.
func (o opening) encode() []byte {
	copy(o.Magic[:], magic)
	o.Version = version
	b, err := binary.Append(make([]byte, 0, openingSize), binary.BigEndian, o)
	if err != nil || len(b) != openingSize {
		panic(fmt.Sprint("verify: an opening of ", len(b), " bytes: ", err))
	}
	binary.BigEndian.PutUint32(b[openingSize-4:], crc32.ChecksumIEEE(b[:openingSize-4]))
	return b
}

func (p Plan) encode() []byte {
	o := opening{
		Kind: kindPlan, Order: byte(p.Order), Run: p.Run, Number: p.Number, Up: p.Up, Down: p.Down,
		Cut: p.Cut, Late: uint32(p.Late.Milliseconds()), Seed: p.Seed,
	}
	for _, f := range []struct {
		on   bool
		flag uint8
	}{{p.SlowServer, flagSlowServer}, {p.SlowClient, flagSlowClient}, {p.Greet, flagGreet}} {
		if f.on {
			o.Flags |= f.flag
		}
	}
	return o.encode()
}

// What is wrong with an opening.
var (
	errStranger = errors.New("not a client of verify")
	errSpoiled  = errors.New("the opening was changed on the way")
	errVersion  = errors.New("another version of verify")
	errBounds   = errors.New("the plan is out of bounds")
)

func decode(b []byte) (opening, error) {
	var o opening
	if !bytes.HasPrefix(b, []byte(magic)) {
		return o, errStranger
	}
	if _, err := binary.Decode(b, binary.BigEndian, &o); err != nil {
		return o, err
	}
	switch {
	case o.CRC != crc32.ChecksumIEEE(b[:openingSize-4]):
		return o, errSpoiled
	case o.Version != version:
		return o, errVersion
	}
	return o, nil
}

// plan is what an opening of that kind says.
func (o opening) plan() (Plan, error) {
	p := Plan{
		Order: Order(o.Order), Run: o.Run, Number: o.Number, Up: o.Up, Down: o.Down, Cut: o.Cut,
		Late: time.Duration(o.Late) * time.Millisecond, Seed: o.Seed,
		SlowServer: o.Flags&flagSlowServer != 0, SlowClient: o.Flags&flagSlowClient != 0, Greet: o.Flags&flagGreet != 0,
	}
	if p.Order >= orderCount || p.Up > MaxMessage+2 || p.Down > MaxMessage+2 || p.Cut > max(p.Up, p.Down) || p.Late > MaxLate {
		return p, errBounds
	}
	return p, nil
}

// An ask is a question to a server.
type ask struct {
	Numbers []uint64 `json:"numbers,omitempty"`
	WaitMS  int      `json:"wait_ms,omitempty"`
}

// An answer is a server's.
type answer struct {
	Caps     anysock.Caps `json:"caps"`
	Outcomes []reported   `json:"outcomes,omitempty"`
}

// A reported is what a server knows of a connection.
type reported struct {
	State   state    `json:"state"`
	Outcome *Outcome `json:"outcome,omitempty"`
}

// A state is how far a connection has come at the server.
type state uint8

const (
	unseen  state = iota // its opening has not come, or is forgotten
	running              // it is not over
	over
)

// encodeText is prefix, a length and JSON.
func encodeText(prefix []byte, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32(prefix, uint32(len(text)))
	return append(b, text...), nil
}

// readText reads a length and JSON of at most limit bytes.
func readText(r io.Reader, limit uint32, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > limit {
		return fmt.Errorf("a message of %d bytes, more than %d", n, limit)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}
