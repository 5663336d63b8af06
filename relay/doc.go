// Package relay joins two connections so that what ends on one leg ends in
// the same way on the other: an end of file becomes a half-close, a reset
// stays a reset, and a connection that was cut is never mistaken for one that
// has finished.
//
// Join does that for two connections that exist already. A Relay accepts
// connections, dials a target for each, joins the two, and drains on Shutdown.
// Each joined connection leaves one Record: who ended it, how, and when.
//
// Bytes pass unchanged and unseen. Between kernel sockets (tcp, unix) they are
// spliced and do not enter this process; any other leg costs one buffer of
// anysock.DefaultReadBuffer bytes in each direction. Three goroutines serve a
// joined connection: one copies each way, one decides.
//
// Who wants to look at the bytes, or to answer some requests itself, wants a
// proxy and not this package.
package relay
