//go:build !unix

package main

import (
	"os"
	"syscall"
)

// pipeSignal: there is none.
var pipeSignal os.Signal

// catchable are the signals that would end the process.
func catchable() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

// isUrgent: none is.
func isUrgent(os.Signal) bool { return false }
