package stdio

import "syscall"

// dupTo makes number to mean what from does (dup3(2); dup2 is missing on some
// architectures).
func dupTo(from, to int) error { return syscall.Dup3(from, to, 0) }
