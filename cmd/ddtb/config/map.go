// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"encoding"
	"reflect"
)

// Map gives the configuration as nested maps of the names and values that the file would have, with every default filled
// in: what an operator is shown. Ranges that are not set are left out. No key of a Config is a secret.
func (c Config) Map() map[string]any { return tableMap(reflect.ValueOf(c)) }

func tableMap(table reflect.Value) map[string]any {
	out := map[string]any{}
	for i := range table.NumField() {
		if value := plainValue(table.Field(i)); value != nil {
			out[table.Type().Field(i).Tag.Get("toml")] = value
		}
	}
	return out
}

// plainValue gives a value as text, number, bool, list or map; nil if there is nothing to show.
func plainValue(v reflect.Value) any {
	if text, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := text.MarshalText()
		if err != nil || len(b) == 0 {
			return nil
		}
		return string(b)
	}
	switch v.Kind() {
	case reflect.Struct:
		return tableMap(v)
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plainValue(v.Index(i))
		}
		return list
	default:
		return v.Interface()
	}
}
