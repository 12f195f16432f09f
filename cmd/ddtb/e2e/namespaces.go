// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// namespaceDir is where ip-netns(8) keeps named network namespaces.
const namespaceDir = "/run/netns"

// shareNamespaces makes namespaceDir a mount point that other mount namespaces share, as the first `ip netns add` since the boot does, and
// under the same lock: if somebody else did that while a Host is there, its namespace would lie below that mount, and could neither be
// entered by name nor be removed.
func shareNamespaces() (err error) {
	if err := os.MkdirAll(namespaceDir, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(namespaceDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := Await(10*time.Second, func() error { return unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
		return fmt.Errorf("lock %s: %w", namespaceDir, err)
	}
	share := func() error { return unix.Mount("", namespaceDir, "", unix.MS_SHARED|unix.MS_REC, "") }
	err = share()
	if errors.Is(err, unix.EINVAL) { // it is no mount point yet
		if err = unix.Mount(namespaceDir, namespaceDir, "", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = share()
		}
	}
	if err != nil {
		return fmt.Errorf("share %s: %w", namespaceDir, err)
	}
	return nil
}
