// SPDX-License-Identifier: GPL-2.0-or-later

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// kernel is what Host needs of the operating system.
type kernel interface {
	// Link sets interface name up with an MTU; the same again changes nothing.
	Link(name string, mtu int) error
	// Look says whether c is there already, made by somebody else, and what undoing it would have to bring back.
	Look(c change) (old string, present bool, err error)
	// Do makes c. The error wraps fs.ErrExist if it is there, errors.ErrUnsupported if the kernel lacks the kind.
	Do(c change) error
	// Undo takes c back; that it is gone already is no error.
	Undo(c change, old string) error
}

// Host is this machine for one tunnel interface. It is used by one goroutine at a time.
type Host struct {
	kernel  kernel
	log     zerolog.Logger
	lock    *os.File
	journal journal
	made    []entry
}

// Open takes the tunnel interface name for this process and takes back what a killed predecessor left, known by its
// journal in folder, which is made if it is missing. The error says so if another process has the interface.
func Open(folder, name string, log zerolog.Logger) (*Host, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("runtime folder: %w", err)
	}
	lock, err := lockFile(folder + "/" + name + ".lock")
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("interface %s is in use by another tspc: %w", name, err)
	}
	if err != nil {
		return nil, err
	}
	h := &Host{kernel: newLinux("/proc/sys"), log: log, lock: lock, journal: journal(folder + "/" + name + ".journal")}
	if err := h.recover(); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return h, nil
}

// lockFile makes and locks the file at path. The error wraps EWOULDBLOCK if another process has it.
func lockFile(path string) (*os.File, error) {
	for {
		lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			_ = lock.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// The last owner removes the file when it leaves: what was locked may be a file without a name.
		mine, err := lock.Stat()
		named, errNamed := os.Stat(path)
		if err == nil && errNamed == nil && os.SameFile(mine, named) {
			return lock, nil
		}
		_ = lock.Close()
	}
}

// recover takes back what is in the journal of a killed predecessor.
func (h *Host) recover() error {
	made, err := h.journal.read()
	if err != nil {
		return err
	}
	if len(made) > 0 {
		h.log.Warn().Int("changes", len(made)).Msg("taking back what a predecessor left when it was killed")
	}
	h.made = made
	return h.Clear()
}

// Apply makes the machine be as s says: first what is no longer wanted is taken back, then what is missing is made.
// The same State again only repairs what others broke. After an error the machine is between the two; Apply or Clear go on from there.
// The error wraps errors.ErrUnsupported if the kernel has no sit device and s asks for one.
func (h *Host) Apply(s State) error {
	wanted := plan(s)
	if err := h.undo(func(c change) bool { return !slices.Contains(wanted, c) }); err != nil {
		return err
	}
	linked := false
	for _, c := range wanted {
		if c.Kind != kindSit && !linked {
			if err := h.kernel.Link(s.Interface, s.MTU); err != nil {
				return err
			}
			linked = true
		}
		if err := h.do(c); err != nil {
			return err
		}
	}
	return nil
}

// do makes c, with a note in the journal first. What this Host made before is made again, in case somebody else (a
// network manager, a firewall script) took it away.
func (h *Host) do(c change) error {
	if slices.ContainsFunc(h.made, func(e entry) bool { return e.Change == c }) {
		if err := h.kernel.Do(c); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%v: %w", c, err)
		}
		return nil
	}
	old, present, err := h.kernel.Look(c)
	if err != nil {
		return fmt.Errorf("%v: %w", c, err)
	}
	if present { // not ours, so not ours to remove
		h.log.Debug().Stringer("change", c).Msg("is there already")
		return nil
	}
	h.made = append(h.made, entry{Change: c, Old: old})
	if err := h.journal.write(h.made); err != nil {
		return err
	}
	if err := h.kernel.Do(c); err != nil {
		h.made = h.made[:len(h.made)-1]
		return errors.Join(fmt.Errorf("%v: %w", c, err), h.journal.write(h.made))
	}
	h.log.Debug().Stringer("change", c).Msg("made")
	return nil
}

// undo takes back what unwanted says, the last made first. It goes on after an error; what failed stays in the journal.
func (h *Host) undo(unwanted func(change) bool) error {
	var failed error
	var left []entry
	for _, e := range slices.Backward(h.made) {
		if !unwanted(e.Change) {
			left = append(left, e)
			continue
		}
		if err := h.kernel.Undo(e.Change, e.Old); err != nil {
			failed = errors.Join(failed, fmt.Errorf("removing %v: %w", e.Change, err))
			left = append(left, e)
			continue
		}
		h.log.Debug().Stringer("change", e.Change).Msg("taken back")
	}
	if len(left) == len(h.made) {
		return failed
	}
	slices.Reverse(left)
	h.made = left
	return errors.Join(failed, h.journal.write(h.made))
}

// Clear takes back everything, so that the machine is as it was.
func (h *Host) Clear() error {
	return h.undo(func(change) bool { return true })
}

// Close gives the interface name free. It does not Clear.
func (h *Host) Close() error {
	return errors.Join(os.Remove(h.lock.Name()), h.lock.Close())
}
