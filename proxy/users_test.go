// This file tests users, their file, and the checks of passwords.

package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// hashOf is a hash that is checked quickly.
func hashOf(t testing.TB, password string) string { return hashOfCost(t, password, bcrypt.MinCost) }

func hashOfCost(t testing.TB, password string, cost int) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func someUsers(t testing.TB, lines ...string) *Users {
	t.Helper()
	u, err := ReadUsers(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUsers(t *testing.T) {
	other := strings.Replace(hashOf(t, "h t\x00tp"), "$2a$", "$2y$", 1)
	u := someUsers(t, "# people", "", "alice:"+hashOf(t, "secret"), "bob:"+other+"  \r")
	if u.Len() != 2 {
		t.Errorf("%d users", u.Len())
	}
	for range 2 { // the second time from memory
		for _, c := range []struct {
			name, pass string
			want       bool
		}{
			{"alice", "secret", true},
			{"bob", "h t\x00tp", true},
			{"alice", "Secret", false},
			{"alice", "h t\x00tp", false},
			{"alice", "", false},
			{"", "", false},
			{"", "secret", false},
			{"Alice", "secret", false},
			{"carol", "secret", false},
			{"# people", "", false},
			{"alic", "esecret", false},
			{"alice", strings.Repeat("x", 255), false},
		} {
			if ok, err := u.Check(t.Context(), "here", c.name, c.pass); ok != c.want || err != nil {
				t.Errorf("%q, %q: %v, %v", c.name, c.pass, ok, err)
			}
		}
	}
	if len(u.queues) != 0 || len(u.checks) != 0 {
		t.Errorf("left behind: %v, %d checks", u.queues, len(u.checks))
	}
}

// bcrypt looks at 72 bytes: a password that agrees in those is still another.
func TestLongPassword(t *testing.T) {
	long := strings.Repeat("p", maxPassword)
	u := someUsers(t, "alice:"+hashOf(t, long))
	if ok, _ := u.Check(t.Context(), "", "alice", long); !ok {
		t.Error("72 bytes are refused")
	}
	if ok, _ := u.Check(t.Context(), "", "alice", long+"x"); ok {
		t.Error("73 bytes are the same as 72")
	}
	if _, err := HashPassword("alice", long+"x"); err == nil {
		t.Error("73 bytes are hashed")
	}
}

func TestUsersFile(t *testing.T) {
	good := "alice:" + hashOf(t, "secret")
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "no user"},
		{"comments", "# a\n\n", "no user"},
		{"plain", "alice:secret", "not hashed"},
		{"plain of that length", "alice:" + strings.Repeat("s", 60), "not hashed"},
		{"other hash", "alice:$6$salt$" + strings.Repeat("a", 60), "not hashed"},
		{"SHA1", "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "not hashed"},
		{"broken salt", good[:13] + "!" + good[14:], "not hashed"},
		{"cut", good[:len(good)-1], "not hashed"},
		{"longer", good + "x", "not hashed"},
		{"no colon", "alice", "NAME:HASH"},
		{"no name", ":" + hashOf(t, "x"), "empty"},
		{"long name", strings.Repeat("n", 256) + good[5:], "255"},
		{"escape in the name", "a\x1bb" + good[5:], "control"},
		{"twice", good + "\n" + good, "line 2: the user \"alice\" is there twice"},
		{"too dear", "alice:$2a$31$" + good[13:], "cost is 31"},
		{"too long", strings.Repeat("#", MaxUsersFile+1), "longer than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ReadUsers(strings.NewReader(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), "secret") || strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("the error tells %q", err)
			}
		})
	}
	var many strings.Builder
	for i := range MaxUsers + 1 {
		fmt.Fprintf(&many, "u%d%s\n", i, good[5:])
	}
	if _, err := ReadUsers(strings.NewReader(many.String())); err == nil || !strings.Contains(err.Error(), "more than 10000 users") {
		t.Errorf("too many users: %v", err)
	}

	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PROXY_TEST_USERS", good)
	for _, ref := range []string{"file:" + path, "env:PROXY_TEST_USERS"} {
		if u, err := LoadUsers(ref); err != nil || u.Len() != 1 {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []string{"", "file:", path, "file:" + path + "x", "env:PROXY_TEST_NOBODY", "alice:secret"} {
		if _, err := LoadUsers(ref); err == nil {
			t.Errorf("%q was loaded", ref)
		}
	}
}

func TestHashPassword(t *testing.T) {
	line, err := HashPassword("alice", "secret")
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := someUsers(t, line).Check(t.Context(), "", "alice", "secret"); !ok || err != nil {
		t.Errorf("%q: %v, %v", line, ok, err)
	}
	for _, name := range []string{"", "a:b", "a\nb", strings.Repeat("n", 256)} {
		if _, err := HashPassword(name, "secret"); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
	if _, err := HashPassword("alice", ""); err == nil {
		t.Error("an empty password was taken")
	}
}

// A name that nobody has takes as long as one that somebody has. They are
// measured in turns, so that the machine's load is the same for all, and
// compared by their shortest times: load adds to a time, and takes nothing
// away. A difference that is there shows each time, one of the load's does not.
func TestPasswordTiming(t *testing.T) {
	u := someUsers(t, "alice:"+hashOf(t, "secret"), "bob:"+hashOf(t, "other"))
	measure := func(name string) time.Duration {
		start := time.Now()
		if ok, err := u.Check(t.Context(), "", name, "wrong"); ok || err != nil {
			t.Fatal(ok, err)
		}
		return time.Since(start)
	}
	const rounds, tries = 101, 3
	var said string
	for range tries {
		shortest := map[string]time.Duration{"alice": time.Hour, "mallory": time.Hour, "": time.Hour}
		for range rounds {
			for name, d := range shortest {
				shortest[name] = min(d, measure(name))
			}
		}
		said = fmt.Sprint(shortest)
		least, most := min(shortest["alice"], shortest["mallory"], shortest[""]), max(shortest["alice"], shortest["mallory"], shortest[""])
		if float64(most)/float64(least) < 1.25 {
			t.Log(said)
			return
		}
	}
	t.Errorf("a wrong password takes longer for some than for others: %s", said)
}

// Strangers' names cost what users' cost, each name always the same.
func TestStrangersAreSpread(t *testing.T) {
	u := someUsers(t, "alice:"+hashOfCost(t, "a", 4), "bob:"+hashOfCost(t, "b", 5))
	var seen [2]int
	for i := range 200 {
		name := strings.Repeat("x", i)
		j := u.stand(name)
		if j != u.stand(name) {
			t.Fatalf("%q changes its cost", name)
		}
		seen[j]++
	}
	if seen[0] < 50 || seen[1] < 50 {
		t.Errorf("strangers stand for %v", seen)
	}
}

// Who guesses waits for himself; somebody else is served meanwhile. The order
// is the test's: the checks are held by it.
func TestGuessersWaitForThemselves(t *testing.T) {
	u := someUsers(t, "alice:"+hashOf(t, "secret"))
	hold, err := u.takeTurn(t.Context(), "guesser") // one guess is at work
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	var guesses sync.WaitGroup
	for range 50 {
		guesses.Go(func() {
			if ok, err := u.Check(ctx, "guesser", "alice", "wrong"); ok || !errors.Is(err, errGone) {
				t.Errorf("a guess beyond the first was checked: %v, %v", ok, err)
			}
		})
	}
	until(t, "the guesses wait", func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		q := u.queues["guesser"]
		return q != nil && q.users == 51
	})
	if len(u.checks) != 1 {
		t.Errorf("one guesser has %d checks at work", len(u.checks))
	}
	if ok, err := u.Check(t.Context(), "somebody", "alice", "secret"); !ok || err != nil {
		t.Errorf("somebody else: %v, %v", ok, err)
	}
	cancel(errGone)
	guesses.Wait()
	hold()
	if len(u.queues) != 0 {
		t.Errorf("queues left behind: %v", u.queues)
	}
}

var errGone = errors.New("gone")

// However many ask, DefaultPasswordChecks are at work.
func TestChecksAreBounded(t *testing.T) {
	u := someUsers(t, "alice:"+hashOf(t, "secret"))
	var holds []func()
	for i := range DefaultPasswordChecks {
		hold, err := u.takeTurn(t.Context(), strings.Repeat("c", i))
		if err != nil {
			t.Fatal(err)
		}
		holds = append(holds, hold)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := u.Check(ctx, "another", "alice", "wrong"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more check: %v", err)
	}
	// What was right before needs no check, and so no turn.
	u.remember("alice", u.tag("alice", "secret"))
	if ok, err := u.Check(t.Context(), "another", "alice", "secret"); !ok || err != nil {
		t.Errorf("a remembered password: %v, %v", ok, err)
	}
	for _, hold := range holds {
		hold()
	}
}
