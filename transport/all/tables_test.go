package all_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anysock/anysock"
)

// The table of docs/ARCHITECTURE.md stands between these lines.
const (
	tableBegins = "<!-- endings from leg to leg: made by transport/all, checked by TestTables -->\n"
	tableEnds   = "<!-- end -->\n"
)

// TestTables: the document says of every pair what TestMatrix requires of it.
// With ANYSOCK_WRITE_TABLES=1 it writes the table.
func TestTables(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "ARCHITECTURE.md")
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := endingsTable(carriers(t))
	before, rest, found := strings.Cut(string(doc), tableBegins)
	got, after, ends := strings.Cut(rest, tableEnds)
	if !found || !ends {
		t.Fatalf("%s has no place for the table:\n%s%s%s", path, tableBegins, want, tableEnds)
	}
	if got == want {
		return
	}
	if os.Getenv("ANYSOCK_WRITE_TABLES") != "" {
		if err := os.WriteFile(path, []byte(before+tableBegins+want+tableEnds+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s says\n%s\nbut is to say (ANYSOCK_WRITE_TABLES=1 writes it)\n%s", path, got, want)
}

// A beginning is one kind of ending as it begins on some carriers.
type beginning struct {
	ending string
	legs   []string // where it begins
	says   string   // the relay's record
	tells  func(to carrier) string
}

// endingsTable has a row for each ending and the carriers on which it looks
// the same, and a column for the carriers that tell everything in the same
// way.
func endingsTable(all []carrier) string {
	columns := groups(all, func(c carrier) string { return fmt.Sprint(c.halfCloses(), c.abort, c.became) })
	var rows []beginning
	for _, from := range groups(all, func(c carrier) string { return fmt.Sprint(c.halfCloses()) }) {
		if from[0].halfCloses() {
			rows = append(rows, beginning{"half-close", namesOf(from), anysock.Graceful.String(), toldOfHalfClose})
		} else {
			rows = append(rows, beginning{"half-close", namesOf(from), never, func(carrier) string { return never }})
		}
	}
	for _, from := range groups(all, func(c carrier) string { return c.abort }) {
		how, tells := seenAs(from[0].abort), toldOfAbort
		if from[0].abort == ended {
			tells = func(carrier) string { return ended }
		}
		rows = append(rows, beginning{"abort", namesOf(from), how.String(), tells})
	}
	for _, from := range groups(all, func(c carrier) string { return fmt.Sprint(c.cable != "", c.cutHow) }) {
		if from[0].cable != "" {
			rows = append(rows, beginning{"cut", namesOf(from), from[0].cutHow.String(), toldOfAbort})
		}
	}
	rows = append(rows, beginning{"refusal", []string{"any"}, anysock.Refused.String(), toldOfRefusal})

	var b strings.Builder
	b.WriteString("| ending | begins on | the record says |")
	for _, to := range columns {
		fmt.Fprintf(&b, " %s |", strings.Join(namesOf(to), ", "))
	}
	b.WriteString("\n|" + strings.Repeat("---|", 3+len(columns)) + "\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s |", r.ending, strings.Join(r.legs, ", "), r.says)
		for _, to := range columns {
			fmt.Fprintf(&b, " %s |", r.tells(to[0]))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func toldOfHalfClose(to carrier) string {
	if to.halfCloses() {
		return "half-close"
	}
	return held
}

func toldOfAbort(to carrier) string {
	if !to.caps.Has(anysock.CapAbort) {
		return to.abort + " (recorded: abort became a " + to.became + ")"
	}
	return to.abort
}

func toldOfRefusal(to carrier) string {
	return strings.Replace(toldOfAbort(to), "recorded: abort", "recorded: refusal", 1)
}

// groups puts carriers together that are alike, in their order.
func groups(all []carrier, like func(carrier) string) [][]carrier {
	var gs [][]carrier
	for _, c := range all {
		i := slices.IndexFunc(gs, func(g []carrier) bool { return like(g[0]) == like(c) })
		if i < 0 {
			gs = append(gs, []carrier{c})
			continue
		}
		gs[i] = append(gs[i], c)
	}
	return gs
}

func namesOf(cs []carrier) []string {
	var s []string
	for _, c := range cs {
		s = append(s, c.name)
	}
	return s
}
