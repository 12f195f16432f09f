// SPDX-License-Identifier: GPL-2.0-or-later

package sasl

import (
	"fmt"
	"strings"
)

// parseDirectives reads a DIGEST-MD5 list of name=value or name="value" (RFC 2831 section 7.1) and hands each to set, the name
// in lower case, the value unquoted. Blanks around elements and empty elements are allowed by the RFC's list rule.
func parseDirectives(list string, set func(name, value string) error) error {
	for list = skip(list); list != ""; list = skip(list) {
		name, rest, found := strings.Cut(list, "=")
		name = strings.TrimRight(name, blanks)
		if !found || name == "" || strings.ContainsAny(name, "\", \t") {
			return fmt.Errorf("%w: directive without name or value", ErrMalformed)
		}
		var value string
		var err error
		if value, list, err = parseValue(strings.TrimLeft(rest, blanks)); err != nil {
			return fmt.Errorf("%w in directive %.20q", err, name)
		}
		if err := set(strings.ToLower(name), value); err != nil {
			return err
		}
	}
	return nil
}

const blanks = " \t\r\n"

// skip leaves out what may stand between directives.
func skip(list string) string { return strings.TrimLeft(list, blanks+",") }

// parseValue reads a token or quoted string that ends at a comma or the end; rest starts with that comma.
func parseValue(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexByte(s, ',')
		if end < 0 {
			end = len(s)
		}
		value = strings.TrimRight(s[:end], blanks)
		if value == "" || strings.ContainsAny(value, `"`) {
			return "", "", fmt.Errorf("%w: empty or half-quoted value", ErrMalformed)
		}
		return value, s[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			rest = strings.TrimLeft(s[i+1:], blanks)
			if rest != "" && rest[0] != ',' {
				return "", "", fmt.Errorf("%w: text behind a quoted value", ErrMalformed)
			}
			return b.String(), rest, nil
		case '\\': // quoted-pair
			if i++; i == len(s) {
				return "", "", fmt.Errorf("%w: value without closing quote", ErrMalformed)
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", fmt.Errorf("%w: value without closing quote", ErrMalformed)
}

// quote makes a quoted string.
func quote(s string) string {
	return `"` + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `"`, `\"`) + `"`
}
