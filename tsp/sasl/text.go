// SPDX-License-Identifier: GPL-2.0-or-later

package sasl

import (
	"unicode"
	"unicode/utf8"
)

// text reads what a client typed: UTF-8, or ISO 8859-1 from those that know nothing else.
func text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return fromLatin1(string(b))
}

// fromLatin1 makes UTF-8 of ISO 8859-1.
func fromLatin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// toLatin1 makes ISO 8859-1 of UTF-8; false if a character has no place there.
func toLatin1(s string) (string, bool) {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if r > unicode.MaxLatin1 {
			return s, false
		}
		b = append(b, byte(r))
	}
	return string(b), true
}

// printable: valid UTF-8 without control characters, fit for logs and directories.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}
