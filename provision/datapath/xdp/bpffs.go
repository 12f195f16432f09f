// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// bpffs is where the kernel's eBPF file system usually is, and where it is mounted if it is missing.
const bpffs = "/sys/fs/bpf"

// version is that of the maps' layout and of the meaning of what is in them. It stands in the pins' path: maps of another
// version are not opened, their links are taken over.
const version = "v2"

// makePinDir makes the directory for this version's pins below a pin path.
func makePinDir(root string) error {
	if !filepath.IsAbs(root) {
		return fmt.Errorf("pin path %q: an absolute path below an eBPF file system expected, as %s/ddtb", root, bpffs)
	}
	if strings.HasPrefix(filepath.Clean(root), bpffs+"/") {
		if err := mountBPFFS(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return fmt.Errorf("pin path: %w", err)
	}
	if on, err := onBPFFS(root); err != nil || !on {
		return errors.Join(err, fmt.Errorf("pin path %s: not on an eBPF file system; mount one with: mount -t bpf bpf %s", root, filepath.Dir(root)))
	}
	if err := os.MkdirAll(filepath.Join(root, version), 0o700); err != nil {
		return fmt.Errorf("pin path: %w", err)
	}
	return nil
}

func onBPFFS(path string) (bool, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return false, fmt.Errorf("statfs %s: %w", path, err)
	}
	return s.Type == unix.BPF_FS_MAGIC, nil
}

// mountBPFFS mounts the eBPF file system unless it is there. The lock on the mount point makes the second of two processes
// that start together see the mount of the first; two mounts would hide each other's pins.
func mountBPFFS() error {
	if on, err := onBPFFS(bpffs); err != nil || on {
		return err
	}
	dir, err := os.Open(bpffs)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", bpffs, err)
	}
	if on, err := onBPFFS(bpffs); err != nil || on {
		return err
	}
	if err := unix.Mount("bpf", bpffs, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount the eBPF file system on %s: %w", bpffs, err)
	}
	return nil
}
