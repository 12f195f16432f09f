// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pelletier/go-toml/v2"
)

// TestMap: what an operator is shown could be a file that means the same.
func TestMap(t *testing.T) {
	for name, text := range map[string]string{"minimal": minimal, "reference": wholeReference()} {
		config, err := Parse(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		shown, err := toml.Marshal(config.Map())
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("shown", shown)
		if err != nil {
			t.Fatalf("%s: %v in\n%s", name, err, shown)
		}
		same := cmp.Options{cmpopts.EquateEmpty(), cmp.Exporter(func(reflect.Type) bool { return true })}
		if diff := cmp.Diff(config, again, same); diff != "" {
			t.Errorf("%s: meant (-) and shown (+) differ:\n%s", name, diff)
		}
		if _, err := json.Marshal(config.Map()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
