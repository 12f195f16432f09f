// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"reflect"
	"regexp"
	"slices"
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

// TestReferenceReload: the keys marked [reload] in the reference are those that a reload puts in force.
func TestReferenceReload(t *testing.T) {
	text := wholeReference()
	doc := readDocument("reference.toml", []byte(text), reflect.TypeFor[Config]())
	lines := strings.Split(text, "\n")
	var config Config
	walk(reflect.ValueOf(&config).Elem(), reflect.ValueOf(config), "", func(path string, can bool, _, _ reflect.Value) {
		if said := marked(lines, doc.lines[path]-1); said != can {
			t.Errorf("reference.toml:%d: %s: marked [reload] %v, but a reload changes it: %v", doc.lines[path], path, said, can)
		}
	})
}

// marked reports whether the comment above a key, or above the keys right above it, ends in [reload].
func marked(lines []string, at int) bool {
	for at--; at >= 0 && lines[at] != ""; at-- {
		if strings.HasPrefix(lines[at], "# ") {
			return strings.HasSuffix(lines[at], "[reload]")
		}
	}
	return false
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

// TestReload changes every key and sees which come through.
func TestReload(t *testing.T) {
	old, err := Parse("old.toml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	next := old
	next.Session.Lifetime, next.Log.Level, next.TSP.Mechanisms = seconds(3600), "debug", []string{"PLAIN"}
	next.Server.Port, next.Pools = 3654, append(next.Pools[:1:1], Pool{Name: "more"})
	merged, changed, kept := Reload(old, next)
	if want := []string{"tsp.mechanisms", "session.lifetime", "log.level"}; !slices.Equal(changed, want) {
		t.Errorf("changed %q, want %q", changed, want)
	}
	if want := []string{"server.port", "pool"}; !slices.Equal(kept, want) {
		t.Errorf("kept %q, want %q", kept, want)
	}
	if merged.Session.Lifetime != seconds(3600) || merged.Server.Port != 3653 || len(merged.Pools) != 1 {
		t.Errorf("merged %+v", merged)
	}
	if _, changed, kept := Reload(merged, merged); changed != nil || kept != nil {
		t.Errorf("the same again: changed %q, kept %q", changed, kept)
	}
}
