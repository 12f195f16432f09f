// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"reflect"
)

// Reload gives what is in force after a running daemon has read a new configuration: old with the keys of next that can
// change while it runs (those tagged `reload`, marked [reload] in the reference). changed are the keys that did, kept those
// that differ but need a restart.
func Reload(old, next Config) (merged Config, changed, kept []string) {
	merged = old
	walk(reflect.ValueOf(&merged).Elem(), reflect.ValueOf(next), "", func(path string, can bool, mine, theirs reflect.Value) {
		switch {
		case reflect.DeepEqual(mine.Interface(), theirs.Interface()):
		case can:
			mine.Set(theirs)
			changed = append(changed, path)
		default:
			kept = append(kept, path)
		}
	})
	return merged, changed, kept
}

// walk calls f with each key of two configurations side by side. The pools are one key.
func walk(mine, theirs reflect.Value, path string, f func(path string, can bool, mine, theirs reflect.Value)) {
	for i := range mine.NumField() {
		field := mine.Type().Field(i)
		key := join(path, field.Tag.Get("toml"))
		if isTable(field.Type) {
			walk(mine.Field(i), theirs.Field(i), key, f)
			continue
		}
		_, can := field.Tag.Lookup("reload")
		f(key, can, mine.Field(i), theirs.Field(i))
	}
}
