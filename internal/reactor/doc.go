// Package reactor is the machine under package loop and under the relay: an
// event loop on epoll(7), with timers, that owns the descriptors given to it.
//
// A Loop runs on one goroutine. Everything of a Loop and of its Nodes belongs
// to that goroutine, except Post, which is how others reach it. Nothing on the
// loop may block: no system call but the one wait does.
//
// A Node is a descriptor on a Loop. Its Source hears when it is ready and when
// its timer has run out. Sources can be exchanged while the descriptor lives:
// so an ending that takes time (Disconnect) takes a Node over from its owner.
//
// Linux only; the packages above have another engine elsewhere.
package reactor
