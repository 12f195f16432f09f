// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"errors"
	"fmt"
	"time"
)

// errEnded: a process that was waited for is over. It is no use to wait on.
var errEnded = errors.New("ended")

// Await asks check again and again until it finds nothing wrong, and gives its last complaint when timeout has passed. The longer it
// has waited the longer are its pauses, an eighth of that: who asks is not to be what keeps a slow machine busy.
func Await(timeout time.Duration, check func() error) error {
	begun := time.Now()
	for {
		err := check()
		if err == nil || errors.Is(err, errEnded) || errors.Is(err, errClosed) {
			return err
		}
		waited := time.Since(begun)
		if waited > timeout {
			return fmt.Errorf("after %s still: %w", timeout, err)
		}
		time.Sleep(max(waited/8, 20*time.Millisecond))
	}
}
