// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pelletier/go-toml/v2"
)

// commented is a line of the reference that sets a key without a default, or begins a section of such keys.
var commented = regexp.MustCompile(`(?m)^#(\[|[a-z0-9_]+ = )`)

// wholeReference is the reference with the commented keys put in force.
func wholeReference() string { return commented.ReplaceAllString(Reference, "$1") }

// TestReferenceDefaults: what the reference says is the default is the code's default, for every key that has one.
func TestReferenceDefaults(t *testing.T) {
	var said Config
	if err := toml.Unmarshal([]byte(Reference), &said); err != nil {
		t.Fatal(err)
	}
	same := cmp.Options{cmpopts.EquateEmpty(), cmp.Exporter(func(reflect.Type) bool { return true })}
	if diff := cmp.Diff(Default(), said, same); diff != "" {
		t.Errorf("code (-) and reference.toml (+) differ:\n%s", diff)
	}
}

// TestReferencePool: the same for the keys of a pool, whose defaults follow from its ranges.
func TestReferencePool(t *testing.T) {
	whole, err := Parse("reference.toml", []byte(wholeReference()))
	if err != nil {
		t.Fatal(err)
	}
	short := regexp.MustCompile(`(?m)^(prefix_length|size) = .*$`).ReplaceAllString(wholeReference(), "")
	completed, err := Parse("reference.toml", []byte(short))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(completed.Pools, whole.Pools, cmp.Comparer(func(a, b Pool) bool { return a == b })); diff != "" {
		t.Errorf("code (-) and reference.toml (+) differ:\n%s", diff)
	}
}

// TestReferenceComplete: every key of the structs stands in the reference, with words about it.
func TestReferenceComplete(t *testing.T) {
	text := wholeReference()
	doc := readDocument("reference.toml", []byte(text), reflect.TypeFor[Config]())
	if err := doc.err(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text, "\n")
	for _, key := range keysOf(reflect.TypeFor[Config](), "") {
		line, found := doc.lines[key]
		if !found {
			t.Errorf("%s: not in reference.toml", key)
			continue
		}
		if !explained(lines, line-1) {
			t.Errorf("reference.toml:%d: %s: no comment above or behind", line, key)
		}
	}
}

// explained reports whether a key has a comment behind it, or above it or the keys right above it.
func explained(lines []string, at int) bool {
	if strings.Contains(lines[at], "  # ") {
		return true
	}
	for at--; at >= 0 && lines[at] != ""; at-- {
		if strings.HasPrefix(lines[at], "# ") {
			return true
		}
	}
	return false
}

// keysOf lists the paths of all keys below a struct.
func keysOf(t reflect.Type, path string) []string {
	var keys []string
	for i := range t.NumField() {
		field := t.Field(i)
		key := join(path, field.Tag.Get("toml"))
		switch {
		case isTable(field.Type):
			keys = append(keys, keysOf(field.Type, key)...)
		case field.Type.Kind() == reflect.Slice && isTable(field.Type.Elem()):
			keys = append(keys, keysOf(field.Type.Elem(), key+"[0]")...)
		default:
			keys = append(keys, key)
		}
	}
	return keys
}
