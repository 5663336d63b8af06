// This file registers the layer.

package ws

import "github.com/anysock/anysock"

func init() {
	anysock.Register(anysock.Transport{
		Scheme:  "ws",
		Options: optionSpecs,
		Prepare: prepare,
		Caps:    caps,
		Client:  client,
		Server:  server,
	})
}

// caps: without what the framing lacks, and with what it has whatever is below.
func caps(below anysock.Caps, _ anysock.Target) anysock.Caps {
	return below&^anysock.CapHalfClose | anysock.CapAbort | anysock.CapCutDetect | anysock.CapDeadline
}

// prepare reads the options, so that a bad one is an error of Dial and Listen.
func prepare(t anysock.Target, listening bool) (any, error) {
	if listening {
		return readListenSettings(t)
	}
	return readDialSettings(t)
}
