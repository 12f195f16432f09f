// SPDX-License-Identifier: GPL-2.0-or-later

package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// counters is an owner: numbers by name, each change a record "name=number". It keeps the rules of the package comment.
type counters struct {
	journal  *Journal
	changing sync.RWMutex // held for reading while a change is under way
	mu       sync.Mutex
	values   map[string]int
}

func openCounters(t testing.TB, path string, opts Options) *counters {
	t.Helper()
	c := &counters{values: make(map[string]int)}
	opts.Kind, opts.Snapshot = testKind, c.snapshot
	j, _, err := Open(path, opts, func(r []byte) error {
		name, number, _ := strings.Cut(string(r), "=")
		n, err := strconv.Atoi(number)
		c.values[name] = n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c.journal = j
	t.Cleanup(func() { _ = j.Close() })
	return c
}

func (c *counters) snapshot(emit func([]byte) error) error {
	c.settle()
	c.mu.Lock()
	names := make([]string, 0, len(c.values))
	for name := range c.values {
		names = append(names, name)
	}
	c.mu.Unlock()
	for _, name := range names {
		c.mu.Lock()
		record := fmt.Sprintf("%s=%d", name, c.values[name])
		c.mu.Unlock()
		if err := emit([]byte(record)); err != nil {
			return err
		}
	}
	c.settle()
	return nil
}

// settle waits for the changes under way.
func (c *counters) settle() {
	c.changing.Lock()
	defer c.changing.Unlock()
}

// set is called by one goroutine a name.
func (c *counters) set(name string, n int) error {
	c.changing.RLock()
	defer c.changing.RUnlock()
	c.mu.Lock()
	before := c.values[name]
	c.values[name] = n
	c.mu.Unlock()
	err := c.journal.Append(fmt.Appendf(nil, "%s=%d", name, n))
	if err != nil {
		c.mu.Lock()
		c.values[name] = before
		c.mu.Unlock()
	}
	return err
}

func TestCompact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	c := openCounters(t, path, Options{})
	for i := range 300 {
		if err := c.set(fmt.Sprint("n", i%10), i); err != nil {
			t.Fatal(err)
		}
	}
	before := c.journal.Size()
	if err := c.journal.Compact(); err != nil {
		t.Fatal(err)
	}
	if after := c.journal.Size(); after > before/10 {
		t.Errorf("%d octets became %d", before, after)
	}
	if err := c.set("n3", 1000); err != nil {
		t.Fatal(err)
	}
	closeJournal(t, c.journal)
	again := openCounters(t, path, Options{})
	if diff := cmp.Diff(c.values, again.values); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != again.journal.Size() {
		t.Errorf("file %v (%v), size %d", info.Size(), err, again.journal.Size())
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what compaction wrote is still there: %v", err)
	}
}

// Appenders, and compactions one after the other as fast as they go, some of them started by the journal itself.
func TestCompactUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	c := openCounters(t, path, Options{CompactSize: 10_000})
	const writers, rounds = 32, 200
	var busy sync.WaitGroup
	for w := range writers {
		busy.Go(func() {
			for i := range rounds {
				if err := c.set(fmt.Sprintf("writer%d/%d", w, rand.IntN(50)), i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				stopped <- n
				return
			default:
			}
			if err := c.journal.Compact(); err != nil {
				t.Error(err)
			}
			n++
		}
	}()
	busy.Wait()
	close(stop)
	if n := <-stopped; n < 2 {
		t.Errorf("%d compactions under load: too few to show anything", n)
	}
	closeJournal(t, c.journal)
	again := openCounters(t, path, Options{})
	if diff := cmp.Diff(c.values, again.values); diff != "" {
		t.Error(diff)
	}
}

// A journal compacts by itself when it has doubled, remembers across a restart from where, and Close ends it cleanly.
func TestCompactByItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	const small = 4096
	c := openCounters(t, path, Options{CompactSize: small})
	grown := int64(0)
	for i := 0; ; i++ {
		if err := c.set("n", i); err != nil {
			t.Fatal(err)
		}
		if size := c.journal.Size(); size < grown {
			break
		} else if grown = size; size > 1000*small {
			t.Fatalf("%d octets and no compaction", size)
		}
	}
	closeJournal(t, c.journal)
	again := openCounters(t, path, Options{CompactSize: 1})
	if at := again.journal.compactAt.Load(); at <= 1 || at > 2*again.journal.Size() {
		t.Errorf("the next compaction is due at %d octets, the file has %d", at, again.journal.Size())
	}
}

func TestCompactWithoutSnapshot(t *testing.T) {
	j, _, _ := open(t, filepath.Join(t.TempDir(), "j"), Options{})
	if err := j.Compact(); err == nil {
		t.Error("no error")
	}
}

// A compaction whose snapshot fails leaves the journal as it was.
func TestCompactFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	sour := errors.New("sour")
	j, _, _ := open(t, path, Options{Snapshot: func(emit func([]byte) error) error {
		return errors.Join(emit([]byte("half")), sour)
	}})
	appendAll(t, j, "one", "two")
	if err := j.Compact(); !errors.Is(err, sour) {
		t.Errorf("%v, want %v", err, sour)
	}
	appendAll(t, j, "three")
	closeJournal(t, j)
	if err := j.Compact(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
	// What a killed compaction left is swept away.
	if err := os.WriteFile(path+".new", []byte("left over"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, got, _ := open(t, path, Options{})
	if diff := cmp.Diff([]string{"one", "two", "three"}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the left over file is still there: %v", err)
	}
}
