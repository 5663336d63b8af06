// Package all registers every transport and proxy hop there is. Import it for
// its effect where any address should work; a program that needs a few imports
// those alone.
package all

import (
	_ "github.com/anysock/anysock/transport/stdio" // stdio, fd, exec
)
