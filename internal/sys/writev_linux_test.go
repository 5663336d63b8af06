//go:build linux && !anysock_portable

package sys

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// manyBuffers is more buffers than one call takes, with empty ones, and more
// bytes than a socket holds.
func manyBuffers() (bufs [][]byte, all []byte) {
	for i := range 3*maxVectors + 7 {
		b := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, (i%5)*(i%7)*70)
		bufs = append(bufs, b)
		all = append(all, b...)
	}
	return bufs, all
}

func TestWritevOfManyBuffers(t *testing.T) {
	a, b := pair(t)
	bufs, all := manyBuffers()
	got := make(chan []byte, 1)
	go func() { got <- readAll(t, b) }()
	n, err := a.Writev(bufs)
	if n != int64(len(all)) || err != nil {
		t.Errorf("%d of %d bytes, %v", n, len(all), err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(<-got, all) {
		t.Error("what came is not what was sent")
	}
	if again, _ := manyBuffers(); len(again) != len(bufs) || !bytes.Equal(bytes.Join(bufs, nil), all) {
		t.Error("the buffers were changed")
	}
}

// A deadline that passes in the middle leaves a true count.
func TestWritevCount(t *testing.T) {
	a, b := pair(t)
	bufs, all := manyBuffers()
	var sent int64
	for {
		if err := a.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := a.Writev(bufs)
		sent += n
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	got := readAll(t, b)
	want := bytes.Repeat(all, 1+len(got)/len(all))[:len(got)]
	if int64(len(got)) != sent || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came, or others; %d were counted", len(got), sent)
	}
}

// What a call needs is used again.
func TestWritevDoesNotAllocate(t *testing.T) {
	a, b := pair(t)
	bufs := [][]byte{make([]byte, 10), nil, make([]byte, 20), make([]byte, 30)}
	in := make([]byte, 60)
	if allocs := testing.AllocsPerRun(200, func() {
		if n, err := a.Writev(bufs); n != 60 || err != nil {
			t.Fatal(n, err)
		}
		if _, err := io.ReadFull(b, in); err != nil {
			t.Fatal(err)
		}
	}); allocs > 1 { // the race detector lets pools forget
		t.Errorf("%v allocations", allocs)
	}
}
