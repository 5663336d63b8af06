package main

import (
	"os"
	"syscall"
)

// catchableHere are the signals that only Linux has.
var catchableHere = []os.Signal{syscall.SIGPWR, syscall.SIGSTKFLT}
