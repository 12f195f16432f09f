// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"fmt"
	"testing"
)

// BenchmarkSessions lists fifty thousand sessions over the socket, daemon and client in one process.
func BenchmarkSessions(b *testing.B) {
	const n = 50_000
	w := start(b, nil)
	for i := range n {
		w.login(fmt.Sprintf("subscriber%07d", i), i)
	}
	b.ReportAllocs()
	for b.Loop() {
		found := 0
		for _, err := range w.Sessions(b.Context(), SessionFilter{}) {
			if err != nil {
				b.Fatal(err)
			}
			found++
		}
		if found != n {
			b.Fatalf("%d sessions", found)
		}
	}
}
