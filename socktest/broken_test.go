// This file tests the suite: for each case there is a transport with one
// defect, and the suite must find it by this case and by no other. The
// defects are in defects_test.go.

package socktest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// A defect is a transport that is healthy but for one thing.
type defect struct {
	name string
	// fails are the cases that must find it. For each case there is a defect
	// that only this case finds; why says how it comes that others are found
	// by several.
	fails []string
	why   string

	tr       Transport // zero is TCP
	wrap     func(c *anysock.Conn) conn
	listener func(l *anysock.Listener) listener
	selector func() (selector, error)
	pause    time.Duration // testSizes.pause; 0 is a short one
}

// suite is the suite with the defect in it, in sizes that make a run short.
func (d *defect) suite() *suite {
	tr := d.tr
	if tr.Name == "" {
		tr = tcp("tcp4", "127.0.0.1")
	}
	s := newSuite(tr)
	s.testSizes = shortSizes
	if d.pause > 0 {
		s.pause = d.pause
	}
	if d.wrap != nil {
		s.wrap = d.wrap
	}
	if d.listener != nil {
		s.wrapListener = d.listener
	}
	if d.selector != nil {
		s.newSelector = d.selector
	}
	return s
}

// shortSizes are those of a run here: there are thousands.
var shortSizes = testSizes{bound: 20 * time.Second, bulk: 256 << 10, rounds: 6, pause: 20 * time.Millisecond}

// expectedBound is the bound of a case that is to fail: many do by a call
// that does not return.
const expectedBound = 2 * time.Second

// atOnce bounds the cases that run at the same time; most of them wait.
const atOnce = 24

// A witness is a tester that records what a case says.
type witness struct {
	mu     sync.Mutex
	said   []string
	failed bool
}

func (w *witness) Helper() {}

func (w *witness) Logf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

func (w *witness) Errorf(format string, args ...any) {
	w.Logf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = true
}

func (w *witness) Fatalf(format string, args ...any) {
	w.Errorf(format, args...)
	runtime.Goexit()
}

func (w *witness) Skipf(format string, args ...any) {
	w.Logf(format, args...)
	runtime.Goexit()
}

// watch runs a case and returns what happened when it is over.
func watch(s *suite, c testCase) *witness {
	w := &witness{}
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.run(w, c)
	}()
	<-over
	return w
}

// TestDefects runs every case on every defective transport, and on healthy
// ones in the same sizes, so that what is found is the defect.
func TestDefects(t *testing.T) {
	type outcome struct {
		c testCase
		w *witness
	}
	all := append(defects(t), defect{name: "none"}, defect{name: "none with frames", tr: framedTransport(healthy)}, defect{name: "none with lc", tr: lcOverTCP()})
	outcomes := make([][]outcome, len(all))
	var runs sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, d := range all {
		s := d.suite()
		outcomes[i] = make([]outcome, 0, len(cases))
		for _, c := range cases {
			if !s.Caps.Has(c.needs) {
				continue
			}
			outcomes[i] = append(outcomes[i], outcome{c: c})
			o := &outcomes[i][len(outcomes[i])-1]
			own := *s
			if slices.Contains(d.fails, c.name) {
				own.bound = expectedBound
			}
			runs.Add(1)
			slots <- struct{}{}
			go func() {
				defer runs.Done()
				o.w = watch(&own, c)
				<-slots
			}()
		}
	}
	runs.Wait()
	for i, d := range all {
		t.Run(d.name, func(t *testing.T) {
			seen := make(map[string]bool)
			for _, o := range outcomes[i] {
				seen[o.c.name] = true
				said := strings.Join(o.w.said, "\n\t")
				switch expected := slices.Contains(d.fails, o.c.name); {
				case expected && !o.w.failed:
					t.Errorf("%s does not find it: %s", o.c.name, said)
				case expected:
					t.Logf("%s: %s", o.c.name, said)
				case o.w.failed:
					t.Errorf("%s fails too:\n\t%s", o.c.name, said)
				}
			}
			for _, name := range d.fails {
				if !seen[name] {
					t.Errorf("%s is not among the cases for this transport", name)
				}
			}
			if len(d.fails) > 1 && d.why == "" {
				t.Error("it does not say why more than one case finds it")
			}
		})
	}
}

// TestEveryCaseHasItsDefect: none was forgotten.
func TestEveryCaseHasItsDefect(t *testing.T) {
	own := make(map[string]int)
	for _, d := range defects(t) {
		if len(d.fails) == 1 {
			own[d.fails[0]]++
		}
	}
	for _, c := range cases {
		if own[c.name] == 0 {
			t.Errorf("no defect is found by %s alone", c.name)
		}
		delete(own, c.name)
	}
	for name := range own {
		t.Errorf("a defect is for %s, which is no case", name)
	}
}
