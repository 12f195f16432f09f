// SPDX-License-Identifier: GPL-2.0-or-later

package redis

import "testing"

// TestProduct: what INFO tells of the program, as Redis and Valkey write it, in either order of the lines.
func TestProduct(t *testing.T) {
	for text, want := range map[string][2]string{
		"# Server\r\nredis_version:8.0.2\r\n":                                                 {"8.0.2", "Redis 8.0.2"},
		"# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n":   {"7.2.4", "Valkey 8.0.1"},
		"# Server\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\nredis_version:7.2.4\r\nx:": {"7.2.4", "Valkey 9.1.2"},
		"": {},
	} {
		if i := parseInfo(text); i.Version != want[0] || i.Product != want[1] {
			t.Errorf("%q: %q, %q, want %q", text, i.Version, i.Product, want)
		}
	}
}
