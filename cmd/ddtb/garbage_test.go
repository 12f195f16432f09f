// SPDX-License-Identifier: GPL-2.0-or-later

package main

import "testing"

func TestGarbage(t *testing.T) {
	for _, test := range []struct {
		live, rate uint64 // MiB
		want       int
	}{
		{0, 0, garbageMost}, {4, 0, garbageMost}, {8, 0, 300}, {20, 0, 120}, {48, 0, garbagePercent}, {1024, 0, garbagePercent},
		{20, 40, 120}, {32, 80, 120}, {32, 1000, 150}, {64, 1000, 70}, {8, 1000, garbageMost}, {256, 1000, garbagePercent}, {1024, 1000, garbagePercent},
	} {
		got := garbage(test.live<<20, test.rate<<20)
		if got != test.want {
			t.Errorf("garbage(%d MiB, %d MiB/s) = %d %%, want %d %%", test.live, test.rate, got, test.want)
		}
		allowed := min(max(test.rate<<20/2, garbageFloor), garbageCeiling)
		if waste := test.live << 20 * uint64(got) / 100; waste > max(allowed, test.live<<20/2) {
			t.Errorf("garbage(%d MiB, %d MiB/s) lets %d MiB wait", test.live, test.rate, waste>>20)
		}
	}
}
