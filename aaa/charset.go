// SPDX-License-Identifier: GPL-2.0-or-later

package aaa

import "unicode/utf8"

// Name is the name in a credential, in UTF-8. A Digest without charset=utf-8 is in ISO 8859-1 (RFC 2831 section 2.1.1),
// and so is read whatever else is not UTF-8.
func Name(c Credential) string {
	if d, ok := c.(Digest); ok && !d.UTF8 {
		return fromLatin1(d.Username)
	}
	return ToUTF8(c.User())
}

// ToUTF8 reads as ISO 8859-1 what is not UTF-8.
func ToUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return fromLatin1(s)
}

func fromLatin1(s string) string {
	runes := make([]rune, 0, len(s))
	for i := range len(s) {
		runes = append(runes, rune(s[i]))
	}
	return string(runes)
}

// latin1OrUTF8 writes s in ISO 8859-1 if that has all its characters.
func latin1OrUTF8(s string) string {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xFF { // the replacement rune of malformed UTF-8 too
			return s
		}
		out = append(out, byte(r))
	}
	return string(out)
}
