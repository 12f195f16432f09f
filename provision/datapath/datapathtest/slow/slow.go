// SPDX-License-Identifier: GPL-2.0-or-later

// Package slow tells tests how slow their machine is. In a guest whose CPUs are emulated and whose kernel checks all it does (`make
// test-vm-debug`), what takes a moment elsewhere takes ten: there the tests wait longer by one factor and send more slowly by the
// same one, and check what they check everywhere.
package slow

import (
	"os"
	"strconv"
	"time"
)

// Variable is that of the environment: how many times slower the machine is than computers are, a number from 1 on.
const Variable = "DDTB_SLOW"

// Times is a time as it is on computers, by this machine's measure: the same unless the environment says a number above 1.
func Times(d time.Duration) time.Duration {
	n, err := strconv.Atoi(os.Getenv(Variable))
	if err != nil || n < 1 {
		return d
	}
	return d * time.Duration(n)
}
