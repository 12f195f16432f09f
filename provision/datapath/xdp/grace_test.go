// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"os"
	"testing"
)

func BenchmarkGrace(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	g, closeGrace, err := newGrace()
	if err != nil {
		b.Fatal(err)
	}
	defer closeGrace()
	for b.Loop() {
		if err := g.wait(); err != nil {
			b.Fatal(err)
		}
	}
}
