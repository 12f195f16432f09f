// SPDX-License-Identifier: GPL-2.0-or-later

package journal

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// faulty is a file whose calls fail as told.
type faulty struct {
	file
	writable int // octets that WriteAt still takes; negative: all
	sync     error
	truncate error
}

func (f *faulty) WriteAt(b []byte, offset int64) (int, error) {
	if f.writable < 0 || f.writable >= len(b) {
		return f.file.WriteAt(b, offset)
	}
	n, err := f.file.WriteAt(b[:f.writable], offset)
	return n, errors.Join(err, unix.ENOSPC)
}

func (f *faulty) Datasync() error { return errors.Join(f.sync, f.file.Datasync()) }

func (f *faulty) Truncate(size int64) error { return errors.Join(f.truncate, f.file.Truncate(size)) }

// fault changes j's file between two commits.
func fault(t *testing.T, j *Journal, change func(*faulty)) {
	t.Helper()
	err := j.between(func() error {
		f, ok := j.file.(*faulty)
		if !ok {
			f = &faulty{file: j.file, writable: -1}
			j.file = f
		}
		change(f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// Whatever fails on the way to the disk: the append says so, leaves nothing, and the next one goes on.
func TestAppendFails(t *testing.T) {
	sour := errors.New("sour")
	for _, tc := range []struct {
		name   string
		breaks func(*faulty)
		want   error
		litter bool // what was written cannot be taken back at once
	}{
		{"no octet written", func(f *faulty) { f.writable = 0 }, unix.ENOSPC, false},
		{"header written", func(f *faulty) { f.writable = frameHeaderSize }, unix.ENOSPC, false},
		{"half written", func(f *faulty) { f.writable = 20 }, unix.ENOSPC, false},
		{"fdatasync", func(f *faulty) { f.sync = sour }, sour, false},
		{"half written, and no truncate", func(f *faulty) { f.writable, f.truncate = 20, sour }, unix.ENOSPC, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "j")
			j, _, _ := open(t, path, Options{})
			appendAll(t, j, "before")
			size := j.Size()
			fault(t, j, tc.breaks)
			for range 3 {
				if err := j.Append([]byte("refused, a little longer")); !errors.Is(err, tc.want) && !errors.Is(err, sour) {
					t.Fatalf("%v, want %v", err, tc.want)
				}
			}
			if got := fileSize(t, path); j.Size() != size || !tc.litter && got != size {
				t.Errorf("size %d, file %d, want %d", j.Size(), got, size)
			}
			fault(t, j, func(f *faulty) { f.writable, f.sync, f.truncate = -1, nil, nil })
			appendAll(t, j, "after")
			closeJournal(t, j)
			_, got, report := open(t, path, Options{})
			if diff := cmp.Diff([]string{"before", "after"}, got); diff != "" || report.Cut != 0 {
				t.Errorf("%s, %+v", diff, report)
			}
		})
	}
}

// Everybody who shares a failing commit is told.
func TestAppendFailsForAll(t *testing.T) {
	j, _, _ := open(t, filepath.Join(t.TempDir(), "j"), Options{})
	fault(t, j, func(f *faulty) { f.writable = 0 })
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := j.Append([]byte("r")); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
}

// An append that fails while a snapshot is taken may be in it; so the snapshot is thrown away.
func TestCompactOvertaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	var j *Journal
	again := true
	j, _, _ = open(t, path, Options{Snapshot: func(emit func([]byte) error) error {
		if again {
			fault(t, j, func(f *faulty) { f.writable = 0 })
			if err := j.Append([]byte("refused")); err == nil {
				t.Error("no error")
			}
			fault(t, j, func(f *faulty) { f.writable = -1 })
		}
		return emit([]byte("state"))
	}})
	appendAll(t, j, "one", "two")
	if err := j.Compact(); !errors.Is(err, errOvertaken) {
		t.Errorf("%v, want errOvertaken", err)
	}
	again = false
	if err := j.Compact(); err != nil {
		t.Error(err)
	}
	closeJournal(t, j)
	if _, got, _ := open(t, path, Options{}); len(got) != 1 || got[0] != "state" {
		t.Errorf("%q", got)
	}
}

// The environment of the child of TestRootDiskFull.
const fullDir = "DDTB_JOURNAL_TEST_FULL"

// A real full file system, in a mount namespace of a process of its own.
func TestRootDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("root is needed to mount a small file system")
	}
	if dir := os.Getenv(fullDir); dir != "" {
		testDiskFull(t, dir)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRootDiskFull$", "-test.v")
	cmd.Env = append(os.Environ(), fullDir+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func testDiskFull(t *testing.T, dir string) {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "j")
	c := openCounters(t, path, Options{})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 700_000), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := 0; refused < 100; i++ {
		if err := c.set(fmt.Sprintf("%01000d", i%300), i); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			refused++
		}
	}
	if err := c.journal.Compact(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("compaction on a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := c.set("after", 1); err != nil {
		t.Errorf("with space again: %v", err)
	}
	if err := c.journal.Compact(); err != nil {
		t.Errorf("compaction with space again: %v", err)
	}
	closeJournal(t, c.journal)
	for name, n := range c.values {
		if n == 0 {
			delete(c.values, name) // undone
		}
	}
	again := openCounters(t, path, Options{})
	for name, n := range again.values {
		if n == 0 {
			delete(again.values, name)
		}
	}
	if diff := cmp.Diff(c.values, again.values); diff != "" {
		t.Error(diff)
	}
	closeJournal(t, again.journal)
}
