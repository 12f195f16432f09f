// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// unknown says that there is no such key, and which there are.
func unknown(kind, name string, t reflect.Type) string {
	keys := make([]string, 0, t.NumField())
	for i := range t.NumField() {
		keys = append(keys, t.Field(i).Tag.Get("toml"))
	}
	best, bound := "", 3
	for _, key := range keys {
		if d := distance(name, key); d < bound {
			best, bound = key, d
		}
	}
	if best != "" {
		return fmt.Sprintf("unknown %s: did you mean %q?", kind, best)
	}
	sort.Strings(keys)
	return fmt.Sprintf("unknown %s: expected one of %s", kind, strings.Join(keys, ", "))
}

// distance counts the letters to add, drop or change to come from a to b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// written shows a value as it stands in the file.
func written(node *unstable.Node) string {
	switch node.Kind {
	case unstable.String:
		return strconv.Quote(string(node.Data))
	case unstable.Array:
		return "an array"
	case unstable.InlineTable:
		return "a table"
	default:
		return string(node.Data)
	}
}

// expected says what a field, or each element of it, holds; want is the type of the one or the other.
func expected(field reflect.StructField, want reflect.Type) string {
	if want.Kind() == reflect.Slice && !isText(want) {
		return "an array, each " + expected(field, want.Elem())
	}
	if words, ok := field.Tag.Lookup("one"); ok {
		list := strings.Fields(words)
		for i := range list {
			list[i] = strconv.Quote(list[i])
		}
		if len(list) == 1 {
			return list[0]
		}
		return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
	}
	switch want {
	case reflect.TypeFor[Duration]():
		return `a duration with its unit such as "30s", "5m", "12h" or "7d"`
	case reflect.TypeFor[netip.Addr]():
		return `an IP address such as "192.0.2.1" or "2001:db8::1"`
	case reflect.TypeFor[netip.Prefix]():
		return `a prefix such as "2001:db8:1000::/40"`
	case reflect.TypeFor[netip.AddrPort]():
		return `an address and port such as "192.0.2.1:3653"`
	}
	switch want.Kind() {
	case reflect.String:
		return `a text in quotes`
	case reflect.Bool:
		return "true or false"
	case reflect.Uint16:
		return "a whole number from 0 to 65535"
	case reflect.Int, reflect.Int64, reflect.Uint32:
		return "a whole number, 0 or more"
	default:
		return "a section"
	}
}
