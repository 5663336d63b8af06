// This file lets connections share what was read from the same contents: a
// program that dials an address a thousand times has its authorities once.

package tlsconfig

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"sync"
)

// maxShared bounds the things of one kind that are kept to be shared; past it
// all are forgotten, and made anew where they are needed.
const maxShared = 64

// A digest stands for contents of files.
type digest [sha256.Size]byte

// shared keeps what was made of contents. A file that has changed has another
// digest.
type shared[T any] struct {
	mu   sync.Mutex
	made map[digest]T
}

var (
	pools shared[*x509.CertPool]
	pairs shared[*tls.Certificate]
)

// of returns what was made of the contents, or makes it.
func (s *shared[T]) of(makeIt func() (T, error), contents ...[]byte) (T, error) {
	d := digestOf(contents)
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.made[d]; ok {
		return v, nil
	}
	v, err := makeIt()
	if err != nil {
		return v, err
	}
	if s.made == nil || len(s.made) >= maxShared {
		s.made = make(map[digest]T)
	}
	s.made[d] = v
	return v, nil
}

// digestOf is that of several contents; where one ends and the next begins
// counts.
func digestOf(contents [][]byte) digest {
	var all []byte
	for _, c := range contents {
		d := sha256.Sum256(c)
		all = append(all, d[:]...)
	}
	return sha256.Sum256(all)
}
