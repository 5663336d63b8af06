// This file sends a program's standard error to the log.

package stdio

import (
	"bufio"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"
)

// A lineLog logs what comes out of a pipe, a line a record, at level Info of
// slog's default logger. Its goroutine belongs to the program's and ends with
// the pipe; after the program's exit it gets exitGrace for what is left.
type lineLog struct {
	pipe *os.File
	done chan struct{}
}

func newLineLog(cmd *exec.Cmd, ours, theirs *files) (*lineLog, error) {
	r, err := newPipe(ours, theirs)
	if err != nil {
		return nil, err
	}
	cmd.Stderr = theirs.last()
	return &lineLog{pipe: r, done: make(chan struct{})}, nil
}

func (l *lineLog) start(program addr) { go l.run(program) }

func (l *lineLog) run(program addr) {
	defer close(l.done)
	r := bufio.NewReaderSize(l.pipe, maxLogLine)
	for {
		line, err := r.ReadSlice('\n') // at most maxLogLine
		if s := strings.TrimRight(string(line), "\r\n"); s != "" {
			slog.Info("standard error of a program", "program", program.name, "line", s)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// finish ends the log after the program's exit: somebody else may hold the
// pipe open.
func (l *lineLog) finish() {
	if l.pipe.SetReadDeadline(time.Now().Add(exitGrace)) != nil {
		// No deadlines on this platform: closing has to do.
		t := time.AfterFunc(exitGrace, func() { l.pipe.Close() })
		defer t.Stop()
	}
	<-l.done
	l.pipe.Close()
}
