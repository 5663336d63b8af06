//go:build linux

package compare

// This file starts a candidate with its load, and measures one slot of it.

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"regexp"
	"time"
)

// boundAddress is the line in which a server says where it listens; engines may
// print lines of their own before it.
var boundAddress = regexp.MustCompile(`^127\.0\.0\.1:[0-9]+$`)

// A Bench is where everything runs.
type Bench struct {
	Tools      *Toolbox
	ServerCPUs []int // for one thread; a server with more may use all
	LoadCPUs   []int
	AllCPUs    []int
	Samples    *json.Encoder // where every slot is written too; nil is nowhere
}

// A session is a candidate at work under load.
type session struct {
	server  *process // nil: there is none, the load is alone
	load    *load
	target  *os.File // the load's listening socket, if it is the target of a relay
	address string
}

// start starts the candidate and its load; no connection is open yet.
func (b *Bench) start(ctx context.Context, c Candidate, w Work) (_ *session, err error) {
	s := &session{}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	o := order{threads: w.threads(), buffer: w.Buffer, dir: b.Tools.dir}
	if w.Relay {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		o.target = ln.Addr().String()
		s.target, err = ln.(*net.TCPListener).File()
		_ = ln.Close() // the copy goes on listening
		if err != nil {
			return nil, err
		}
	}
	s.address = o.target
	if c.command != nil {
		if err := b.startServer(ctx, c, w, o, s); err != nil {
			return nil, err
		}
	}
	program, err := b.Tools.c(ctx, "load")
	if err != nil {
		return nil, err
	}
	s.load, err = startLoad(ctx, program, b.LoadCPUs, s.address, s.target, w.loadArguments()...)
	return s, err
}

func (b *Bench) startServer(ctx context.Context, c Candidate, w Work, o order, s *session) error {
	path, err := c.prepare(ctx, b.Tools)
	if err != nil {
		return err
	}
	if !c.chooses {
		if o.port, err = freePort(); err != nil {
			return err
		}
	}
	cmd, err := c.command(path, o)
	if err != nil {
		return err
	}
	if w.MaxProcs > 0 {
		cmd.Env = append(cmd.Environ(), fmt.Sprintf("GOMAXPROCS=%d", w.MaxProcs))
	}
	cpus := b.ServerCPUs
	if w.threads() > 1 {
		cpus = b.AllCPUs
	}
	if s.server, err = start(cmd, cpus, c.chooses); err != nil {
		return err
	}
	if c.chooses {
		s.address, err = s.server.line(ctx, startTimeout, boundAddress)
		return err
	}
	s.address = o.address()
	return s.server.listens(ctx, o.port)
}

// freePort is a port that nobody uses now.
func freePort() (int, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// slot measures the candidate once.
func (s *session) slot(ctx context.Context, w Work, warmup, d time.Duration) (Sample, error) {
	if _, err := s.load.run(ctx, warmup); err != nil {
		return Sample{}, s.explain(err)
	}
	before, err := s.cpu()
	if err != nil {
		return Sample{}, err
	}
	r, err := s.load.run(ctx, d)
	if err != nil {
		return Sample{}, s.explain(err)
	}
	after, err := s.cpu()
	if err != nil {
		return Sample{}, err
	}
	units := float64(r.Messages)
	if w.Mode == bulk {
		units = float64(r.Bytes) / 1e9
	}
	if units == 0 {
		return Sample{}, fmt.Errorf("nothing came back in %v", d)
	}
	return Sample{
		Units: units, Elapsed: r.Elapsed, ServerCPU: after - before, LoadCPU: r.CPU, P50: r.P50, P99: r.P99,
	}, nil
}

func (s *session) cpu() (time.Duration, error) {
	if s.server == nil {
		return 0, nil
	}
	return CPUTime(s.server.cmd.Process.Pid)
}

// explain adds what the server said, if it has ended.
func (s *session) explain(err error) error {
	if s.server != nil {
		select {
		case <-s.server.ended:
			return fmt.Errorf("%w; %w", err, s.server.failure())
		default:
		}
	}
	return err
}

func (s *session) stop() {
	if s.load != nil {
		s.load.stop()
	}
	if s.server != nil {
		s.server.stop()
	}
	if s.target != nil {
		_ = s.target.Close()
	}
}
