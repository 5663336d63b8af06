package verify

// This file holds what one connection does: which order of ending, how much each
// way, and where it is broken off. A run is reproduced by its seed.

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/anysock/anysock"
)

// An Order is who ends a connection first, and how.
type Order byte

// The orders.
const (
	ClientHalfCloses      Order = iota // request, end; after a pause the reply, end
	ServerHalfCloses                   // message, end; after a pause the answer, end
	ClientCloses                       // request and reply of known length; the client disconnects
	ServerCloses                       // the same; the server disconnects
	BothEnd                            // both send and end, neither waits for the other
	ClientAbortsSending                // the client aborts in the middle of its request
	ServerAbortsSending                // the server aborts in the middle of its reply
	ClientAbortsReceiving              // the client aborts while the server sends
	ServerAbortsReceiving              // the server aborts while the client sends
	orderCount
)

var orderNames = [orderCount]string{
	"client-half-closes", "server-half-closes", "client-closes", "server-closes", "both-end",
	"client-aborts-sending", "server-aborts-sending", "client-aborts-receiving", "server-aborts-receiving",
}

// String is the order's name, as ParseOrders reads it.
func (o Order) String() string {
	if o < orderCount {
		return orderNames[o]
	}
	return fmt.Sprintf("order %d", byte(o))
}

// MarshalText is String.
func (o Order) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Orders are all of them.
func Orders() []Order {
	os := make([]Order, orderCount)
	for i := range os {
		os[i] = Order(i)
	}
	return os
}

// ParseOrders reads a list of names with commas between them.
func ParseOrders(list string) ([]Order, error) {
	var os []Order
	for name := range strings.SplitSeq(list, ",") {
		i := slices.Index(orderNames[:], name)
		if i < 0 {
			return nil, fmt.Errorf("there is no order %q: they are %s", name, strings.Join(orderNames[:], ", "))
		}
		if !slices.Contains(os, Order(i)) {
			os = append(os, Order(i))
		}
	}
	return os, nil
}

// Aborts reports whether the order is one of giving up.
func (o Order) Aborts() bool { return o >= ClientAbortsSending && o < orderCount }

// clientFirst reports whether it is the client who ends or gives up first. Of
// BothEnd it means nothing.
func (o Order) clientFirst() bool {
	return o == ClientHalfCloses || o == ClientCloses || o == ClientAbortsSending || o == ClientAbortsReceiving
}

// An Untried is an order that a run leaves out, and why.
type Untried struct {
	Order Order  `json:"order"`
	Why   string `json:"why"`
}

// tryable divides orders into those that a client and a server with these
// capabilities can play, and the others.
func tryable(orders []Order, client, server anysock.Caps) (can []Order, cannot []Untried) {
	here, there := client.Has(anysock.CapHalfClose), server.Has(anysock.CapHalfClose)
	for _, o := range orders {
		why := ""
		switch o {
		case ClientHalfCloses, ServerHalfCloses, BothEnd:
			if !here || !there {
				why = "an end of the path has no half-close"
			}
		// An end without half-close hears of an end when both directions have
		// ended, which who waits for it at the other does not do.
		case ClientCloses:
			if here && !there {
				why = "the server's end has no half-close, so it hears of an end only when both directions have ended"
			}
		case ServerCloses:
			if there && !here {
				why = "the client's end has no half-close, so it hears of an end only when both directions have ended"
			}
		}
		if why == "" {
			can = append(can, o)
		} else {
			cannot = append(cannot, Untried{o, why})
		}
	}
	return can, cannot
}

// The bounds of a plan; a server refuses what is beyond them.
const (
	// MaxMessage bounds a message in bytes.
	MaxMessage = 1 << 30
	// MaxLate bounds the pause before a late reply.
	MaxLate = time.Minute
)

// A Plan is what one connection does.
type Plan struct {
	Order      Order
	SlowServer bool // reads little at a time, and begins late
	SlowClient bool
	Greet      bool // the server says that it knows the plan
	Run        uint64
	Number     uint64
	Up, Down   uint64 // bytes of the messages
	Cut        uint64 // bytes before the abort: sent by who aborts sending, read by who aborts receiving
	Late       time.Duration
	Seed       uint64
}

// A dice makes plans.
type dice struct {
	seed   uint64
	run    uint64
	max    uint64 // bytes of a message
	late   time.Duration
	orders []Order
}

// Of how many plans one has a slow reader, and a late reply, and how many of
// those with an abort by the client are not greeted, so that the abort may come
// before the server knows of the connection.
const (
	oneSlowIn      = 8
	oneLateIn      = 16
	oneUngreetedIn = 4
)

// plan is plan number i, which depends on nothing but the dice. Small messages
// are more frequent than large ones.
func (d *dice) plan(i uint64) Plan {
	r := rand.New(rand.NewPCG(d.seed, i))
	size := func() uint64 { return r.Uint64N(d.max+1) >> r.IntN(8) }
	p := Plan{
		Order: d.orders[i%uint64(len(d.orders))], Run: d.run, Number: i,
		Up: size(), Down: size(), Seed: r.Uint64(),
	}
	if r.IntN(oneSlowIn) == 0 {
		p.SlowClient = r.IntN(2) == 0
		p.SlowServer = !p.SlowClient
	}
	if late := uint64(d.late.Milliseconds()); late > 0 && r.IntN(oneLateIn) == 0 {
		p.Late = time.Duration(1+r.Uint64N(late)) * time.Millisecond
	}
	switch p.Order {
	case ClientAbortsSending, ServerAbortsReceiving:
		p.Up += 2
		p.Cut = r.Uint64N(p.Up)
	case ServerAbortsSending, ClientAbortsReceiving:
		p.Down += 2
		p.Cut = r.Uint64N(p.Down)
	}
	if p.Order == ClientAbortsSending || p.Order == ClientAbortsReceiving {
		p.Greet = r.IntN(oneUngreetedIn) != 0
	}
	return p
}

// String is one line for people.
func (p Plan) String() string {
	s := fmt.Sprintf("connection %d, %s, %d bytes up, %d down", p.Number, p.Order, p.Up, p.Down)
	if p.Order.Aborts() {
		s += fmt.Sprintf(", aborted after %d", p.Cut)
	}
	if p.Late > 0 {
		s += ", late reply after " + p.Late.String()
	}
	switch {
	case p.SlowClient:
		s += ", slow client"
	case p.SlowServer:
		s += ", slow server"
	}
	return s
}
