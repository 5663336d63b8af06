//go:build !linux || anysock_portable

package relay_test

const haveLoops = false
