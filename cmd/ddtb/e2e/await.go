// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"errors"
	"fmt"
	"time"
)

// errEnded: a process that was waited for is over. It is no use to wait on.
var errEnded = errors.New("ended")

// Await asks check again and again until it finds nothing wrong, and gives its last complaint when timeout has passed.
func Await(timeout time.Duration, check func() error) error {
	deadline := time.Now().Add(timeout)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := check()
		if err == nil || errors.Is(err, errEnded) || errors.Is(err, errClosed) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %s still: %w", timeout, err)
		}
		<-again.C
	}
}
