package reactor

import (
	"testing"
	"time"
)

// Where connections are short a Monitor does not hold on to those that are
// closed, and those that are open stay.
func TestMonitorForgetsClosed(t *testing.T) {
	if !AcksKnown {
		t.Skip("this back end does not know what is acknowledged")
	}
	a := quick
	r := newRig(t, &a)
	_, stays := r.pair()
	r.on(func() {
		m := r.loop.NewMonitor(time.Hour, func(*Node, time.Duration) { t.Error("nobody is lost") })
		m.Owe(&stays.Node)
		for range 100 * minCrowd { // each was open, has sent, and is closed
			n := &Node{gen: 1}
			m.Owe(n)
			n.gen = 0
			if len(m.sent) > minCrowd || cap(m.sent) > 2*minCrowd {
				t.Errorf("a Monitor of one open connection holds on to %d, with room for %d", len(m.sent), cap(m.sent))
				return
			}
		}
		if m.sent[0] != &stays.Node {
			t.Error("the one that is open is forgotten")
		}
		many := make([]Node, 10*minCrowd)
		for i := range many {
			many[i].gen = 1
			m.Owe(&many[i])
		}
		if len(m.sent) < len(many)+1 {
			t.Errorf("%d of %d open ones are left", len(m.sent), len(many)+1)
		}
		for i := range many {
			many[i].gen = 0
		}
		m.forgetClosed()
		if len(m.sent) != 1 {
			t.Errorf("%d are left of one", len(m.sent))
		}
	})
}
