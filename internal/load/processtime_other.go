//go:build !unix

package load

// processTime is not known here.
func processTime() *CPU { return nil }
