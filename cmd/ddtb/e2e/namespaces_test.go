// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestRootShareNamespaces: a namespace made on a host where nobody has run `ip netns add` since the boot can be removed when somebody has.
func TestRootShareNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread sees other mounts than the rest
		done <- freshNamespaces()
	}()
	must(t, <-done)
}

// freshNamespaces makes one namespace here and one by ip, and removes them, with mounts as after a boot.
func freshNamespaces() error {
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "")); err != nil {
		return err
	}
	for unix.Unmount(namespaceDir, unix.MNT_DETACH) == nil {
		continue // as often as it was mounted
	}
	if err := shareNamespaces(); err != nil {
		return err
	}
	mine, other := prefix+"-fresh", prefix+"-fresh-other"
	handle, err := netns.NewNamed(mine)
	if err != nil {
		return err
	}
	defer handle.Close()
	if out, err := exec.Command("ip", "netns", "add", other).CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("ip netns add: %w: %s", err, out), netns.DeleteNamed(mine))
	}
	return errors.Join(netns.DeleteNamed(mine), netns.DeleteNamed(other))
}
