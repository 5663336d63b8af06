//go:build linux

package compare

// This file measures what an idle connection costs: resident memory and
// descriptors of the server at growing numbers of connections.

import (
	"context"
	"fmt"
	"io"
	"syscall"
	"time"
)

// An IdlePoint is a server with so many idle connections, each of which has
// passed one message there and back.
type IdlePoint struct {
	Connections int
	Resident    int64 // bytes
	Descriptors int
}

// An IdleRow is what was seen of one candidate; the first point is without a
// connection.
type IdleRow struct {
	Candidate string
	Points    []IdlePoint
	Err       error
}

// EchoIdlePoints and RelayIdlePoints are the numbers of connections. A
// candidate for which the descriptors do not suffice stops earlier.
var (
	EchoIdlePoints  = []int{1000, 6000, 12000, 18000}
	RelayIdlePoints = []int{1000, 5000}
)

// processIdlePoints are for a candidate that starts a process for each.
var processIdlePoints = []int{100, 300}

// spareDescriptors is what a server needs beside its connections.
const spareDescriptors = 200

// IdleEstimate is how long a candidate takes.
func IdleEstimate(points []int) time.Duration {
	return time.Second + time.Duration(points[len(points)-1])*2*connectCost
}

// Idle measures every candidate that can be had, one after the other.
func (b *Bench) Idle(ctx context.Context, log io.Writer, relay bool, points []int, candidates []Candidate) ([]IdleRow, error) {
	var rows []IdleRow
	for _, c := range candidates {
		if c.command == nil { // the load alone has no server to look at
			continue
		}
		row := IdleRow{Candidate: c.Name}
		row.Points, row.Err = b.idle(ctx, c, relay, points)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if row.Err != nil {
			fmt.Fprintf(log, "idle: %s: %v\n", c.Name, row.Err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (b *Bench) idle(ctx context.Context, c Candidate, relay bool, numbers []int) ([]IdlePoint, error) {
	w := Work{Name: "idle", Mode: echo, Relay: relay, Size: message}
	s, err := b.start(ctx, c, w)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	if c.forks {
		numbers = processIdlePoints
	}
	first, err := s.look(ctx, c, 0)
	if err != nil {
		return nil, err
	}
	points := []IdlePoint{first}
	for _, n := range numbers {
		n, err = affordable(points, n)
		if err != nil {
			return points, err
		}
		if n <= points[len(points)-1].Connections {
			break
		}
		if err := s.load.open(ctx, n); err != nil {
			return points, s.explain(err)
		}
		p, err := s.look(ctx, c, n)
		if err != nil {
			return points, err
		}
		points = append(points, p)
	}
	return points, nil
}

// affordable is n, or how many connections the server has descriptors for as
// far as the last point tells. Processes that serve one connection each have
// more than they need.
func affordable(points []IdlePoint, n int) (int, error) {
	first, last := points[0], points[len(points)-1]
	if last.Connections == 0 {
		return n, nil
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	each := float64(last.Descriptors-first.Descriptors) / float64(last.Connections)
	most := float64(min(limit.Max, 1<<30)) - float64(first.Descriptors) - spareDescriptors
	if float64(n)*each > most {
		n = int(most/each) / 100 * 100
	}
	return n, nil
}

// look reads what the server has now, its garbage collected where it can be.
func (s *session) look(ctx context.Context, c Candidate, connections int) (IdlePoint, error) {
	p := IdlePoint{Connections: connections}
	if c.Collects {
		if err := s.server.collect(ctx); err != nil {
			return p, err
		}
	}
	var err error
	if p.Resident, err = Resident(s.server.cmd.Process.Pid); err != nil {
		return p, err
	}
	p.Descriptors, err = Descriptors(s.server.cmd.Process.Pid)
	return p, err
}

// PerConnection is how many bytes and descriptors a connection adds, from point
// i to point j.
func (r IdleRow) PerConnection(i, j int) (resident, descriptors float64) {
	a, b := r.Points[i], r.Points[j]
	n := float64(b.Connections - a.Connections)
	return float64(b.Resident-a.Resident) / n, float64(b.Descriptors-a.Descriptors) / n
}

// complete tells whether there are points to compare.
func (r IdleRow) complete() bool { return len(r.Points) > 2 }

// Overall is from the first point with connections to the last.
func (r IdleRow) Overall() (resident, descriptors float64) {
	return r.PerConnection(1, len(r.Points)-1)
}
