// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"ddtb/aaa/journal"
)

func testPools(size uint32) []Pool {
	return []Pool{
		{
			Name: "home", Size: size, EndpointBase: netip.MustParseAddr("2001:db8:8000::"),
			PrefixBase: netip.MustParseAddr("2001:db8:4000::"), PrefixLen: 56,
		},
		{Name: "office", First: 1 << 24, Size: size, EndpointBase: netip.MustParseAddr("2001:db8:8001::")},
	}
}

func mustOpen(t testing.TB, dir string, pools []Pool, opts Options) *Embedded {
	t.Helper()
	e, err := OpenEmbedded(dir, pools, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func mustClose(t testing.TB, e *Embedded) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func request(owner string) Request {
	return Request{Pool: "home", Owner: owner, Session: "s-" + owner, Node: "node", TTL: time.Hour, Data: []byte("data of " + owner)}
}

func mustAcquire(t testing.TB, s Store, req Request) Lease {
	t.Helper()
	l, err := s.Acquire(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func holderOf(l Lease) Holder { return Holder{Pool: l.Pool, Index: l.Index, Session: l.Session} }

// dump is every lease as text, in order.
func dump(t testing.TB, s Store) []string {
	t.Helper()
	var out []string
	for l, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%+v %q", l, l.Data))
	}
	return out
}

func TestEmbeddedReopen(t *testing.T) {
	dir := t.TempDir()
	e := mustOpen(t, dir, testPools(2000), Options{})
	for i := range 1500 {
		mustAcquire(t, e, request(fmt.Sprint("user", i)))
	}
	want := dump(t, e)
	mustClose(t, e)
	mustClose(t, e)
	if _, err := e.Acquire(t.Context(), request("late")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after Close: %v, want ErrUnavailable", err)
	}
	e = mustOpen(t, dir, testPools(2000), Options{})
	if diff := cmp.Diff(want, dump(t, e)); diff != "" {
		t.Error(diff)
	}
	if _, err := OpenEmbedded(dir, testPools(2000), Options{}); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("opened twice: %v, want ErrLocked", err)
	}
	if got := e.Usage(); len(got) != 2 || got[0] != (Usage{Pool: "home", Size: 2000, Active: 1500, Unused: 499}) || got[1].Unused != 1999 {
		t.Errorf("usage %+v", got)
	}
}

// What does not get to the disk did not happen, for nobody.
func TestEmbeddedRollback(t *testing.T) {
	dir := t.TempDir()
	e := mustOpen(t, dir, testPools(20), Options{Quarantine: time.Nanosecond})
	var leases []Lease
	for i := range 10 {
		req := request(fmt.Sprint("user", i))
		if i%3 == 0 {
			req.Foreign = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0xf0, byte(i)}), 48)
		}
		leases = append(leases, mustAcquire(t, e, req))
	}
	if err := e.Reserve(t.Context(), "home", 15, "boss", true); err != nil {
		t.Fatal(err)
	}
	if err := e.Release(t.Context(), holderOf(leases[1]), holderOf(leases[3])); err != nil {
		t.Fatal(err)
	}
	want, usage := dump(t, e), e.Usage()
	if err := e.journal.Close(); err != nil { // from now on every append fails
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			ctx := context.Background()
			var err error
			switch i % 5 {
			case 0:
				req := request(fmt.Sprint("new", i))
				req.Foreign = netip.MustParsePrefix("2001:db8:f300::/48")
				_, err = e.Acquire(ctx, req)
			case 1:
				req := request(fmt.Sprint("user", i%10))
				req.Session, req.Index = "another", uint32(10+i%10)
				_, err = e.Acquire(ctx, req)
			case 2:
				err = e.Release(ctx, holderOf(leases[i%10]), holderOf(leases[(i+5)%10]), holderOf(leases[0]))
			case 3:
				_, err = e.Extend(ctx, 2*time.Hour, Holder{Pool: "home", Index: leases[0].Index, Session: leases[0].Session, Data: []byte("x")})
			case 4:
				err = errors.Join(e.Reserve(ctx, "home", 15, "boss", false), e.Reserve(ctx, "home", 16, "heir", true))
			}
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("call %d: %v, want ErrUnavailable", i, err)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(want, dump(t, e)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(usage, e.Usage()); diff != "" {
		t.Error(diff)
	}
	// The orders and indices were put back too: what is in memory is what is read from the disk.
	mustClose(t, e)
	e = mustOpen(t, dir, testPools(20), Options{Quarantine: time.Nanosecond})
	if diff := cmp.Diff(want, dump(t, e)); diff != "" {
		t.Error(diff)
	}
}

func TestEmbeddedDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, journalFile)
	e := mustOpen(t, dir, testPools(100), Options{})
	var want [][]string
	for i := range 10 {
		mustAcquire(t, e, request(fmt.Sprint("user", i)))
		want = append(want, dump(t, e))
	}
	mustClose(t, e)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The tail: all but the last lease are there, and the operator is told.
	put(whole[:len(whole)-3])
	var log bytes.Buffer
	e = mustOpen(t, dir, testPools(100), Options{Logger: zerolog.New(&log)})
	if diff := cmp.Diff(want[8], dump(t, e)); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(log.String(), "warn") || !strings.Contains(log.String(), path) {
		t.Errorf("no warning: %s", log.String())
	}
	mustClose(t, e)
	// The middle: nothing starts, nothing is changed, and what to do is said.
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 4
	put(flipped)
	_, err = OpenEmbedded(dir, testPools(100), Options{})
	var damaged *journal.DamagedError
	if !errors.As(err, &damaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), fmt.Sprint(damaged.Offset)) {
		t.Errorf("%v, want a DamagedError", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, flipped) {
		t.Errorf("the damaged file was changed (%v)", err)
	}
}

// Calls and compactions side by side; what is on disk afterwards is what was in memory.
func TestEmbeddedCompaction(t *testing.T) {
	dir := t.TempDir()
	pools := testPools(3000)
	e, err := openEmbedded(dir, pools, Options{Quarantine: time.Nanosecond}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			for i := range 60 {
				req := request(fmt.Sprint("user", w, "/", i%50))
				req.Session, req.Pool = fmt.Sprint("session", i), pools[i%2].Name
				if i%7 == 0 {
					req.Foreign = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0xf0 | byte(w>>4), byte(w << 4)}), 44)
				}
				l, err := e.Acquire(context.Background(), req)
				if err == nil && i%3 != 0 {
					err = e.Release(context.Background(), holderOf(l))
				}
				if err != nil && !errors.Is(err, ErrTaken) {
					t.Error(err)
					return
				}
			}
		})
	}
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				stopped <- n
				return
			default:
			}
			if err := e.journal.Compact(); err != nil {
				t.Error(err)
			}
		}
	}()
	wg.Wait()
	close(stop)
	if n := <-stopped; n < 2 {
		t.Errorf("%d compactions: too few to show anything", n)
	}
	want, usage := dump(t, e), e.Usage()
	mustClose(t, e)
	e = mustOpen(t, dir, pools, Options{Quarantine: time.Nanosecond})
	if diff := cmp.Diff(want, dump(t, e)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(usage, e.Usage()); diff != "" {
		t.Error(diff)
	}
}

// A caller that gives up is told so; what it asked for happens or not.
func TestEmbeddedGivingUp(t *testing.T) {
	e := mustOpen(t, t.TempDir(), testPools(1000), Options{})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				data := bytes.Repeat([]byte("x"), 100)
				l, err := e.Acquire(ctx, Request{Pool: "home", Owner: fmt.Sprint("user", i), Session: "s", TTL: time.Hour, Data: data})
				clear(data) // it is the caller's own again
				if err == nil && string(l.Data) != strings.Repeat("x", 100) || err != nil && !errors.Is(err, ErrUnavailable) {
					t.Errorf("%q, %v", l.Data, err)
				}
			}()
			if i%2 == 0 {
				cancel()
			}
			<-done
			cancel()
		})
	}
	wg.Wait()
	for l, err := range e.All(t.Context()) {
		if err != nil || string(l.Data) != strings.Repeat("x", 100) {
			t.Errorf("%q, %v", l.Data, err)
		}
	}
}

// The environment of the child of TestRootEmbeddedDiskFull.
const fullDir = "DDTB_LEASE_FULL_DIR"

func TestRootEmbeddedDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("root is needed to mount a small file system")
	}
	if dir := os.Getenv(fullDir); dir != "" {
		testDiskFull(t, dir)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRootEmbeddedDiskFull$", "-test.v")
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
	e, err := openEmbedded(dir, testPools(10_000), Options{}, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 700_000), 0o600); err != nil {
		t.Fatal(err)
	}
	acquired, refused := 0, 0
	for i := 0; refused < 20; i++ {
		req := request(fmt.Sprint("user", i))
		req.Data = make([]byte, 1000)
		_, err := e.Acquire(t.Context(), req)
		switch {
		case err == nil:
			acquired++
		case errors.Is(err, ErrUnavailable) && errors.Is(err, unix.ENOSPC):
			refused++
		default:
			t.Fatal(err)
		}
	}
	if u := e.Usage()[0]; int(u.Active) != acquired {
		t.Errorf("%d active, %d acknowledged", u.Active, acquired)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	mustAcquire(t, e, request("after"))
	want := dump(t, e)
	mustClose(t, e)
	e = mustOpen(t, dir, testPools(10_000), Options{})
	if diff := cmp.Diff(want, dump(t, e)); diff != "" || len(want) != acquired+1 {
		t.Errorf("%d leases, want %d; %s", len(want), acquired+1, diff)
	}
	mustClose(t, e)
}
