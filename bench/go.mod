module github.com/anysock/anysock/bench

go 1.26.0

require github.com/anysock/anysock v0.0.0

require golang.org/x/sys v0.49.0 // indirect

replace github.com/anysock/anysock => ../
