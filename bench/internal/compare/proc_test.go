//go:build linux

package compare

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func TestParseEnded(t *testing.T) {
	// The name is in parentheses and may hold parentheses and spaces.
	const stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 70 8 20 0 1 0 100 0 0"
	got, err := parseEnded(stat)
	if want := 780 * time.Millisecond; err != nil || got != want {
		t.Errorf("got %v and %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "42 (a) S 1", "42 (a) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 x 8 20"} {
		if got, err := parseEnded(bad); err == nil {
			t.Errorf("%q gave %v", bad, got)
		}
	}
}

func TestParseKB(t *testing.T) {
	const status = "Name:\tx\nVmHWM:\t   99 kB\nVmRSS:\t    1234 kB\nVmRSSX:\t1 kB\n"
	if got, err := parseKB(status, "VmRSS:"); err != nil || got != 1234<<10 {
		t.Errorf("VmRSS is %d, error %v", got, err)
	}
	for _, bad := range []string{"", "VmRSS: 12\n", "VmRSS: x kB\n"} {
		if got, err := parseKB(bad, "VmRSS:"); err == nil {
			t.Errorf("%q gave %d", bad, got)
		}
	}
}

func TestParseListening(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 2 1
`
	for port, want := range map[int]bool{8080: true, 8081: false, 80: false, 0x90: false} {
		if got := parseListening(table, port); got != want {
			t.Errorf("port %d: %v, want %v", port, got, want)
		}
	}
}

func TestParseProcessor(t *testing.T) {
	if got := parseProcessor("processor\t: 0\nmodel name\t: Some CPU: 3 GHz\n"); got != "Some CPU: 3 GHz" {
		t.Errorf("got %q", got)
	}
	if got := parseProcessor(""); got != "unknown processor" {
		t.Errorf("got %q", got)
	}
}

// command starts a shell script that is stopped with the test.
func command(t *testing.T, cpus []int, script string) *process {
	t.Helper()
	if err := Adopt(); err != nil {
		t.Fatal(err)
	}
	p, err := start(exec.Command("/bin/sh", "-c", script), cpus, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

func mustLine(t *testing.T, p *process, pattern string) string {
	t.Helper()
	text, err := p.line(context.Background(), startTimeout, regexp.MustCompile(pattern))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func processors(t *testing.T) []int {
	t.Helper()
	cpus, err := CPUs()
	if err != nil {
		t.Fatal(err)
	}
	return cpus
}

func TestStartPins(t *testing.T) {
	cpus := processors(t)
	before := fmt.Sprint(cpus)
	for _, cpu := range cpus {
		p := command(t, []int{cpu}, "grep ^Cpus_allowed_list: /proc/self/status")
		mustLine(t, p, fmt.Sprintf(`^Cpus_allowed_list:\s+%d$`, cpu))
	}
	if after := fmt.Sprint(processors(t)); after != before {
		t.Errorf("this process may use %s, and before %s", after, before)
	}
}

// TestCPUTimeCountsDescendants has a script work itself, in a child that lives
// on, and in a child that ends.
func TestCPUTimeCountsDescendants(t *testing.T) {
	const work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
	for name, script := range map[string]string{
		"itself":       work + "; echo done; read x",
		"living child": "(" + work + "; echo done; read x); echo",
		"ended child":  "(" + work + "); echo done; read x",
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe() // which the script waits on
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			if err := Adopt(); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/bin/sh", "-c", script)
			cmd.Stdin = r
			p, err := start(cmd, processors(t), true)
			if err != nil {
				t.Fatal(err)
			}
			defer p.stop()
			mustLine(t, p, "^done$")
			used, err := CPUTime(cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			// Two hundred thousand turns of a shell's loop take more than this anywhere.
			if used < 20*time.Millisecond {
				t.Errorf("it used %v", used)
			}
		})
	}
	if _, err := CPUTime(1 << 29); err == nil {
		t.Error("a process that does not exist has a processor time")
	}
}

func TestStopEndsDescendants(t *testing.T) {
	p := command(t, processors(t), "sleep 1000 & echo $!; wait")
	child, err := strconv.Atoi(mustLine(t, p, "^[0-9]+$"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Fatalf("the child is not there: %v", err)
	}
	p.stop()
	if err := syscall.Kill(child, 0); err != syscall.ESRCH {
		t.Errorf("the child is still there: %v", err)
	}
}

func TestFailureTellsWhatWasSaid(t *testing.T) {
	p := command(t, processors(t), "echo out of luck >&2; exit 3")
	_, err := p.line(context.Background(), startTimeout, anyLine)
	if err == nil || !regexp.MustCompile(`exit status 3.*out of luck`).MatchString(err.Error()) {
		t.Errorf("error %v", err)
	}
}

func TestResidentAndDescriptors(t *testing.T) {
	pid := os.Getpid()
	resident, err := Resident(pid)
	if err != nil || resident < 1<<20 {
		t.Errorf("%d bytes resident, error %v", resident, err)
	}
	before, err := Descriptors(pid)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if after, err := Descriptors(pid); err != nil || after != before+2 {
		t.Errorf("%d descriptors, and %d with a pipe, error %v", before, after, err)
	}
}
