package bench

import (
	"io"
	"testing"
)

// This file moves bytes one way between two ends in one process, for the
// benchmarks of throughput.

// pour writes total bytes to from, piece by piece, and reads them at to.
func pour(tb testing.TB, from io.Writer, to io.Reader, total, piece int) {
	tb.Helper()
	read := make(chan error, 1)
	go func() {
		buf := make([]byte, piece)
		var err error
		for left := total; left > 0 && err == nil; {
			var n int
			n, err = to.Read(buf)
			left -= n
		}
		read <- err
	}()
	buf := make([]byte, piece)
	for left := total; left > 0; left -= piece {
		if _, err := from.Write(buf[:min(left, piece)]); err != nil {
			tb.Fatal(err)
		}
	}
	if err := <-read; err != nil {
		tb.Fatal(err)
	}
}
