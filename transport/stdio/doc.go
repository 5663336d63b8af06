// Package stdio makes streams of descriptors that a process has or inherits,
// and of programs that it starts. Import it to register three transports:
//
//	stdio:                       standard input and standard output, once
//	fd:3, fd:3?out=4             an inherited socket, terminal, or pair of pipes
//	exec:/bin/sort?arg=-u        a program's standard input and output
//
// A pipe has no reset: the end of a stdio: stream is what the process at the
// other end makes of it. A program has an exit status: one that is not zero is
// an abort, never an end of file.
//
// Use os.Stdin, os.Pipe or os/exec where no lifecycle is wanted. Descriptors
// of this process itself are for anysock.Wrap, not for fd:.
package stdio

import "time"

// The bounds of this package.
const (
	// DefaultExitTimeout is how long a program may run on once both of its
	// directions have ended, or the connection to it was closed: the option
	// exit of exec:. After a close it is then killed.
	DefaultExitTimeout = 5 * time.Second

	// exitGrace is how long the end of a program's output waits for its exit
	// status while its input is still open: nearly always both come together,
	// and a program that closes its output and runs on is not held up for long.
	exitGrace = time.Second

	// maxLogLine bounds one line of a program's standard error in the log;
	// a longer one is cut into several.
	maxLogLine = 4 << 10
)
