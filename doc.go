// Package anysock has stream sockets whose lifecycle survives every transport
// and every hop: one Conn, one address grammar, and endings that mean the
// same everywhere.
//
// A stream connection ends in one of four ways, and programs depend on telling
// them apart: finished (the peer ended its direction, ours still flows),
// graceful (both ended in order and our bytes were acknowledged), aborted (a
// reset: data may be missing), and lost (silence). A Conn keeps them apart:
// io.EOF is an end in order and nothing else, Close loses nothing that Write
// had accepted, Disconnect says what became of it, Abort is heard, and End is
// the record.
//
// Dial and Listen take an address of any registered transport; a Socket goes
// through the classical calls step by step: create, set options, bind,
// listen or connect. tcp, unix and mem are built in, and so are the services
// echo, discard and chargen; packages below transport register more.
//
// Before it exits a program calls Wait, because Close leaves its work to the
// background.
//
// This package is not for datagrams, and it is not an event loop: a
// connection costs a goroutine or two of the caller's.
package anysock
