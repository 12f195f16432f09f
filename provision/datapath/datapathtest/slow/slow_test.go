// SPDX-License-Identifier: GPL-2.0-or-later

package slow

import (
	"testing"
	"time"
)

func TestTimes(t *testing.T) {
	for said, want := range map[string]time.Duration{"": 2, "1": 2, "10": 20, "0": 2, "-3": 2, "fast": 2} {
		t.Setenv(Variable, said)
		if got := Times(2 * time.Second); got != want*time.Second {
			t.Errorf("%s=%q: %v, expected %v", Variable, said, got, want*time.Second)
		}
	}
}
