// SPDX-License-Identifier: GPL-2.0-or-later

package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// file is what a Journal needs of the operating system's files; tests put one that fails in its place.
type file interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Datasync() error // the contents and the size are on disk when it returns
	Stat() (fs.FileInfo, error)
	Close() error
}

type osFile struct{ *os.File }

// Datasync implements file.
func (f osFile) Datasync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// fleeting is a file whose contents the kernel brings to the disk when it likes.
type fleeting struct{ osFile }

// Datasync implements file.
func (fleeting) Datasync() error { return nil }

// wrap is f as a journal with these options writes it.
func (o Options) wrap(f *os.File) file {
	if o.Fleeting {
		return fleeting{osFile{f}}
	}
	return osFile{f}
}

// lockFile takes the lock of a journal, which ends with the process. The file stays: to remove it would let two
// processes hold a lock each, on two files of the same name.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		holder, _ := io.ReadAll(io.LimitReader(f, 32)) // only for the message
		if pid := strings.TrimSpace(string(holder)); pid != "" {
			return nil, fmt.Errorf("%w (process %s)", ErrLocked, pid)
		}
		return nil, ErrLocked
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("%d\n", os.Getpid()))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}
