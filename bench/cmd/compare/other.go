//go:build !linux

// Compare measures servers and relays on Linux, and nothing elsewhere.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "compare: it pins processes and reads /proc, which is Linux's")
	os.Exit(1)
}
