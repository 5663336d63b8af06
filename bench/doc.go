// Package bench compares anysock with what a Go program would use instead. It
// is a module of its own, so that nothing it needs becomes a requirement of
// the library, and holds nothing to import.
//
// There are two kinds. Servers and relays, ours and others', in C too, are
// compared by the command cmd/compare, which writes docs/BENCHMARKS.md; what it
// measures and how is told by internal/compare:
//
//	go -C bench run ./cmd/compare -list
//	go -C bench run ./cmd/compare -o ../docs/BENCHMARKS.md
//
// What the library costs a Go program beside the package that it would use
// instead is compared by the benchmarks here. One command runs everything, and
// -bench chooses:
//
//	go -C bench test -run '^$' -bench .
//	go -C bench test -run '^$' -bench Echo
//	go -C bench test -run '^$' -bench Relay
//
// BenchmarkEcho: CPU per 250-byte echo at 64 connections, Conn against package
// net. BenchmarkRelay: CPU per gigabyte relayed, relay.Join against a pair of
// io.Copy between two *net.TCPConn, which splices too.
//
// # Method
//
// What is measured runs alone in a process of its own, which is the test
// program started again (see worker). The load comes from the first process
// and is the same code for both. The cost is the processor time of the worker
// process, user and system, for the work done, so what the load costs and how
// long anything takes do not count; but the processors are shared with the
// load and with whatever else runs, and that disturbs caches and wake-ups.
//
// Therefore the two are measured in pairs: one short slot each, in a new
// process each, cut into slices that run in turn (A B B A and so on, and B A A B
// in the next pair). Every pair gives a ratio. The result is the median of the
// ratios, with the interval in which the true median lies with a probability
// of at least 95 % (order statistics, no assumption about the distribution; of
// 20 sorted ratios the sixth and the fifteenth). In the same rounds package
// net is compared with itself in the same way: how far that interval reaches
// from 1 is what the method cannot tell from noise.
//
// The result is printed as a Markdown table and not judged: no test fails
// because of a time. Every byte is verified.
//
// Flags, after -args: -pairs, -slot, -gigabytes, and -markdown FILE, which
// appends the tables to a file. -v prints every pair.
package bench
