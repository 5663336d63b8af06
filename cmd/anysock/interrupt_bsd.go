//go:build unix && !linux

package main

import "os"

// catchableHere: beside Linux no further signal ends a process.
var catchableHere []os.Signal
