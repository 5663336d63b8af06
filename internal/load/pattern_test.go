package load

import (
	"bytes"
	"context"
	"testing"

	"github.com/anysock/anysock"
)

// What a stream may do wrong is found: bytes lost, doubled, changed, in the
// wrong order, or of another connection.
func TestPatternFindsWhatIsWrong(t *testing.T) {
	const size = 250
	p := newPattern(writePiece)
	for _, start := range []int64{0, 17, patternPeriod - 100, 5*patternPeriod + 3} {
		sent := append([]byte(nil), p.at(start, 4*size)...)
		if at := p.differs(start, sent); at != -1 {
			t.Fatalf("right bytes from %d differ at %d", start, at)
		}
		for name, wrong := range map[string]struct {
			got []byte
			at  int
		}{
			"a byte changed":    {changed(sent, 600), 600},
			"the last changed":  {changed(sent, 4*size-1), 4*size - 1},
			"a message lost":    {append(append([]byte(nil), sent[:size]...), sent[2*size:]...), size},
			"a message doubled": {append(append([]byte(nil), sent[:2*size]...), sent[size:]...), 2 * size},
			"a byte lost":       {append([]byte(nil), sent[1:]...), 0},
		} {
			// The byte there may be the same by chance, and then the next differs.
			if at := p.differs(start, wrong.got); at < wrong.at || at > wrong.at+8 {
				t.Errorf("from %d, %s: found at %d, want %d", start, name, at, wrong.at)
			}
		}
	}
	seen := map[int64]bool{}
	for line := range 1000 {
		for again := range 3 {
			start := streamStart(line, again)
			if seen[start] {
				t.Fatalf("line %d begins like another one", line)
			}
			seen[start] = true
		}
	}
}

func changed(b []byte, i int) []byte {
	c := append([]byte(nil), b...)
	c[i] ^= 1
	return c
}

// A comparison longer than a piece goes on after it.
func TestPatternComparesLongReads(t *testing.T) {
	p := newPattern(10)
	var got []byte
	for pos := int64(0); pos < 3*patternPeriod; pos += 10 {
		got = append(got, p.at(pos, 10)...)
	}
	if at := p.differs(0, got); at != -1 {
		t.Errorf("right bytes differ at %d", at)
	}
	if at := p.differs(0, changed(got, 2*patternPeriod)); at != 2*patternPeriod {
		t.Errorf("found at %d", at)
	}
}

// What chargen of this module sends is what down compares with.
func TestChargenPattern(t *testing.T) {
	c, err := anysock.Dial(context.Background(), "chargen:")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, 100_000)
	if _, err := c.ReadAtLeast(context.Background(), got, len(got)); err != nil {
		t.Fatal(err)
	}
	p := newChargenPattern(readPiece)
	if at := p.differs(0, got); at != -1 {
		t.Errorf("differs at %d: %q", at, got[at:at+80])
	}
	if bytes.Count(got[:7030], []byte("\r\n")) != 95 {
		t.Error("not 95 lines in a cycle")
	}
}
