// SPDX-License-Identifier: GPL-2.0-or-later

package redis_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"

	"ddtb/provision/redis"
	"ddtb/provision/redis/redistest"
)

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		options redis.Options
		want    string
	}{
		"none":                   {redis.Options{}, "addresses: none"},
		"no port":                {redis.Options{Addresses: []string{"192.0.2.1"}}, "expected host and port"},
		"two servers":            {redis.Options{Addresses: []string{"a:1", "b:1"}}, "unless sentinel or cluster"},
		"sentinels of a cluster": {redis.Options{Addresses: []string{"a:1"}, Master: "m", Cluster: true}, "no Sentinels"},
		"socket of a cluster":    {redis.Options{Addresses: []string{"/run/r.sock"}, Cluster: true}, "a socket"},
		"database of a cluster":  {redis.Options{Addresses: []string{"a:1"}, Cluster: true, Database: 1}, "database 0"},
		"user without password":  {redis.Options{Addresses: []string{"a:1"}, Username: "u"}, "a password is needed"},
		"one":                    {redis.Options{Addresses: []string{"a:1"}}, ""},
		"socket":                 {redis.Options{Addresses: []string{"/run/r.sock"}}, ""},
		"sentinels":              {redis.Options{Addresses: []string{"a:1", "b:1"}, Master: "m"}, ""},
		"cluster":                {redis.Options{Addresses: []string{"a:1", "b:1"}, Cluster: true}, ""},
	} {
		err := tc.options.Validate()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// Each thing that can be wrong with a server is told so that an operator knows what to do.
func TestCheck(t *testing.T) {
	plain := redistest.Start(t, "--unixsocket", "redis.sock")
	locked := redistest.Start(t, "--requirepass", "right")
	limited := redistest.Start(t)
	if err := limited.Client().Do(t.Context(), "ACL", "SETUSER", "ddtb", "on", ">right", "~ddtb:*", "+ping", "+hello", "+client", "+get").Err(); err != nil {
		t.Fatal(err)
	}
	evicting := redistest.Start(t, "--maxmemory", "10mb", "--maxmemory-policy", "allkeys-lru")
	replica := plain.Replica()
	gone := redistest.Start(t)
	gone.Kill()
	with := func(s *redistest.Server, change func(*redis.Options)) redis.Options {
		o := s.Options()
		o.Timeout = 5 * time.Second
		if change != nil {
			change(&o)
		}
		return o
	}
	for name, tc := range map[string]struct {
		options redis.Options
		want    string
	}{
		"good":               {with(plain, nil), ""},
		"socket":             {with(plain, func(o *redis.Options) { o.Addresses = []string{plain.Dir + "/redis.sock"} }), ""},
		"good password":      {with(locked, func(o *redis.Options) { o.Password = "right" }), ""},
		"no password":        {with(locked, nil), "give redis.password_file"},
		"wrong password":     {with(locked, func(o *redis.Options) { o.Password = "wrong" }), "password or user refused"},
		"unknown user":       {with(locked, func(o *redis.Options) { o.Username, o.Password = "nobody", "right" }), "password or user refused"},
		"no permission":      {with(limited, func(o *redis.Options) { o.Username, o.Password = "ddtb", "right" }), `user "ddtb" may not do this`},
		"evicting":           {with(evicting, nil), "set it to noeviction"},
		"replica":            {with(replica, nil), "read-only replica"},
		"nobody there":       {with(gone, nil), "nobody answers there"},
		"no cluster":         {with(plain, func(o *redis.Options) { o.Cluster = true }), "cluster"},
		"no such master":     {with(plain, func(o *redis.Options) { o.Master = "ddtb" }), "redis " + plain.Addr},
		"TLS to a plain one": {with(plain, func(o *redis.Options) { o.TLS = insecure(); o.Timeout = time.Second }), "redis " + plain.Addr},
	} {
		t.Run(name, func(t *testing.T) {
			info, err := redistest.Open(t, tc.options).Check(t.Context())
			switch {
			case tc.want == "" && (err != nil || info.ReplicationID == "" || !info.Master):
				t.Errorf("%v, %+v", err, info)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v, want %q", err, tc.want)
			case err != nil && (strings.Contains(err.Error(), "right") || strings.Contains(err.Error(), "wrong")):
				t.Errorf("%v: shows a password", err)
			}
		})
	}
}

func TestCluster(t *testing.T) {
	nodes := redistest.Cluster(t, 3)
	c := redistest.Open(t, redistest.ClusterOptions(nodes))
	if _, err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"ddtb:{a}:x", "ddtb:{b}:x", "ddtb:{c}:x", "ddtb:{d}:x"} {
		master, err := c.Master(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := master.Set(t.Context(), key, 1, 0).Err(); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	var moved error
	for _, s := range nodes {
		if err := s.Client().Get(t.Context(), "ddtb:{a}:x").Err(); err != nil {
			moved = err
		}
	}
	if !c.Moved(t.Context(), moved) || c.Moved(t.Context(), errors.New("another")) || c.Moved(t.Context(), nil) {
		t.Errorf("Moved does not know %v", moved)
	}
	if _, err := redistest.Open(t, nodes[0].Options()).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "redis.cluster is false") {
		t.Errorf("a cluster taken for one server: %v", err)
	}
}

// The Sentinels lead to the new master.
func TestSentinel(t *testing.T) {
	master := redistest.Start(t)
	replica := master.Replica()
	c := redistest.Open(t, redistest.SentinelOptions(redistest.Sentinels(t, master, 3, 1, 2*time.Second)))
	if err := c.Set(t.Context(), "a", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	master.Kill()
	replica.Await("to be master", func(r *goredis.Client) bool {
		info, err := redis.ReadInfo(context.Background(), r)
		return err == nil && info.Master
	})
	var err error
	for range 100 {
		if err = c.Set(t.Context(), "a", "2", 0).Err(); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := replica.Client().Get(t.Context(), "a").Val(); err != nil || got != "2" {
		t.Errorf("after the failover: %q, %v", got, err)
	}
}

// A server that hangs costs a bounded time, and is counted.
func TestDeadline(t *testing.T) {
	s := redistest.Start(t)
	registry := prometheus.NewRegistry()
	o := s.Options()
	o.Timeout, o.Registerer = 100*time.Millisecond, registry
	c := redistest.Open(t, o)
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	defer s.Continue()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Ping(ctx).Err(); redis.Kind(err) != "timeout" || ctx.Err() != nil {
		t.Errorf("%v is %q, want a timeout", err, redis.Kind(err))
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range families {
		seen[f.GetName()] = true
	}
	if !seen["ddtb_redis_command_seconds"] || !seen["ddtb_redis_errors_total"] {
		t.Errorf("metrics: %v", seen)
	}
}
