// SPDX-License-Identifier: GPL-2.0-or-later

package lease_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"ddtb/provision/lease"
	"ddtb/provision/lease/leasetest"
	"ddtb/provision/redis"
	"ddtb/provision/redis/redistest"
)

const grace = 2 * time.Second

// openRedis opens a store whose time is clock's, past the grace that a new pool begins with.
func openRedis(t *testing.T, conn *redis.Conn, pools []lease.Pool, clock *leasetest.Clock, node string) *lease.Redis {
	t.Helper()
	r, err := lease.OpenRedis(t.Context(), pools, lease.RedisOptions{
		Options: lease.Options{Clock: clock.Now, Quarantine: leasetest.Quarantine}, Conn: conn, Node: node, Grace: grace, Jump: 10 * 365 * 24 * time.Hour, Time: clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// runRedis runs the suite over what options connect to; empty empties it before each test.
func runRedis(t *testing.T, options redis.Options, empty func(*testing.T)) {
	conn := redistest.Open(t, options)
	leasetest.Run(t, func(t *testing.T, pools []lease.Pool) leasetest.Subject {
		empty(t)
		clock := leasetest.NewClock()
		r := openRedis(t, conn, pools, clock, "node1")
		ask := lease.Request{Pool: pools[0].Name, Owner: "x", Session: "x", TTL: time.Second}
		if _, err := r.Acquire(t.Context(), ask); !errors.Is(err, lease.ErrGrace) {
			t.Fatalf("a new pool gave a lease at once (%v): who served it before Redis lost it could not say so", err)
		}
		clock.Advance(24 * time.Hour) // until when a server that holds anything would have said so
		return leasetest.Subject{
			Store: r, Advance: clock.Advance,
			Reopen: func(t *testing.T) lease.Store {
				t.Helper()
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				r = openRedis(t, conn, pools, clock, "node1")
				return r
			},
		}
	})
}

func flush(t *testing.T, s *redistest.Server) {
	t.Helper()
	if err := s.Client().FlushAll(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestRedis(t *testing.T) {
	s := redistest.Start(t)
	runRedis(t, s.Options(), func(t *testing.T) { flush(t, s) })
}

func TestRedisReplicated(t *testing.T) {
	s := redistest.Start(t)
	s.Replica()
	runRedis(t, s.Options(), func(t *testing.T) { flush(t, s) })
}

func TestRedisCluster(t *testing.T) {
	nodes := redistest.Cluster(t, 3)
	runRedis(t, redistest.ClusterOptions(nodes), func(t *testing.T) {
		for _, s := range nodes {
			flush(t, s)
		}
	})
}

func TestRedisSentinel(t *testing.T) {
	master := redistest.Start(t)
	master.Replica()
	runRedis(t, redistest.SentinelOptions(redistest.Sentinels(t, master, 3, 1, 5*time.Minute)), func(t *testing.T) { flush(t, master) })
}

// Pools that other nodes know otherwise are refused.
func TestRedisPools(t *testing.T) {
	s := redistest.Start(t)
	conn, clock := redistest.Open(t, s.Options()), leasetest.NewClock()
	openRedis(t, conn, leasetest.Pools(100), clock, "node1")
	openRedis(t, conn, leasetest.Pools(200), clock, "node2") // more of the same
	open := func(pools []lease.Pool, drop bool) error {
		r, err := lease.OpenRedis(t.Context(), pools, lease.RedisOptions{Options: lease.Options{Drop: drop}, Conn: conn, Node: "node3", Time: clock.Now})
		if err == nil {
			err = r.Close()
		}
		return err
	}
	other := leasetest.Pools(200)
	other[0].EndpointBase = other[0].EndpointBase.Next()
	for name, pools := range map[string][]lease.Pool{"smaller": leasetest.Pools(100), "other addresses": other} {
		if err := open(pools, false); err == nil || !strings.Contains(err.Error(), "give all nodes the same pools") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := open(other, true); err != nil {
		t.Errorf("allowed to drop: %v", err)
	}
}
