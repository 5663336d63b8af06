// Package compare measures servers and relays, ours and others', against each
// other in one run, and writes what it found as Markdown. cmd/compare is the
// command; bench/servers holds the servers and the load generator.
//
// # Method
//
// Every candidate is a process of its own, and so is its load generator
// (servers/load.c), which verifies every byte, and in bulk a part that shows
// every loss. The server's processes are pinned to one core and the load to another. For each work all candidates are
// started, connected and warmed up; then they are measured in rounds, one short
// slot each, one at a time, in an order that changes from round to round. Those
// that wait for their turn are blocked.
//
// In a slot the load generator works for a fixed time and then waits until
// nothing is in flight. The processor time that the server's processes used
// meanwhile is read from the kernel's clock of the process (clock_gettime, in
// nanoseconds, threads that have ended included), so it belongs to exactly the
// messages that were counted.
//
// A ratio is computed for each round, from the two slots of that round, and
// what is reported is the median of the ratios with the interval in which the
// true median lies with a probability of 95 %. The base is measured twice, as
// two candidates: the ratio of the two is the noise.
package compare
