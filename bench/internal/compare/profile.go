//go:build linux

package compare

// This file says where the servers' processor time goes, by the samples of
// perf(1).

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	profileTime = 1500 * time.Millisecond            // of load for each profile
	profileCost = profileTime + 700*time.Millisecond // with perf's own
	profileRate = 1999                               // samples a second; no divisor of what the kernel does at fixed times
)

// A Profile counts the samples of one candidate in one work: by system call,
// and beside them the parts below.
type Profile struct {
	Candidate string
	Samples   int
	Calls     map[string]int
	Kernel    int // entry and exit of system calls, interrupts, page faults
	Runtime   int // Go's
	Program   int
	Err       error
}

// Profile lets every candidate that can be had work, one after the other, and
// looks where it is.
func (b *Bench) Profile(ctx context.Context, log io.Writer, p Plan, w Work, candidates []Candidate) ([]Profile, error) {
	var all []Profile
	for _, c := range candidates {
		if c.command == nil {
			continue
		}
		profile, err := b.profile(ctx, p, w, c)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(log, "%s: left out: %s\n", w.Name, leftOut(c.Name, err))
		}
		profile.Candidate, profile.Err = c.Name, err
		all = append(all, profile)
	}
	return all, nil
}

func (b *Bench) profile(ctx context.Context, p Plan, w Work, c Candidate) (Profile, error) {
	s, err := b.start(ctx, c, w)
	if err != nil {
		return Profile{}, err
	}
	defer s.stop()
	if w.Mode != churn {
		if err := s.load.open(ctx, w.Connections); err != nil {
			return Profile{}, s.explain(err)
		}
	}
	if _, err := s.load.run(ctx, p.Warmup); err != nil {
		return Profile{}, s.explain(err)
	}
	file := filepath.Join(b.Tools.dir, "perf.data")
	stop, err := record(ctx, file, tree(s.server.cmd.Process.Pid))
	if err != nil {
		return Profile{}, err
	}
	_, err = s.load.run(ctx, max(profileTime, p.Slot))
	if err := errors.Join(err, stop()); err != nil {
		return Profile{}, s.explain(err)
	}
	return read(ctx, file)
}

// record samples the processes until stop is called. The processor's clock is
// what a virtual machine has as well.
func record(ctx context.Context, file string, pids []int) (stop func() error, err error) {
	var list []string
	for _, p := range pids {
		list = append(list, strconv.Itoa(p))
	}
	ready, begun, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer begun.Close()
	cmd := exec.CommandContext(ctx, "perf", "record", "-q", "-g", "-e", "cpu-clock", "-F", strconv.Itoa(profileRate), "-o", file, "-p", strings.Join(list, ","), "--control", "fd:3,4", "-D", "-1")
	// It begins with the command "enable", and says so.
	order, control, err := os.Pipe()
	if err != nil {
		ready.Close()
		return nil, err
	}
	defer order.Close()
	cmd.ExtraFiles = []*os.File{order, begun}
	var said tail
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		ready.Close()
		control.Close()
		return nil, err
	}
	stop = func() error {
		_, err := control.WriteString("stop\n")
		if err != nil {
			_ = cmd.Process.Kill()
		}
		err = errors.Join(err, cmd.Wait())
		ready.Close() // only now: it answers
		control.Close()
		if err != nil {
			return fmt.Errorf("perf record: %w, %s", err, &said)
		}
		return nil
	}
	if _, err := control.WriteString("enable\n"); err != nil {
		return nil, errors.Join(err, stop())
	}
	_ = ready.SetReadDeadline(time.Now().Add(startTimeout))
	if answer, err := bufio.NewReader(ready).ReadString('\n'); err != nil || !strings.HasPrefix(answer, "ack") {
		return nil, errors.Join(fmt.Errorf("perf record does not begin: %q, %s", answer, &said), stop())
	}
	return stop, nil
}

// read counts the samples of a file.
func read(ctx context.Context, file string) (Profile, error) {
	cmd := exec.CommandContext(ctx, "perf", "script", "-i", file, "-F", "ip,sym,dso", "--max-stack", "64")
	out, err := cmd.Output()
	if err != nil {
		var said *exec.ExitError
		if errors.As(err, &said) {
			err = fmt.Errorf("%w: %.300s", err, bytes.TrimSpace(said.Stderr))
		}
		return Profile{}, fmt.Errorf("perf script: %w", err)
	}
	return parseSamples(out)
}

// parseSamples reads what perf script prints: a line for each frame, the
// innermost first, and an empty one behind each sample.
func parseSamples(text []byte) (Profile, error) {
	p := Profile{Calls: map[string]int{}}
	var sample []frame
	end := func() {
		if len(sample) > 0 {
			p.count(sample)
		}
		sample = sample[:0]
	}
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) == 0 {
			end()
			continue
		}
		f := frame{object: strings.Trim(fields[len(fields)-1], "()")}
		if len(fields) > 2 {
			f.symbol = fields[1]
		}
		sample = append(sample, f)
	}
	end()
	if p.Samples == 0 {
		return p, errors.New("perf took no samples")
	}
	return p, nil
}

// A frame is a function and the object file it is in.
type frame struct{ symbol, object string }

// isKernel knows the kernel and its modules, which are in brackets.
func (f frame) isKernel() bool {
	return strings.HasPrefix(f.object, "[") && f.object != "[vdso]" && f.object != "[unknown]"
}

// systemCall is the name of the system call that a function of the kernel
// begins, such as __x64_sys_close, __sys_sendto or ksys_read.
func (f frame) systemCall() string {
	if !f.isKernel() {
		return ""
	}
	before, call, ok := strings.Cut(f.symbol, "sys_")
	switch {
	case ok && (before == "k" || strings.HasPrefix(before, "__") && strings.HasSuffix(before, "_")):
		return call
	case f.symbol == "do_readv" || f.symbol == "do_writev":
		return strings.TrimPrefix(f.symbol, "do_")
	}
	return ""
}

func (p *Profile) count(sample []frame) {
	p.Samples++
	inner := sample[0]
	switch {
	case inner.isKernel():
		for _, f := range slices.Backward(sample) {
			if call := f.systemCall(); call != "" {
				p.Calls[call]++
				return
			}
		}
		p.Kernel++
	case strings.HasPrefix(inner.symbol, "runtime.") || strings.HasPrefix(inner.symbol, "internal/runtime/"):
		p.Runtime++
	default:
		p.Program++
	}
}

// leastShare is from which part of the whole a system call has its figure.
const leastShare = 0.01

// calls lists the system calls, the largest first.
func (p *Profile) calls() string {
	type call struct {
		name string
		n    int
	}
	var all []call
	for name, n := range p.Calls {
		if float64(n) >= leastShare*float64(p.Samples) {
			all = append(all, call{name, n})
		}
	}
	slices.SortFunc(all, func(a, b call) int { return cmp.Or(b.n-a.n, strings.Compare(a.name, b.name)) })
	var parts []string
	for _, c := range all {
		parts = append(parts, c.name+" "+p.share(c.n))
	}
	return strings.Join(parts, ", ")
}

func (p *Profile) share(n int) string {
	return fmt.Sprintf("%.0f %%", 100*float64(n)/float64(p.Samples))
}

// ProfileTable is where the time of a work goes.
func ProfileTable(w Work, profiles []Profile) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s: profile\n\n| | in system calls | of which | kernel beside them | Go's runtime | the program |\n|---|---|---|---|---|---|\n", w.Title)
	var missing []string
	for _, p := range profiles {
		if p.Err != nil {
			missing = append(missing, leftOut(p.Candidate, p.Err))
			continue
		}
		sum := 0
		for _, n := range p.Calls {
			sum += n
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", p.Candidate, p.share(sum), p.calls(), p.share(p.Kernel), p.share(p.Runtime), p.share(p.Program))
	}
	b.WriteByte('\n')
	writeLeftOut(&b, missing)
	return b.String()
}
