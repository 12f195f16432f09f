// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func tentative(owner string) Request {
	r := request(owner)
	r.Tentative = true
	return r
}

// TestTentativeDoesNotWait: a tentative lease is given though the disk takes nothing, and gone when that shows.
func TestTentativeDoesNotWait(t *testing.T) {
	e := mustOpen(t, t.TempDir(), testPools(20), Options{})
	mustAcquire(t, e, request("before"))
	want := dump(t, e)
	if err := e.journal.Close(); err != nil { // from now on every append fails
		t.Fatal(err)
	}
	for i := range 5 {
		mustAcquire(t, e, tentative(fmt.Sprint("user", i)))
	}
	if n := e.Usage()[0].Active; n != 6 {
		t.Errorf("%d leases are active, want 6", n)
	}
	if _, err := e.Acquire(t.Context(), request("user1")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a lease that is not tentative: %v, want ErrUnavailable", err)
	}
	if diff := cmp.Diff(want, dump(t, e)); diff != "" {
		t.Error(diff)
	}
}

// TestTentativeGoesAlong: what was tentative is on disk once anything after it is, and after Close.
func TestTentativeGoesAlong(t *testing.T) {
	dir := t.TempDir()
	e := mustOpen(t, dir, testPools(20), Options{})
	mustAcquire(t, e, tentative("offered"))
	l := mustAcquire(t, e, tentative("accepted"))
	accepted := request("accepted")
	accepted.Index = l.Index
	if again := mustAcquire(t, e, accepted); again.Index != l.Index || !again.Since.Equal(l.Since) {
		t.Errorf("the lease %+v became %+v", l, again)
	}
	mustAcquire(t, e, tentative("last"))
	want := dump(t, e)
	mustClose(t, e)
	if diff := cmp.Diff(want, dump(t, mustOpen(t, dir, testPools(20), Options{}))); diff != "" || len(want) != 3 {
		t.Errorf("%d leases: %s", len(want), diff)
	}
}

// TestPacedCallers: many callers at a time get what they ask for, though the disk is not asked for each.
func TestPacedCallers(t *testing.T) {
	dir := t.TempDir()
	e := mustOpen(t, dir, testPools(2000), Options{})
	var group sync.WaitGroup
	for worker := range 50 {
		group.Go(func() {
			for i := range 20 {
				if _, err := e.Acquire(t.Context(), request(fmt.Sprint("user", worker*20+i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	want := dump(t, e)
	mustClose(t, e)
	if diff := cmp.Diff(want, dump(t, mustOpen(t, dir, testPools(2000), Options{}))); diff != "" || len(want) != 1000 {
		t.Errorf("%d leases: %s", len(want), diff)
	}
}
