// Package verify judges a path between two ends of its own: it sends very many
// connections over it, with messages of random sizes, slow readers, every order
// of closing and aborts at random points from either side, compares every byte
// that arrives, and finds what was lost and which endings were told wrongly.
//
// A Run makes the connections; a Server is their other end, in the same process
// (a relay between the two is judged) or in another one (the path to it is).
// Where the other end is a plain echo server, Echo judges what that can show.
//
// # Protocol
//
// What a Run and a Server say to each other on each connection. Numbers are big
// endian. The client speaks first: an opening of 68 bytes,
//
//	magic    8  89 41 56 46 0d 0a 1a 0a, which a path that changes line ends or strips
//	            bits spoils
//	version  1  1
//	kind     1  1 ask, 2 plan
//	order    1  of a plan: who ends first and how, see Order
//	flags    1  1 the server reads slowly, 2 the client does, 4 the server greets
//	run      8  chosen at random by the Run
//	number   8  of the connection in the run
//	up       8  bytes of the client's message
//	down     8  bytes of the server's
//	cut      8  bytes of the message that is broken off, before it is
//	late     4  milliseconds between an end and the reply to it
//	seed     8  which stretch of the material the messages are
//	crc      4  CRC-32 (IEEE) of what precedes
//
// A plan goes on as its order says. With flag 4 the server's first byte is a
// greeting, 0x06: when the client has it, the server knows the plan. An ask is
// followed by a length (4 bytes) and that many bytes of JSON, at most 64 KiB. The
// server answers with the magic, a length and at most 1 MiB of JSON; the client
// says 0x06 when it has that, and then both disconnect. An ask with no numbers
// asks what the server can do; one with numbers asks what became of these
// connections of the run at the server's end, and the server may wait up to
// wait_ms for those that are not over.
//
// Neither side believes the other: sizes, waits and messages are bounded by both.
package verify
