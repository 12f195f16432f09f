// SPDX-License-Identifier: GPL-2.0-or-later

package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testKind = "journal test 1"

// open opens a journal whose records are collected.
func open(t testing.TB, path string, opts Options) (*Journal, []string, Report) {
	t.Helper()
	opts.Kind = testKind
	var got []string
	j, report, err := Open(path, opts, func(r []byte) error {
		got = append(got, string(r))
		return nil
	})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j, got, report
}

func appendAll(t testing.TB, j *Journal, records ...string) {
	t.Helper()
	for _, r := range records {
		if err := j.Append([]byte(r)); err != nil {
			t.Fatalf("Append(%q): %v", r, err)
		}
	}
}

func closeJournal(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func TestAppendReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "er", "j")
	j, got, report := open(t, path, Options{})
	if len(got) != 0 || report.Records != 0 || report.Warning() != "" {
		t.Errorf("new journal: records %q, report %+v", got, report)
	}
	long := strings.Repeat("x", 200_000)
	appendAll(t, j, "one", "", long)
	if err := j.Append([]byte("four"), []byte("five")); err != nil {
		t.Fatal(err)
	}
	closeJournal(t, j)
	if err := j.Append([]byte("late")); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close: %v, want ErrClosed", err)
	}
	if err := j.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	j, got, report = open(t, path, Options{})
	if diff := cmp.Diff([]string{"one", "", long, "four", "five"}, got); diff != "" {
		t.Error(diff)
	}
	if report.Records != 5 || report.Cut != 0 || report.Size != j.Size() {
		t.Errorf("report %+v, size %d", report, j.Size())
	}
}

func TestAppendTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, _, _ := open(t, path, Options{})
	if err := j.Append(make([]byte, MaxRecord)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v, want ErrTooLarge", err)
	}
	if err := j.Append(make([]byte, MaxRecord/2), make([]byte, MaxRecord/2)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("two halves: %v, want ErrTooLarge", err)
	}
	most := strings.Repeat("m", MaxRecord-3)
	appendAll(t, j, most)
	closeJournal(t, j)
	if _, got, _ := open(t, path, Options{}); len(got) != 1 || got[0] != most {
		t.Errorf("the longest record did not come back")
	}
}

func TestConcurrentAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, _, _ := open(t, path, Options{})
	const writers, each = 64, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				// Long enough that batches overflow into several frames now and then.
				r := binary.BigEndian.AppendUint32(nil, uint32(w))
				r = binary.BigEndian.AppendUint32(r, uint32(i))
				if err := j.Append(r, make([]byte, 20_000)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	closeJournal(t, j)
	_, got, _ := open(t, path, Options{})
	var next [writers]uint32
	for i := 0; i < len(got); i += 2 {
		w, n := binary.BigEndian.Uint32([]byte(got[i])), binary.BigEndian.Uint32([]byte(got[i])[4:])
		if next[w] != n {
			t.Fatalf("writer %d: record %d where %d was due", w, n, next[w])
		}
		next[w]++
		if len(got[i+1]) != 20_000 {
			t.Fatalf("writer %d: the second record of an append is apart from the first", w)
		}
	}
	for w, n := range next {
		if n != each {
			t.Errorf("writer %d: %d records, want %d", w, n, each)
		}
	}
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, _, _ := open(t, path, Options{})
	_, _, err := Open(path, Options{Kind: testKind}, func([]byte) error { return nil })
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("second Open: %v, want ErrLocked with the file and the process", err)
	}
	closeJournal(t, j)
	open(t, path, Options{})
}

func TestOtherKind(t *testing.T) {
	dir := t.TempDir()
	j, _, _ := open(t, filepath.Join(dir, "j"), Options{})
	closeJournal(t, j)
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte("nothing to do with it"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, file, kind string }{
		{"another kind", "j", "other 1"},
		{"a text", "text", testKind},
	} {
		_, _, err := Open(filepath.Join(dir, tc.file), Options{Kind: tc.kind}, nil)
		if !errors.Is(err, ErrKind) {
			t.Errorf("%s: %v, want ErrKind", tc.name, err)
		}
	}
	for _, kind := range []string{"", strings.Repeat("k", kindSize+1)} {
		if _, _, err := Open(filepath.Join(dir, "new"), Options{Kind: kind}, nil); err == nil {
			t.Errorf("kind %q was taken", kind)
		}
	}
}

func TestReplayError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, _, _ := open(t, path, Options{})
	appendAll(t, j, "good", "bad")
	closeJournal(t, j)
	sour := errors.New("sour")
	_, _, err := Open(path, Options{Kind: testKind}, func(r []byte) error {
		if string(r) == "bad" {
			return sour
		}
		return nil
	})
	offset := fmt.Sprint(headerSize + frameHeaderSize + len("good") + 1)
	if !errors.Is(err, sour) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), offset) {
		t.Errorf("%v: want the error of replay, the file and offset %s", err, offset)
	}
	open(t, path, Options{}) // the lock was given back
}

func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			j, _, _ := open(b, filepath.Join(b.TempDir(), "j"), Options{})
			record := make([]byte, 300)
			work := make(chan struct{}, b.N)
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			b.ResetTimer()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for range work {
						if err := j.Append(record); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// quick is a file on a fast disk, and counts its commits.
type quick struct {
	file
	commits atomic.Int64
}

func (f *quick) Datasync() error {
	f.commits.Add(1)
	for began := time.Now(); time.Since(began) < 100*time.Microsecond; { // shorter than a sleep can be
		runtime.Gosched()
	}
	return nil
}

// TestCommitsArePaced: the faster the disk, the fewer callers would share a commit.
func TestCommitsArePaced(t *testing.T) {
	j, _, _ := open(t, filepath.Join(t.TempDir(), "j"), Options{})
	disk := &quick{file: j.file}
	if err := j.between(func() error { j.file = disk; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		callers int
		paced   bool
	}{{"one", 1, false}, {"several", 32, true}, {"a crowd", 2 * crowd, false}} {
		t.Run(tc.name, func(t *testing.T) {
			const each = 100
			before, began := disk.commits.Load(), time.Now()
			var callers sync.WaitGroup
			for range tc.callers {
				callers.Go(func() {
					for range each {
						if err := j.Append([]byte("record")); err != nil {
							t.Error(err)
						}
					}
				})
			}
			callers.Wait()
			commits, most := disk.commits.Load()-before, 2*int64(time.Since(began)/pace)+10
			if tc.paced && commits > most {
				t.Errorf("%d commits, want %d at most", commits, most)
			}
			if !tc.paced && commits < each {
				t.Errorf("%d commits, want %d at least: nobody else was to come", commits, each)
			}
		})
	}
}
