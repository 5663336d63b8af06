// Package losses is a test: very many connections through a relay, with
// messages of random sizes, slow readers and all orders of closing, of which
// no byte may be lost and no end be false. It serves the tests of package relay
// and those that join other transports.
package losses
