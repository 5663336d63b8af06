// This file lets the connections of a client share their configuration.

package tls

import (
	cryptotls "crypto/tls"
	"crypto/x509"
	"strings"
	"sync"
)

// maxShared bounds the configurations that are kept to be shared; past it all
// are forgotten, and made anew where they are needed.
const maxShared = 64

// A likeness is what configurations of clients can differ by. What was read
// from files is the same object if the files were the same (tlsconfig).
type likeness struct {
	name      string
	min       uint16
	insecure  bool
	roots     *x509.CertPool
	cert      *byte
	protocols string
}

var clients struct {
	sync.Mutex
	made map[likeness]*cryptotls.Config
}

// shared returns an equal configuration that was made before, or c. An idle
// connection holds on to its configuration.
func shared(c *cryptotls.Config) *cryptotls.Config {
	l := likeness{c.ServerName, c.MinVersion, c.InsecureSkipVerify, c.RootCAs, nil, strings.Join(c.NextProtos, "\x00")}
	if len(c.Certificates) > 0 {
		l.cert = &c.Certificates[0].Certificate[0][0]
	}
	clients.Lock()
	defer clients.Unlock()
	if have := clients.made[l]; have != nil {
		return have
	}
	if clients.made == nil || len(clients.made) >= maxShared {
		clients.made = make(map[likeness]*cryptotls.Config)
	}
	clients.made[l] = c
	return c
}
