//go:build !linux || anysock_portable

package load

import "sync"

// haveLoops says that there is an engine on loops.
const haveLoops = false

// loops are not to be had here: the runtime's poller drives every line.
type loops struct{}

func (r *run) takeSockets() error { return nil }
func (r *run) makeCallers() error { return nil }

func (*loops) start(*sync.WaitGroup)       {}
func (*loops) stop()                       {}
func (*loops) over()                       {}
func (*loops) cut(verdict)                 {}
func (*loops) abort()                      {}
func (*loops) moved() (int64, int64, bool) { return 0, 0, false }
