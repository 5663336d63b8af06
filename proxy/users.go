// This file knows the users of a server, and checks passwords so that an
// answer tells nothing but yes or no, and guessing costs the guesser.

package proxy

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// Users are who may use a Server, with the hashes of their passwords. Make one
// with ParseUsers, ReadUsers or LoadUsers. It may be used by several
// goroutines and by several Servers.
type Users struct {
	hashes []passwordHash // in the order of the file
	byName map[string]int // index into hashes
	seed   maphash.Seed   // chooses whose hash a stranger is checked against
	key    []byte         // of the tags: this process's own
	checks chan struct{}  // one element per check at work

	mu     sync.Mutex // guards what follows
	tags   map[string][]byte
	queues map[string]*checkQueue
}

// A passwordHash is one user's.
type passwordHash struct{ bcrypt []byte }

// A checkQueue lets one client have one password checked at a time.
type checkQueue struct {
	turn  chan struct{} // has room for one
	users int
}

// Bounds of what a file of users may ask for.
const (
	MaxUsers        = 10_000
	MaxUsersFile    = 1 << 20 // bytes
	MaxPasswordCost = 14      // bcrypt's: about a second for each check
	PasswordCost    = 10      // bcrypt's, of HashPassword: about 50 ms
	maxPassword     = 72      // bytes: bcrypt sees no more
)

// newUsers is an empty list.
func newUsers() *Users {
	u := &Users{
		byName: make(map[string]int), seed: maphash.MakeSeed(),
		key: make([]byte, sha256.Size), checks: make(chan struct{}, DefaultPasswordChecks),
		tags: make(map[string][]byte), queues: make(map[string]*checkQueue),
	}
	_, _ = rand.Read(u.key) // never fails (crypto/rand)
	return u
}

// Len is how many there are.
func (u *Users) Len() int { return len(u.hashes) }

// Check reports whether the password is the user's. from is who asks, as text:
// each has one check at work at a time, all together DefaultPasswordChecks, and
// further ones wait for their turn, so that who guesses keeps the machine busy
// with one guess at a time and everybody else is still served. The error is
// ctx's.
//
// A name that nobody has costs the same time as one that somebody has: the
// password is compared with a hash all the same, and always the same one for
// the same name. A password that was right once is remembered, as a keyed hash
// in memory, and is right at once the next time.
func (u *Users) Check(ctx context.Context, from, name, password string) (bool, error) {
	tag := u.tag(name, password)
	if u.isRemembered(name, tag) {
		return true, nil
	}
	done, err := u.takeTurn(ctx, from)
	if err != nil {
		return false, err
	}
	defer done()
	i, known := u.byName[name]
	if !known {
		i = u.stand(name)
	}
	right := bcrypt.CompareHashAndPassword(u.hashes[i].bcrypt, []byte(password)) == nil
	if !right || !known || name == "" || password == "" || len(password) > maxPassword {
		return false, nil
	}
	u.remember(name, tag)
	return true, nil
}

// stand chooses whose hash is compared when nobody has that name. Users' costs
// may differ: so a stranger's are spread as theirs are, and do not change from
// one guess to the next.
func (u *Users) stand(name string) int {
	return int(maphash.String(u.seed, name) % uint64(len(u.hashes)))
}

// tag stands for a name and a password in memory.
func (u *Users) tag(name, password string) []byte {
	h := hmac.New(sha256.New, u.key)
	// The length keeps "ab"+"c" and "a"+"bc" apart.
	fmt.Fprintf(h, "%d:%s%s", len(name), name, password)
	return h.Sum(nil)
}

func (u *Users) isRemembered(name string, tag []byte) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return subtle.ConstantTimeCompare(u.tags[name], tag) == 1
}

// remember: there is one for each user at most.
func (u *Users) remember(name string, tag []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tags[name] = tag
}

// takeTurn waits for from's turn and then for one of the checks.
func (u *Users) takeTurn(ctx context.Context, from string) (func(), error) {
	q := u.enter(from)
	select {
	case q.turn <- struct{}{}:
	case <-ctx.Done():
		u.leave(from, q)
		return nil, context.Cause(ctx)
	}
	leave := func() {
		<-q.turn
		u.leave(from, q)
	}
	select {
	case u.checks <- struct{}{}:
		return func() {
			<-u.checks
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

// enter finds from's queue; those who wait in it are as many as handshakes of
// that client are allowed.
func (u *Users) enter(from string) *checkQueue {
	u.mu.Lock()
	defer u.mu.Unlock()
	q := u.queues[from]
	if q == nil {
		q = &checkQueue{turn: make(chan struct{}, 1)}
		u.queues[from] = q
	}
	q.users++
	return q
}

func (u *Users) leave(from string, q *checkQueue) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(u.queues, from)
	}
}

// HashPassword is the line of a users file for a user: the name, a colon and
// the bcrypt hash of the password, of PasswordCost. The error says what is
// wrong with the name or the password: bcrypt looks at no more than 72 bytes,
// so a longer one is refused.
func HashPassword(name, password string) (string, error) {
	if err := checkUserName(name); err != nil {
		return "", err
	}
	switch {
	case password == "":
		return "", errors.New("the password is empty")
	case len(password) > maxPassword:
		return "", fmt.Errorf("the password has %d bytes, and bcrypt looks at no more than %d", len(password), maxPassword)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), PasswordCost)
	if err != nil {
		return "", err
	}
	return name + ":" + string(hash), nil
}
