//go:build unix

package main

import (
	"os"
	"syscall"
)

// pipeSignal is sent for a write to a pipe that nobody reads.
var pipeSignal os.Signal = syscall.SIGPIPE

// catchable are the signals that would end the process (signal(7)), with a
// stack trace or without, and leave its socket files behind. Not among them:
// SIGKILL, which nobody catches; SIGPIPE, see ignorePipeSignal; SIGPROF, which
// the runtime uses.
func catchable() []os.Signal {
	return append([]os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGVTALRM,
		syscall.SIGIO, syscall.SIGXCPU, syscall.SIGXFSZ,
		// Only those that somebody sends: a fault of our own is a panic.
		syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGSYS,
		syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV,
	}, catchableHere...)
}

// isUrgent: who sends a quit or an abort does not want to wait for a drain.
func isUrgent(sig os.Signal) bool {
	switch sig {
	case syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2:
		return false
	}
	return true
}
