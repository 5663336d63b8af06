// This file reads users as "htpasswd -B" writes them.

package proxy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// LoadUsers reads the users from where ref says: file:PATH, or env:NAME for
// the value of a variable. The format is ReadUsers'. The errors name the place
// and the line, and nothing of what is there.
func LoadUsers(ref string) (*Users, error) {
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		text, ok := os.LookupEnv(name)
		if !ok {
			return nil, fmt.Errorf("users: the variable %s is not set", quoted(name))
		}
		return usersFrom(ref, strings.NewReader(text))
	}
	path, ok := strings.CutPrefix(ref, "file:")
	if !ok || path == "" {
		return nil, errors.New("users: write file:PATH or env:NAME")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	defer f.Close()
	return usersFrom(ref, f)
}

func usersFrom(ref string, r io.Reader) (*Users, error) {
	u, err := ReadUsers(r)
	if err != nil {
		return nil, fmt.Errorf("users: %s: %w", quoted(ref), err)
	}
	return u, nil
}

// ReadUsers reads one user a line: a name, a colon, and a bcrypt hash of the
// password ($2a$, $2b$ or $2y$). Empty lines and those that begin with # do
// not count. Passwords that are not hashed are refused, and so is a list with
// nobody in it, more than MaxUsers or MaxUsersFile bytes, and a hash of a cost
// above MaxPasswordCost. HashPassword makes such a line, and so does
// "htpasswd -nB NAME".
func ReadUsers(r io.Reader) (*Users, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxUsersFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxUsersFile {
		return nil, fmt.Errorf("it is longer than %d bytes", MaxUsersFile)
	}
	u := newUsers()
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if err := u.add(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if len(u.hashes) == 0 {
		return nil, errors.New("there is no user in it")
	}
	return u, nil
}

// errNotHashed is a password as it is, or a hash of another kind.
var errNotHashed = errors.New("the password is not hashed with bcrypt: make the line with 'anysock proxy --hash-password NAME' or 'htpasswd -nB NAME'")

// bcryptForm is stricter than package bcrypt: a salt that cannot be decoded
// would make a user whose password is checked in no time.
var bcryptForm = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)

func (u *Users) add(line string) error {
	name, hash, ok := strings.Cut(line, ":")
	if !ok {
		return errors.New("it is not NAME:HASH")
	}
	if err := checkUserName(name); err != nil {
		return err
	}
	if _, ok := u.byName[name]; ok {
		return fmt.Errorf("the user %s is there twice", quoted(name))
	}
	if len(u.hashes) >= MaxUsers {
		return fmt.Errorf("there are more than %d users", MaxUsers)
	}
	cost, err := bcrypt.Cost([]byte(hash))
	if err != nil || !bcryptForm.MatchString(hash) {
		return errNotHashed
	}
	if cost > MaxPasswordCost {
		return fmt.Errorf("the hash's cost is %d, and more than %d keeps everybody waiting", cost, MaxPasswordCost)
	}
	u.byName[name] = len(u.hashes)
	u.hashes = append(u.hashes, passwordHash{[]byte(hash)})
	return nil
}

// checkUserName: 1 to 255 bytes (RFC 1929 section 2), and no colon (RFC 7617
// section 2) or control character.
func checkUserName(name string) error {
	switch {
	case name == "":
		return errors.New("the name of the user is empty")
	case len(name) > maxText:
		return fmt.Errorf("the name of the user has %d bytes, and more than %d cannot be sent", len(name), maxText)
	case strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f || c == ':' }):
		return fmt.Errorf("the name of the user %s has a colon or a control character", quoted(name))
	}
	return nil
}
