module github.com/anysock/anysock/bench

go 1.26.0

require (
	github.com/anysock/anysock v0.0.0
	github.com/coder/websocket v1.8.14
	github.com/quic-go/quic-go v0.65.0
	golang.org/x/crypto v0.58.0
)

require (
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/anysock/anysock => ../
