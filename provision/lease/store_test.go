// SPDX-License-Identifier: GPL-2.0-or-later

package lease_test

import (
	"testing"

	"ddtb/provision/lease"
	"ddtb/provision/lease/leasetest"
)

func TestMemory(t *testing.T) {
	leasetest.Run(t, func(t *testing.T, pools []lease.Pool) leasetest.Subject {
		clock := leasetest.NewClock()
		m, err := lease.NewMemory(pools, lease.Options{Clock: clock.Now, Quarantine: leasetest.Quarantine})
		if err != nil {
			t.Fatal(err)
		}
		return leasetest.Subject{Store: m, Advance: clock.Advance}
	})
}

func TestEmbedded(t *testing.T) {
	leasetest.Run(t, func(t *testing.T, pools []lease.Pool) leasetest.Subject {
		clock, dir := leasetest.NewClock(), t.TempDir()
		var e *lease.Embedded
		reopen := func(t *testing.T) lease.Store {
			t.Helper()
			if e != nil {
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			e, err = lease.OpenEmbedded(dir, pools, lease.Options{Clock: clock.Now, Quarantine: leasetest.Quarantine})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		s := leasetest.Subject{Alone: true, Store: reopen(t), Advance: clock.Advance, Reopen: reopen}
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	})
}
