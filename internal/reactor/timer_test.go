package reactor

import (
	"math/rand/v2"
	"testing"

	"github.com/anysock/anysock/internal/sys"
)

// An alarm is a Source that has a timer only.
type alarm struct {
	Node
	want uint32 // the tick at which it is to run out; 0: not set
	rang func(*alarm)
}

func (*alarm) Ready(sys.Events) {}
func (a *alarm) Expired()       { a.rang(a) }

func newAlarm(rang func(*alarm)) *alarm {
	a := &alarm{rang: rang}
	a.Source = a
	return a
}

// Timers run out at their tick, in order, whatever is set and stopped
// meanwhile, by the Sources too, and however time jumps; and the wheel always
// knows the next.
func TestWheel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := &wheel{current: r.Uint32()} // near the wrap of the counter now and then
		if seed == 0 {
			w.current = 1<<32 - 300
		}
		ahead := func() uint32 {
			switch r.IntN(4) {
			case 0:
				return 1 + r.Uint32N(3)
			case 1:
				return 1 + r.Uint32N(slots)
			case 2:
				return 1 + r.Uint32N(slots*slots*2)
			}
			return 1 + r.Uint32N(2*horizon)
		}
		var alarms []*alarm
		set := 0
		rang := 0
		var now uint32 // of the advance at work
		stop := func(a *alarm) {
			if a.want != 0 {
				set--
			}
			a.unlink()
			a.want = 0
		}
		start := func(a *alarm, d uint32) {
			stop(a)
			a.want = w.current + d
			if a.want == 0 {
				a.want = 1
			}
			w.set(&a.Node, a.want)
			set++
		}
		for range 200 {
			alarms = append(alarms, newAlarm(func(a *alarm) {
				if a.want != w.current {
					t.Fatalf("seed %d: ran out at %d, not at %d", seed, w.current, a.want)
				}
				a.want = 0
				set--
				rang++
				switch r.IntN(4) {
				case 0:
					start(a, ahead())
				case 1:
					stop(alarms[r.IntN(len(alarms))])
				case 2:
					start(alarms[r.IntN(len(alarms))], ahead())
				}
			}))
		}
		for range 3000 {
			switch r.IntN(3) {
			case 0:
				start(alarms[r.IntN(len(alarms))], ahead())
			case 1:
				if r.IntN(4) == 0 {
					stop(alarms[r.IntN(len(alarms))])
				}
			case 2:
				next, ok := w.next()
				first, some := uint32(0), false
				for _, a := range alarms {
					if a.want != 0 && (!some || int32(a.want-first) < 0) {
						first, some = a.want, true
					}
				}
				if some && (!ok || int32(next-first) > 0) {
					t.Fatalf("seed %d: the next look is at %d (%v), but a timer runs out at %d", seed, next, ok, first)
				}
				if !some && set != 0 {
					t.Fatalf("seed %d: %d timers are set, none was found", seed, set)
				}
				now = w.current + ahead()
				if r.IntN(2) == 0 && ok {
					now = next
				}
				w.advance(now)
				if w.current != now {
					t.Fatalf("seed %d: advanced to %d, not %d", seed, w.current, now)
				}
				for _, a := range alarms {
					if a.want != 0 && int32(a.want-now) <= 0 {
						t.Fatalf("seed %d: at %d a timer of %d has not run out", seed, now, a.want)
					}
				}
			}
		}
		if rang < 100 {
			t.Fatalf("seed %d: only %d timers ran out", seed, rang)
		}
	}
}
