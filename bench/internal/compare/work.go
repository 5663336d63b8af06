//go:build linux

package compare

// This file holds the works: what the load does, and the sets they belong to.

import (
	"fmt"
	"time"
)

// Modes of the load generator.
const (
	echo  = "echo"
	churn = "churn"
	bulk  = "bulk"
)

// A Work is what every candidate has to do.
type Work struct {
	Name  string // to choose it by
	Title string
	Unit  string // what one is called, of which the processor time is told

	Mode        string
	Relay       bool // the load is the target too
	Connections int  // open ones; in churn as many at a time
	Depth       int  // messages in flight on each connection
	Size        int  // bytes of a message
	Buffer      int  // where a server has a buffer for each connection
	Threads     int  // of the server; 0 is one
	MaxProcs    int  // GOMAXPROCS of a server written in Go; 0 is as many as it has cores
}

const message = 250 // bytes, unless the work says otherwise

func (w Work) threads() int { return max(w.Threads, 1) }

func (w Work) loadArguments() []string {
	args := []string{w.Mode, "-s", fmt.Sprint(w.Size)}
	if w.Mode == churn {
		return append(args, "-c", fmt.Sprint(w.Connections))
	}
	return append(args, "-d", fmt.Sprint(max(w.Depth, 1)))
}

// churnSlots is how many connections are opened, used and closed at a time.
const churnSlots = 32

// EchoWorks are those of the set echo.
func EchoWorks() []Work {
	return []Work{
		{Name: "1", Title: "250 B, 1 connection", Unit: "message", Mode: echo, Connections: 1, Size: message},
		{Name: "64", Title: "250 B, 64 connections", Unit: "message", Mode: echo, Connections: 64, Size: message},
		{Name: "10000", Title: "250 B, 10,000 connections", Unit: "message", Mode: echo, Connections: 10000, Size: message},
		{
			Name: "depth", Title: "250 B, 64 connections, 16 messages in flight on each", Unit: "message",
			Mode: echo, Connections: 64, Depth: 16, Size: message,
		},
		{
			Name: "large", Title: "64 KiB, 16 connections", Unit: "message",
			Mode: echo, Connections: 16, Size: 64 << 10, Buffer: 64 << 10,
		},
		{
			Name: "churn", Title: "connect, one message of 250 B there and back, close", Unit: "connection",
			Mode: churn, Connections: churnSlots, Size: message,
		},
		{
			Name: "1-procs", Title: "250 B, 1 connection, GOMAXPROCS=2 on the one core", Unit: "message",
			Mode: echo, Connections: 1, Size: message, MaxProcs: 2,
		},
		{
			Name: "64-procs", Title: "250 B, 64 connections, GOMAXPROCS=2 on the one core", Unit: "message",
			Mode: echo, Connections: 64, Size: message, MaxProcs: 2,
		},
	}
}

// RelayWorks are those of the set relay.
func RelayWorks() []Work {
	return []Work{
		{Name: "bulk", Title: "bulk, one way, one connection", Unit: "GB", Mode: bulk, Relay: true, Connections: 1, Size: message},
		{
			Name: "rtt", Title: "round trip of 250 B, one connection", Unit: "message",
			Mode: echo, Relay: true, Connections: 1, Size: message,
		},
		{
			Name: "connections", Title: "new connections: connect, 250 B there and back, close", Unit: "connection",
			Mode: churn, Relay: true, Connections: churnSlots, Size: message,
		},
		{
			Name: "connections-2", Title: "new connections", Unit: "connection",
			Mode: churn, Relay: true, Connections: churnSlots, Size: message, Threads: 2,
		},
	}
}

// A Sample is one slot of one candidate.
type Sample struct {
	Units     float64 // messages, connections or GB
	Elapsed   time.Duration
	ServerCPU time.Duration
	LoadCPU   time.Duration
	P50, P99  time.Duration
}

// A Metric is a figure of a sample.
type Metric func(Sample) float64

// CPU is seconds of the server's processor time for a unit.
func CPU(s Sample) float64 { return s.ServerCPU.Seconds() / s.Units }

// Rate is units a second.
func Rate(s Sample) float64 { return s.Units / s.Elapsed.Seconds() }

// P50 is the median latency in seconds.
func P50(s Sample) float64 { return s.P50.Seconds() }

// P99 is the latency that one message in a hundred exceeds, in seconds.
func P99(s Sample) float64 { return s.P99.Seconds() }

// LoadBusy is which part of its core the load generator used.
func LoadBusy(s Sample) float64 { return s.LoadCPU.Seconds() / s.Elapsed.Seconds() }

// A Row is what a candidate did in one work, a sample for each round.
type Row struct {
	Candidate string
	Samples   []Sample
	Err       error // why there are none, or no more
}

func (r *Row) values(m Metric) []float64 {
	v := make([]float64, len(r.Samples))
	for i, s := range r.Samples {
		v[i] = m(s)
	}
	return v
}
