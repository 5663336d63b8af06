package printable

// This file is for tests, of this package and of those that use it.

// Hostile are texts that a terminal or a log would obey.
var Hostile = []string{
	"a\x1b[31mred", "line\nforged: line", "a\rb", "bell\a", "\x00", "\x7f", "C1 \u009b31m", "\u202egnp.exe", "\u2066x\u2069",
	"no utf-8 \xff\xfe", "zero\u200bwidth", "\u2028", "tag \U000e0041", "half \xe2\x82",
}
