package load

import (
	"bytes"
	"math/rand/v2"
)

// This file holds the bytes that are sent, and the comparison of those that
// come back. A stream is a pattern that repeats after a prime number of
// bytes, so that a message that is lost, doubled or out of its place is found,
// and each connection begins elsewhere in it, so that bytes of another
// connection are.

const (
	// patternPeriod is a prime a little below 64 KiB.
	patternPeriod = 65521
	// patternSeed makes the bytes the same in every run.
	patternSeed = 0x616e79736f636b
	// lineStride and againStride set the streams of two connections apart.
	lineStride, againStride = 40503, 9973
)

// A pattern is an endless sequence of bytes that repeats.
type pattern struct {
	period int
	piece  int    // the longest piece that at can give
	table  []byte // a period, and what follows it for a piece
}

// newPattern makes the pattern that is sent, in pieces of at most piece bytes.
func newPattern(piece int) *pattern {
	b := make([]byte, patternPeriod)
	source := rand.New(rand.NewPCG(patternSeed, patternSeed))
	for i := range b {
		b[i] = byte(source.Uint32())
	}
	return repeated(b, piece)
}

// chargenRing, chargenWidth and chargenFirst are those of RFC 864: lines of 72
// of the 95 printing characters, each line beginning one later.
const chargenRing, chargenWidth, chargenFirst = 95, 72, ' '

// newChargenPattern makes what anysock's chargen service sends.
func newChargenPattern(piece int) *pattern {
	var b []byte
	for line := range chargenRing {
		for i := range chargenWidth {
			b = append(b, chargenFirst+byte((line+i)%chargenRing))
		}
		b = append(b, '\r', '\n')
	}
	return repeated(b, piece)
}

func repeated(period []byte, piece int) *pattern {
	p := &pattern{period: len(period), piece: piece, table: period}
	for len(p.table) < p.period+piece {
		p.table = append(p.table, p.table[:min(p.period, p.period+piece-len(p.table))]...)
	}
	return p
}

// at is n bytes from a position; n is at most a piece.
func (p *pattern) at(pos int64, n int) []byte {
	off := int(pos % int64(p.period))
	return p.table[off : off+n]
}

// differs is the index of the first byte of got that is not what the pattern
// has at pos and after, or -1.
func (p *pattern) differs(pos int64, got []byte) int {
	for done := 0; done < len(got); {
		part := got[done:min(len(got), done+p.piece)]
		want := p.at(pos+int64(done), len(part))
		if !bytes.Equal(part, want) {
			for i := range part {
				if part[i] != want[i] {
					return done + i
				}
			}
		}
		done += len(part)
	}
	return -1
}

// streamStart is where in the pattern the stream of a connection begins; again
// counts the connections that took the place of one that failed.
func streamStart(line, again int) int64 {
	return (int64(line)*lineStride + int64(again)*againStride) % patternPeriod
}
