// SPDX-License-Identifier: GPL-2.0-or-later

package main

import "testing"

func TestGarbage(t *testing.T) {
	for _, test := range []struct {
		live uint64
		want int
	}{
		{0, garbageMost}, {4 << 20, garbageMost}, {8 << 20, 300}, {20 << 20, 120}, {48 << 20, garbagePercent}, {1 << 30, garbagePercent},
	} {
		got := garbage(test.live)
		if got != test.want {
			t.Errorf("garbage(%d MiB) = %d %%, want %d %%", test.live>>20, got, test.want)
		}
		if waste := test.live * uint64(got) / 100; waste > max(garbageFloor, test.live/2) {
			t.Errorf("garbage(%d MiB) lets %d MiB wait", test.live>>20, waste>>20)
		}
	}
}
