// Package relay joins two connections so that what ends on one leg ends in
// the same way on the other: an end of file becomes a half-close, a reset
// stays a reset, and a connection that was cut is never mistaken for one that
// has finished.
//
// Join does that for two connections that exist already. A Relay accepts
// connections, dials a target for each, joins the two, and drains on Shutdown.
// Each joined connection leaves one Record: who ended it, how, and when.
//
// Bytes pass unchanged and unseen. Between kernel sockets (tcp, unix) bulk is
// spliced and does not enter this process; any other leg costs one buffer of
// anysock.DefaultReadBuffer bytes in each direction. Three goroutines serve a
// connection of Join: one copies each way, one decides.
//
// On Linux a Relay between kernel sockets runs on event loops instead, from
// accept to end (see Relay.Serve): an idle connection there is less than half a
// kilobyte and two descriptors, without a goroutine, a buffer or a pipe. What one
// leg does not take waits in a pipe, or on the heap where there is none: at most
// a pipe's worth, or anysock.DefaultReadBuffer bytes, in each direction. The same
// tests run on both.
//
// Who wants to look at the bytes, or to answer some requests itself, wants a
// proxy and not this package.
package relay
