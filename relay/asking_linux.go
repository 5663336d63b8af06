//go:build linux && !anysock_portable

package relay

import (
	"context"

	"github.com/anysock/anysock/internal/sys"
)

// This file finds the addresses of the target's name for those who dial on a
// loop.

// An asking is one look-up of the target's name, for all that dial meanwhile:
// there is one goroutine for it, however many connections wait.
type asking struct {
	found   [][]*destination // so far
	waiting map[*dialing]struct{}
}

func (a *asking) forget(d *dialing) { delete(a.waiting, d) }

// ask looks for the addresses of the target's name.
func (core *core) ask(d *dialing) {
	if a := core.asking; a != nil {
		a.waiting[d] = struct{}{}
		for _, addrs := range a.found {
			d.enqueue(addrs)
		}
		return
	}
	a := &asking{waiting: map[*dialing]struct{}{d: {}}}
	core.asking = a
	e := core.e
	e.lookups.Go(func() { core.lookUp(e.r.ctx, a) })
}

// lookUp is a goroutine of the engine's, ended by ctx.
func (core *core) lookUp(ctx context.Context, a *asking) {
	core.e.dial.Lookup(ctx, func(addrs []sys.Addr, err error) {
		list := destinations(addrs)
		core.loop.Tell(func() { core.foundAddrs(a, list, err) })
	})
	core.loop.Tell(func() {
		core.asking = nil
		for d := range a.waiting {
			delete(a.waiting, d)
			d.looking = false
			d.step()
		}
	})
}

// foundAddrs has those who wait try what was found.
func (core *core) foundAddrs(a *asking, addrs []*destination, err error) {
	a.found = append(a.found, addrs)
	for d := range a.waiting {
		if err != nil {
			d.resolve = err
		}
		d.enqueue(addrs)
		d.step()
	}
}

// enqueue adds a later answer, alternating with what is left of the earlier.
func (d *dialing) enqueue(fresh []*destination) {
	out := make([]*destination, 0, len(d.queue)+len(fresh))
	for i := 0; i < len(d.queue) || i < len(fresh); i++ {
		if i < len(fresh) {
			out = append(out, fresh[i])
		}
		if i < len(d.queue) {
			out = append(out, d.queue[i])
		}
	}
	d.queue = out
}
