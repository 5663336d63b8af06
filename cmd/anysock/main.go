// Command anysock connects, listens, serves and relays on stream sockets of
// any transport, and says how each connection ended. There is one file for
// each verb; run 'anysock help' for them.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}
