//go:build linux

package compare

// This file drives the load generator, bench/servers/load.c.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// A Report is what the load generator answers to one command.
type Report struct {
	Error    string        `json:"error"` // it has ended with this
	Messages int64         `json:"messages"`
	Bytes    int64         `json:"bytes"`
	Elapsed  time.Duration `json:"elapsed_ns"` // until the last answer
	CPU      time.Duration `json:"cpu_ns"`     // of the load generator
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
	Max      time.Duration `json:"max_ns"`
}

// patience is added to the time that a command takes in any case; the load
// generator itself gives up sooner.
const patience = 30 * time.Second

// A load is a load generator at work.
type load struct {
	p  *process
	in io.WriteCloser
}

var anyLine = regexp.MustCompile("")

// startLoad starts one against the address. Target, if it is not nil, is the
// listening socket at which the load generator is the target of a relay.
func startLoad(ctx context.Context, program string, cpus []int, address string, target *os.File, args ...string) (*load, error) {
	args = append(args, "-a", address)
	cmd := exec.CommandContext(ctx, program)
	if target != nil {
		const inherited = 3 // the first of ExtraFiles
		args = append(args, "-l", strconv.Itoa(inherited))
		cmd.ExtraFiles = []*os.File{target}
	}
	cmd.Args = append(cmd.Args, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p, err := start(cmd, cpus, true)
	if err != nil {
		return nil, err
	}
	return &load{p, in}, nil
}

// open opens connections until there are n.
func (l *load) open(ctx context.Context, n int) error {
	_, err := l.command(ctx, fmt.Sprintf("open %d", n), time.Duration(n)*time.Millisecond)
	return err
}

// run generates load for that long.
func (l *load) run(ctx context.Context, d time.Duration) (Report, error) {
	return l.command(ctx, fmt.Sprintf("run %d", d.Milliseconds()), d)
}

func (l *load) command(ctx context.Context, line string, takes time.Duration) (Report, error) {
	var r Report
	if _, err := io.WriteString(l.in, line+"\n"); err != nil {
		return r, fmt.Errorf("load generator: %w", err)
	}
	text, err := l.p.line(ctx, takes+patience, anyLine)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, fmt.Errorf("load generator said %q: %w", text, err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

func (l *load) stop() {
	_ = l.in.Close()
	l.p.stop()
}
