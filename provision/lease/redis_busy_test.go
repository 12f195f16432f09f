// SPDX-License-Identifier: GPL-2.0-or-later

package lease_test

import (
	"errors"
	"testing"
	"time"

	"ddtb/provision/lease"
	"ddtb/provision/lease/leasetest"
	"ddtb/provision/redis/redistest"
)

// A node that is cut off serves a lease until half a quarantine past its end, though the owner may have moved to another node, and
// logged out there, long before. Nobody else has the index until then, however the owner left it.
func TestRedisCutOff(t *testing.T) {
	const ttl, accepted = 5 * leasetest.Quarantine, time.Minute
	for name, leave := range map[string]func(t *testing.T, r *lease.Redis, l lease.Lease){
		"logout": func(t *testing.T, r *lease.Redis, l lease.Lease) {
			if err := r.Release(t.Context(), held(l)); err != nil {
				t.Fatal(err)
			}
		},
		"never accepted": func(*testing.T, *lease.Redis, lease.Lease) {},
		"another index": func(t *testing.T, r *lease.Redis, l lease.Lease) {
			req := request("alice", "s3")
			req.Node, req.Index = "b", l.Index+1
			if _, err := r.Acquire(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, clock := redistest.Start(t), leasetest.NewClock()
			pools := leasetest.Pools(100)
			pools[0].Size = 3
			a, b := openRedis(t, redistest.Open(t, server.Options()), pools, clock, "a"), openRedis(t, redistest.Open(t, server.Options()), pools, clock, "b")
			clock.Advance(24 * time.Hour)
			ask := func(r *lease.Redis, node, owner, session string, ttl time.Duration) (lease.Lease, error) {
				req := request(owner, session)
				req.Node, req.TTL = node, ttl
				return r.Acquire(t.Context(), req)
			}
			first, err := ask(a, "a", "alice", "s1", ttl)
			if err != nil {
				t.Fatal(err)
			}
			clock.Advance(time.Second) // a hears nothing from now on
			second, err := ask(b, "b", "alice", "s2", accepted)
			if err != nil || second.Index != first.Index {
				t.Fatalf("alice at b: %+v, %v", second, err)
			}
			leave(t, b, second)
			deadline := first.Expires.Add(leasetest.Quarantine / 2)
			for clock.Now().Before(deadline) {
				for _, owner := range []string{"x", "y", "z"} {
					if l, err := ask(b, "b", owner, owner, time.Second); err == nil && l.Index == first.Index {
						t.Fatalf("%s has index %d at %v, which a may serve until %v", owner, l.Index, clock.Now(), deadline)
					} else if err != nil && !errors.Is(err, lease.ErrFull) {
						t.Fatal(err)
					}
				}
				clock.Advance(leasetest.Quarantine / 4)
			}
			clock.Advance(leasetest.Quarantine)
			for _, owner := range []string{"u", "v"} { // it is not lost
				if _, err := ask(b, "b", owner, owner, ttl); err != nil {
					t.Errorf("%s: %v", owner, err)
				}
			}
		})
	}
}
