// SPDX-License-Identifier: GPL-2.0-or-later

package lease_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"ddtb/provision/lease"
	"ddtb/provision/lease/leasetest"
	"ddtb/provision/redis"
	"ddtb/provision/redis/redistest"
)

// short is a grace that a test can wait for.
const short = 2 * time.Second

// share opens a store over a connection of its own, by real time.
func share(t *testing.T, o redis.Options, node string, change ...func(*lease.RedisOptions)) *lease.Redis {
	t.Helper()
	options := lease.RedisOptions{Conn: redistest.Open(t, o), Node: node, Grace: short}
	for _, c := range change {
		c(&options)
	}
	r, err := lease.OpenRedis(t.Context(), leasetest.Pools(100), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func request(owner, session string) lease.Request {
	return lease.Request{Pool: "home", Owner: owner, Session: session, Node: "a", TTL: time.Hour}
}

func held(l lease.Lease) lease.Holder {
	return lease.Holder{Pool: l.Pool, Index: l.Index, Session: l.Session}
}

// eventually asks until an owner gets a lease: the grace is over.
func eventually(t *testing.T, r *lease.Redis, req lease.Request) lease.Lease {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		l, err := r.Acquire(t.Context(), req)
		if err == nil {
			return l
		}
		if time.Now().After(deadline) || !errors.Is(err, lease.ErrGrace) && !errors.Is(err, lease.ErrUnavailable) {
			t.Fatalf("%s: %v", req.Owner, err)
		}
	}
}

func unavailable(t *testing.T, r *lease.Redis, req lease.Request) {
	t.Helper()
	if l, err := r.Acquire(t.Context(), req); !errors.Is(err, lease.ErrUnavailable) && !errors.Is(err, lease.ErrGrace) {
		t.Errorf("%s got index %d, %v; want no lease", req.Owner, l.Index, err)
	}
}

// away is what a node does while Redis does not answer: known subscribers of this node take over what they have, others get
// nothing. Afterwards what was taken over is in Redis.
func testAway(t *testing.T, r *lease.Redis, away, back func()) {
	t.Helper()
	alice := eventually(t, r, request("alice", "s1"))
	away()
	unavailable(t, r, request("bob", "s2"))
	again, err := r.Acquire(t.Context(), request("alice", "s3"))
	if err != nil || again.Index != alice.Index || again.Session != "s3" || again.Expires.After(alice.Expires.Add(time.Second)) {
		t.Errorf("alice again: %+v, %v; had %+v", again, err, alice)
	}
	if lost, err := r.Extend(t.Context(), time.Hour, held(again)); !errors.Is(err, lease.ErrUnavailable) || lost != nil {
		t.Errorf("extended while Redis is away: lost %v, %v", lost, err)
	}
	if err := r.Release(t.Context(), lease.Holder{Pool: "home", Index: 99, Session: "x"}); !errors.Is(err, lease.ErrUnavailable) {
		t.Errorf("released while Redis is away: %v", err)
	}
	back()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) { // of her first session, before anybody asserts the second
		if err = r.Release(t.Context(), held(alice)); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Error(err)
	}
	bob := eventually(t, r, request("bob", "s4"))
	if bob.Index == alice.Index {
		t.Errorf("bob has alice's index %d", bob.Index)
	}
	if lost, err := r.Extend(t.Context(), time.Hour, held(again)); err != nil || lost != nil {
		t.Errorf("alice's second session: lost %v, %v", lost, err)
	}
	if lost, err := r.Extend(t.Context(), time.Hour, held(alice)); err != nil || len(lost) != 1 {
		t.Errorf("alice's first session: lost %v, %v", lost, err)
	}
	if err := r.Release(t.Context(), held(again)); err != nil {
		t.Error(err)
	}
}

func TestRedisHangs(t *testing.T) {
	s := redistest.Start(t)
	o := s.Options()
	o.Timeout = 200 * time.Millisecond
	testAway(t, share(t, o, "a"), s.Pause, s.Continue)
}

// What it has kept on disk is there again after a restart; what it has not kept is asserted.
func TestRedisRestarts(t *testing.T) {
	for name, args := range map[string][]string{"kept": {"--appendonly", "yes", "--appendfsync", "always"}, "empty": nil} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t, args...)
			testAway(t, share(t, s.Options(), "a"), s.Kill, s.Run)
		})
	}
}

func TestRedisFull(t *testing.T) {
	s := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "noeviction")
	limit := func(to string) func() {
		return func() {
			if err := s.Client().ConfigSet(context.Background(), "maxmemory", to).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	testAway(t, share(t, s.Options(), "a"), limit("1"), limit("100mb"))
}

// A master that became a replica takes no writes.
func TestRedisReadOnly(t *testing.T) {
	s := redistest.Start(t)
	testAway(t, share(t, s.Options(), "a"), s.Cut, s.Promote)
}

// TestRedisFailover: of 50 acknowledged leases the replica knows nothing when it takes over. None is given away again.
func TestRedisFailover(t *testing.T) {
	master := redistest.Start(t)
	replica := master.Replica()
	sentinels := redistest.Sentinels(t, master, 1, 1, 2*time.Second)
	a, b := share(t, redistest.SentinelOptions(sentinels), "a"), share(t, redistest.SentinelOptions(sentinels), "b")
	for _, r := range []*lease.Redis{a, b} {
		for l := range r.All(t.Context()) {
			t.Fatalf("%+v", l)
		}
	}
	served := map[uint32]string{}
	get := func(r *lease.Redis, owner string) lease.Lease {
		t.Helper()
		l := eventually(t, r, request(owner, "s-"+owner))
		if other := served[l.Index]; other != "" && other != owner {
			t.Errorf("index %d is %s's and %s's", l.Index, other, owner)
		}
		served[l.Index] = owner
		return l
	}
	for i := range 20 {
		get(a, fmt.Sprint("old", i))
	}
	replica.Await("all of it", func(c *goredis.Client) bool {
		n, _ := c.ZCard(context.Background(), "ddtb:{home}:exp").Result()
		return n == 20
	})
	replica.Cut()
	var lost []lease.Holder
	for i := range 50 {
		lost = append(lost, held(get(a, fmt.Sprint("lost", i))))
	}
	master.Kill()
	replica.Await("to be master", func(c *goredis.Client) bool {
		info, err := redis.ReadInfo(context.Background(), c)
		return err == nil && info.Master
	})
	for i := range 20 {
		get(b, fmt.Sprint("fresh", i))
	}
	if gone, err := a.Extend(t.Context(), time.Hour, lost...); err != nil || gone != nil {
		t.Errorf("of the leases that Redis had lost %d are gone, %v", len(gone), err)
	}
}

// What is wrong with a server is told when the store is opened, in an operator's words.
func TestRedisRefuses(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "right")
	for password, want := range map[string]string{"": "give redis.password_file", "wrong": "password or user refused"} {
		o := s.Options()
		o.Password = password
		_, err := lease.OpenRedis(t.Context(), leasetest.Pools(100), lease.RedisOptions{Conn: redistest.Open(t, o), Node: "a"})
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, lease.ErrUnavailable) {
			t.Errorf("password %q: %v, want %q", password, err, want)
		}
	}
}

// A server that comes back after its lease's last day learns from Extend that its sessions are over.
func TestRedisAwayTooLong(t *testing.T) {
	s, clock := redistest.Start(t), leasetest.NewClock()
	r := share(t, s.Options(), "a", func(o *lease.RedisOptions) { o.Clock, o.Quarantine = clock.Now, time.Hour })
	l := eventually(t, r, request("alice", "s1"))
	s.Kill()
	clock.Advance(time.Hour + 29*time.Minute)
	if lost, err := r.Extend(t.Context(), time.Hour, held(l)); err == nil || lost != nil {
		t.Errorf("before the deadline: lost %v, %v", lost, err)
	}
	clock.Advance(2 * time.Minute)
	if lost, err := r.Extend(t.Context(), time.Hour, held(l)); err == nil || len(lost) != 1 {
		t.Errorf("past the deadline: lost %v, %v", lost, err)
	}
	unavailable(t, r, request("alice", "s2"))
}

// A clock of Redis that jumps while it waits for all servers takes nothing of their time: who was served before Redis lost everything may
// not have said so.
func TestRedisGraceOutlivesJump(t *testing.T) {
	for _, jump := range []time.Duration{44 * time.Hour, -44 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			clock := leasetest.NewClock()
			r := share(t, redistest.Start(t).Options(), "a", func(o *lease.RedisOptions) { o.Clock, o.Time, o.Grace = clock.Now, clock.Now, time.Minute })
			refused := func(when string) {
				t.Helper()
				if _, err := r.Acquire(t.Context(), request("alice", "s1")); !errors.Is(err, lease.ErrGrace) {
					t.Errorf("%s: %v, want %v", when, err, lease.ErrGrace)
				}
			}
			refused("at first")
			clock.Advance(40 * time.Second)
			refused("before the jump")
			clock.Advance(jump)
			refused("after the jump")
			clock.Advance(15 * time.Second)
			refused("still in the grace")
			err := lease.ErrGrace
			for tries := 0; errors.Is(err, lease.ErrGrace) && tries < 200; tries++ { // what was on its way at the jump comes late: a jump, too
				clock.Advance(10 * time.Second)
				_, err = r.Acquire(t.Context(), request("alice", "s1"))
			}
			if err != nil {
				t.Errorf("after the grace: %v", err)
			}
		})
	}
}

// failover has Redis look like a replica that became the master, and whose data is of some time ago.
func failover(t *testing.T, s *redistest.Server, last time.Time) {
	t.Helper()
	if err := s.Client().HSet(t.Context(), "ddtb:{home}:pool", "replid", "another's", "clock", last.UnixMilli()).Err(); err != nil {
		t.Fatal(err)
	}
}

// A server that is started anew after Redis failed over goes on with what it reads, but not where the data is so old that somebody else may
// have got it; nor is what was confirmed since in doubt because Redis's clock jumps, though not all servers have said what they serve.
func TestRedisRestartInDoubt(t *testing.T) {
	for _, c := range []struct {
		name               string
		age                time.Duration
		confirm, jump, own bool
	}{
		{"new data", 0, false, false, true},
		{"old data", time.Hour, false, false, false},
		{"confirmed", time.Hour, true, false, true},
		{"confirmed before a jump", time.Hour, true, true, true},
		{"old data before a jump", time.Hour, false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, clock := redistest.Start(t), leasetest.NewClock()
			open := func(node string) *lease.Redis {
				return share(t, s.Options(), node, func(o *lease.RedisOptions) {
					o.Clock, o.Time, o.Jump, o.Quarantine = clock.Now, clock.Now, time.Minute, time.Minute
				})
			}
			_ = open("b").Close() // never says what it serves
			a := open("a")
			clock.Advance(2 * short)
			l := eventually(t, a, request("alice", "s1"))
			if c.confirm {
				failover(t, s, clock.Now().Add(-c.age))
				awaitAsserted(t, s, l)
			}
			_ = a.Close()
			if !c.confirm {
				failover(t, s, clock.Now().Add(-c.age))
			}
			if c.jump {
				_ = open("c").Close() // sees the failover, if nobody has
				clock.Advance(2 * time.Minute)
			}
			a = open("a")
			for _, err := range a.All(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
			}
			if lost, err := a.Extend(t.Context(), time.Hour, held(l)); err != nil || (len(lost) == 0) != c.own {
				t.Errorf("lost %v, %v", lost, err)
			}
		})
	}
}

// awaitAsserted waits until a lease was asserted after a failover.
func awaitAsserted(t *testing.T, s *redistest.Server, l lease.Lease) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		pool, err := s.Client().HMGet(t.Context(), "ddtb:{home}:pool", "replid", "epoch").Result()
		if err != nil {
			t.Fatal(err)
		}
		epoch, err := s.Client().HGet(t.Context(), fmt.Sprint("ddtb:{home}:lease:", l.Index), "epoch").Result()
		if err == nil && pool[0] != "another's" && pool[1] == epoch {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the lease was not asserted after the failover: pool %v, lease of epoch %s, %v", pool, epoch, err)
		}
	}
}
