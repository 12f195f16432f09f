// SPDX-License-Identifier: GPL-2.0-or-later

package fleet_test

import (
	"context"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"ddtb/provision/fleet"
	"ddtb/provision/fleet/fleettest"
	"ddtb/provision/redis/redistest"
)

func TestRedis(t *testing.T) {
	server := redistest.Start(t)
	fleettest.Run(t, func(t *testing.T) (a, b fleet.Board) {
		if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		return fleet.NewRedis(redistest.Open(t, server.Options()), nil), fleet.NewRedis(redistest.Open(t, server.Options()), nil)
	})
}

// TestRedisReadable: what the package comment promises to who looks with redis-cli.
func TestRedisReadable(t *testing.T) {
	server := redistest.Start(t)
	client, ctx := server.Client(), t.Context()
	board := fleet.NewRedis(redistest.Open(t, server.Options()), func() time.Time { return time.Unix(1772366400, 0) })
	s := fleettest.Session(7)
	node := fleet.Node{Name: "ts1", Address: s.Local.Addr(), Epoch: time.UnixMilli(1), Sessions: 1, Capacity: 4, Version: "v", State: fleet.Serving}
	if _, err := board.Announce(ctx, node, time.Hour); err != nil {
		t.Fatal(err)
	}
	event := fleet.Event{Time: s.Since, Kind: "login", Session: s}
	if err := board.Write(ctx, "ts1", fleet.Batch{Events: []fleet.Event{event}, Put: []fleet.Session{s}, Keep: time.Hour}); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]map[string]string{
		"ddtb:session:" + s.ID: {
			"user": "user 7 ü", "node": "ts1", "type": "v6udpv4", "client": "198.51.0.7:4000", "endpoint": "2001:db8:f000:1::5",
			"prefix": "2001:db8:1000:500::/56", "since": "2026-03-01T12:00:00.123Z", "seen": "2026-03-01T12:00:07.123Z",
			"octets_in": "1099511627776", "octets_out": "18446744073709551615", "packets_in": "1", "packets_out": "3",
			"class": "0x00012c,0x676f6c64", "rate": "1000000/10000000", "pool": "homes", "server": "192.0.2.1:3653",
			"routes": "2001:db8:8000::5/128 2001:db8:8001::/48",
		},
		"ddtb:node:ts1": {
			"address": "192.0.2.1", "epoch": "1", "load": "0.2500", "sessions": "1", "capacity": "4", "version": "v", "state": "serving",
		},
	} {
		got, err := client.HGetAll(ctx, key).Result()
		if err != nil || len(got) != len(want) {
			t.Errorf("%s has %d fields, expected %d (%v): %v", key, len(got), len(want), err, got)
		}
		for field, value := range want {
			if got[field] != value {
				t.Errorf("%s %s is %q, expected %q", key, field, got[field], value)
			}
		}
		if left, err := client.PTTL(ctx, key).Result(); err != nil || left <= 0 || left > time.Hour {
			t.Errorf("%s goes in %v (%v)", key, left, err)
		}
	}
	if score, err := client.ZScore(ctx, "ddtb:node:ts1:sessions", s.ID).Result(); err != nil || int64(score) != s.Seen.Unix() {
		t.Errorf("score of the session is %v (%v), expected %d", score, err, s.Seen.Unix())
	}
	stream, err := client.XRange(ctx, "ddtb:events", "-", "+").Result()
	if err != nil || len(stream) != 1 || stream[0].Values["kind"] != "login" || stream[0].Values["user"] != "user 7 ü" {
		t.Errorf("events are %v (%v)", stream, err)
	}
}

// TestRedisRubbish: who writes what is no record of ours gets an error or is passed over, and does no more harm.
func TestRedisRubbish(t *testing.T) {
	server := redistest.Start(t)
	client, ctx := server.Client(), t.Context()
	board := fleet.NewRedis(redistest.Open(t, server.Options()), nil)
	events, _, stop := follow(t, board)
	defer stop()
	for _, err := range []error{
		client.XAdd(ctx, &goredis.XAddArgs{Stream: "ddtb:events", Values: []string{"kind", "login", "endpoint", "rubbish"}}).Err(),
		client.HSet(ctx, "ddtb:session:x", "user", "alice").Err(),
		client.ZAdd(ctx, "ddtb:node:ts1:sessions", goredis.Z{Member: "x"}).Err(),
		client.HSet(ctx, "ddtb:node:ts1", "load", "much").Err(),
		client.ZAdd(ctx, "ddtb:nodes", goredis.Z{Score: float64(time.Now().Unix()), Member: "ts1"}).Err(),
		board.Write(ctx, "ts2", fleet.Batch{Events: []fleet.Event{{Kind: fleet.EventFailover}}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if e := <-events; e.Kind != fleet.EventFailover {
		t.Errorf("the first event is %+v", e)
	}
	if _, err := board.Session(ctx, "x"); err == nil {
		t.Error("a session of nothing but a user is one")
	}
	for s, err := range board.Sessions(ctx, "ts1") {
		if err == nil {
			t.Errorf("session %+v", s)
		}
	}
	if nodes, err := board.Nodes(ctx); err != nil || len(nodes) != 1 || nodes[0].State != fleet.Gone {
		t.Errorf("servers %+v (%v)", nodes, err)
	}
}

// TestRedisAway: every call gives an error, and none hangs.
func TestRedisAway(t *testing.T) {
	server := redistest.Start(t)
	board := fleet.NewRedis(redistest.Open(t, server.Options()), nil)
	server.Kill()
	ctx := t.Context()
	_, nodes := board.Nodes(ctx)
	_, session := board.Session(ctx, "x")
	_, announce := board.Announce(ctx, fleet.Node{Name: "ts1"}, time.Hour)
	for what, err := range map[string]error{
		"announce": announce, "nodes": nodes, "session": session,
		"write": board.Write(ctx, "ts1", fleet.Batch{Drop: []string{"x"}}), "ask": board.Ask(ctx, "ts1", fleet.Command{Verb: fleet.Kick}),
		"prune":  board.Prune(ctx, "ts1", func(string) bool { return true }),
		"follow": board.Follow(ctx, "ts1", fleet.Follower{Ready: func() {}}),
	} {
		if err == nil {
			t.Errorf("%s: no error while Redis is away", what)
		}
	}
	for _, err := range board.Sessions(ctx, "ts1") {
		if err == nil {
			t.Error("sessions: no error while Redis is away")
		}
	}
}

// follow collects events until stop is called.
func follow(t *testing.T, board fleet.Board) (events chan fleet.Event, commands chan fleet.Command, stop func()) {
	t.Helper()
	events, commands = make(chan fleet.Event, 100), make(chan fleet.Command, 100)
	ready, ended := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- board.Follow(ctx, "ts1", fleet.Follower{
			Ready: func() { close(ready) }, Event: func(e fleet.Event) { events <- e }, Command: func(c fleet.Command) { commands <- c },
		})
	}()
	<-ready
	return events, commands, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
