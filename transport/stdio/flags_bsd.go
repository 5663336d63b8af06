//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package stdio

import "syscall"

// openFlags are not asked for here: a descriptor counts as inherited and open
// both ways, and a wrong use of it fails when it is read or written.
func openFlags(int) (read, write, closeOnExec bool, err error) { return true, true, false, nil }

// maxUnlisted is how far closeOnExec looks: not every system lists the
// descriptors of a process.
const maxUnlisted = 1024

// closeOnExec keeps descriptors that we have inherited from programs that we
// start. On the others the flag is set already, and on a number that is not
// open this does nothing.
func (d *descriptors) closeOnExec() {
	for n := syscall.Stderr + 1; n < maxUnlisted; n++ {
		syscall.CloseOnExec(n)
	}
}
