// Package losses is a test: very many connections through a relay, judged by
// package verify at their ends and compared with what the relay recorded. It
// serves the tests of package relay and those that join other transports.
package losses
