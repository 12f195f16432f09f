// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Bounds of what is kept and asked at a time.
const (
	maxEvents     = 50_000 // in ddtb:events, about; the oldest go
	maxCommands   = 1000   // for one server
	commandsFor   = time.Minute
	remembered    = 24 * time.Hour  // how long a server that has gone is still listed
	page          = 500             // sessions in one round trip
	followCount   = 1000            // entries of a stream in one round trip
	followFor     = time.Second / 4 // how long one read of a stream waits: nothing interrupts it
	keyEvents     = "ddtb:events"
	keyNodes      = "ddtb:nodes"
	prefixNode    = "ddtb:node:"
	prefixSession = "ddtb:session:"
)

func nodeKey(name string) string     { return prefixNode + name }
func sessionsKey(name string) string { return prefixNode + name + ":sessions" }
func commandsKey(name string) string { return prefixNode + name + ":commands" }
func claimKey(name string) string    { return prefixNode + name + ":claim" }
func sessionKey(id string) string    { return prefixSession + id }

// Redis is a Board in Redis, of the keys in the package comment. All of them are of this package alone.
type Redis struct {
	client redis.UniversalClient
	clock  func() time.Time
}

// NewRedis makes a Board over a client, which it does not close. clock is time.Now unless given.
func NewRedis(client redis.UniversalClient, clock func() time.Time) *Redis {
	if clock == nil {
		clock = time.Now
	}
	return &Redis{client: client, clock: clock}
}

var _ Board = (*Redis)(nil)

// pipelined sends what fill queues in one round trip (one a server of a cluster). Its error is that of the first command
// that failed.
func (r *Redis) pipelined(ctx context.Context, what string, fill func(redis.Pipeliner)) error {
	_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		fill(p)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("redis: %s: %w", what, err)
	}
	return nil
}

// Announce implements Board.
func (r *Redis) Announce(ctx context.Context, node Node, alive time.Duration) (known bool, err error) {
	now, fields := r.clock(), nodeHash(node)
	var added *redis.IntCmd
	err = r.pipelined(ctx, "announce "+node.Name, func(p redis.Pipeliner) {
		added = p.HSet(ctx, nodeKey(node.Name), fields)
		p.PExpire(ctx, nodeKey(node.Name), alive)
		p.ZAdd(ctx, keyNodes, redis.Z{Score: float64(now.Unix()), Member: node.Name})
		p.ZRemRangeByScore(ctx, keyNodes, "-inf", strconv.FormatInt(now.Add(-remembered).Unix(), 10))
	})
	return err == nil && added.Val() < int64(len(fields)/2), err
}

// Write implements Board.
func (r *Redis) Write(ctx context.Context, node string, batch Batch) error {
	if len(batch.Events)+len(batch.Put)+len(batch.Drop) == 0 {
		return nil
	}
	list := sessionsKey(node)
	return r.pipelined(ctx, "write sessions and events", func(p redis.Pipeliner) {
		for _, event := range batch.Events {
			event.Node = node
			p.XAdd(ctx, &redis.XAddArgs{Stream: keyEvents, MaxLen: maxEvents, Approx: true, Values: eventFields(event)})
		}
		var scores []redis.Z
		for _, s := range batch.Put {
			s.Node = node
			p.HSet(ctx, sessionKey(s.ID), sessionHash(s))
			p.PExpire(ctx, sessionKey(s.ID), batch.Keep)
			scores = append(scores, redis.Z{Score: float64(s.Seen.Unix()), Member: s.ID})
		}
		for chunk := range slices.Chunk(scores, page) {
			p.ZAdd(ctx, list, chunk...)
			p.PExpire(ctx, list, batch.Keep)
		}
		for chunk := range slices.Chunk(batch.Drop, page) {
			r.drop(ctx, p, list, chunk)
		}
	})
}

// drop takes sessions off the board. A key of its own for each: in a cluster they lie anywhere.
func (r *Redis) drop(ctx context.Context, p redis.Pipeliner, list string, ids []string) {
	members := make([]any, len(ids))
	for i, id := range ids {
		p.Unlink(ctx, sessionKey(id))
		members[i] = id
	}
	p.ZRem(ctx, list, members...)
}

// claim gives a key to who asks, for some milliseconds, unless another one has it; for 0 it takes it back. It may be sent twice.
var claim = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return holder end
if tonumber(ARGV[2]) > 0 then
	redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
else
	redis.call('DEL', KEYS[1])
end
return ARGV[1]`)

// Claim implements Board.
func (r *Redis) Claim(ctx context.Context, node, by string, keep time.Duration) (holder string, err error) {
	holder, err = claim.Run(ctx, r.client, []string{claimKey(node)}, by, keep.Milliseconds()).Text()
	if err != nil {
		return "", fmt.Errorf("redis: claim %s: %w", node, err)
	}
	return holder, nil
}

// Prune implements Board.
func (r *Redis) Prune(ctx context.Context, node string, keep func(string) bool) error {
	list, cursor := sessionsKey(node), uint64(0)
	for {
		found, next, err := r.client.ZScan(ctx, list, cursor, "", page).Result()
		if err != nil {
			return fmt.Errorf("redis: read %s: %w", list, err)
		}
		var stale []string
		for i := 0; i < len(found); i += 2 { // member, score
			if !keep(found[i]) {
				stale = append(stale, found[i])
			}
		}
		if len(stale) > 0 {
			if err := r.pipelined(ctx, "drop sessions", func(p redis.Pipeliner) { r.drop(ctx, p, list, stale) }); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// Nodes implements Reader.
func (r *Redis) Nodes(ctx context.Context) ([]Node, error) {
	known, err := r.client.ZRangeWithScores(ctx, keyNodes, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("redis: read %s: %w", keyNodes, err)
	}
	names, seen := make([]string, len(known)), make(map[string]time.Time)
	for i, z := range known {
		names[i], _ = z.Member.(string)
		seen[names[i]] = time.Unix(int64(z.Score), 0).UTC()
	}
	slices.Sort(names)
	hashes, err := r.hashes(ctx, names, nodeKey)
	if err != nil {
		return nil, err
	}
	out := make([]Node, 0, len(names))
	for i, name := range names {
		node, err := readNode(name, seen[name], hashes[i])
		if err != nil { // there is none any more, or it is not to be understood: in either case not to be reckoned with
			node = Node{Name: name, State: Gone, Seen: seen[name]}
		}
		out = append(out, node)
	}
	return out, nil
}

// hashes reads the hash of each name, an empty one where there is none.
func (r *Redis) hashes(ctx context.Context, names []string, key func(string) string) ([]map[string]string, error) {
	replies := make([]*redis.MapStringStringCmd, len(names))
	if len(names) == 0 {
		return nil, nil
	}
	err := r.pipelined(ctx, "read hashes", func(p redis.Pipeliner) {
		for i, name := range names {
			replies[i] = p.HGetAll(ctx, key(name))
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]map[string]string, len(names))
	for i, reply := range replies {
		out[i] = reply.Val()
	}
	return out, nil
}

// Sessions implements Reader. It reads a page at a time: sessions that begin or end meanwhile may be seen or not.
func (r *Redis) Sessions(ctx context.Context, node string) iter.Seq2[Session, error] {
	return func(yield func(Session, error) bool) {
		list, cursor := sessionsKey(node), uint64(0)
		for {
			found, next, err := r.client.ZScan(ctx, list, cursor, "", page).Result()
			if err != nil {
				yield(Session{}, fmt.Errorf("redis: read %s: %w", list, err))
				return
			}
			ids := make([]string, 0, len(found)/2)
			for i := 0; i < len(found); i += 2 {
				ids = append(ids, found[i])
			}
			if !r.yield(ctx, node, ids, yield) {
				return
			}
			if cursor = next; cursor == 0 {
				return
			}
		}
	}
}

// yield hands on those of a server's sessions that are still there.
func (r *Redis) yield(ctx context.Context, node string, ids []string, yield func(Session, error) bool) bool {
	hashes, err := r.hashes(ctx, ids, sessionKey)
	if err != nil {
		yield(Session{}, err)
		return false
	}
	for i, id := range ids {
		if len(hashes[i]) == 0 {
			continue // ended while the list was read
		}
		s, err := readSession(id, hashes[i])
		if err == nil && s.Node != node {
			continue
		}
		if !yield(s, err) || err != nil {
			return false
		}
	}
	return true
}

// Session implements Reader.
func (r *Redis) Session(ctx context.Context, id string) (Session, error) {
	hashes, err := r.hashes(ctx, []string{id}, sessionKey)
	if err != nil {
		return Session{}, err
	}
	if len(hashes[0]) == 0 {
		return Session{}, fmt.Errorf("session %.40q: %w", id, ErrNotFound)
	}
	return readSession(id, hashes[0])
}

// Ask implements Reader. What a server does not read soon is forgotten: it must not act on it much later.
func (r *Redis) Ask(ctx context.Context, node string, command Command) error {
	return r.pipelined(ctx, "command for "+node, func(p redis.Pipeliner) {
		p.XAdd(ctx, &redis.XAddArgs{Stream: commandsKey(node), MaxLen: maxCommands, Approx: true, Values: []string{
			"verb", string(command.Verb), "session", command.Session, "by", command.By,
		}})
		p.Expire(ctx, commandsKey(node), commandsFor)
	})
}

// Follow implements Reader.
func (r *Redis) Follow(ctx context.Context, node string, told Follower) error {
	events, err := r.last(ctx, keyEvents)
	if err != nil {
		return err
	}
	commands, err := r.last(ctx, commandsKey(node))
	if err != nil {
		return err
	}
	told.Ready()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 2) // in a cluster the two streams lie apart: each has a connection of its own
	go func() {
		ended <- r.read(inner, keyEvents, events, func(fields map[string]string) {
			if event, err := readEvent(fields); err == nil { // what is no event of ours is nobody's business
				told.Event(event)
			}
		})
	}()
	go func() {
		ended <- r.read(inner, commandsKey(node), commands, func(fields map[string]string) {
			told.Command(Command{Verb: Verb(fields["verb"]), Session: fields["session"], By: fields["by"]})
		})
	}()
	err = <-ended
	cancel()
	if other := <-ended; err == nil {
		err = other
	}
	return err
}

// last gives the id of the newest entry of a stream: what comes later has a greater one.
func (r *Redis) last(ctx context.Context, stream string) (string, error) {
	newest, err := r.client.XRevRangeN(ctx, stream, "+", "-", 1).Result()
	switch {
	case err != nil:
		return "", fmt.Errorf("redis: read %s: %w", stream, err)
	case len(newest) == 0:
		return "0-0", nil
	}
	return newest[0].ID, nil
}

// read hands on what comes after an entry of a stream, until ctx is done, which gives nil, or Redis does not answer.
func (r *Redis) read(ctx context.Context, stream, after string, each func(map[string]string)) error {
	for ctx.Err() == nil {
		found, err := r.client.XRead(ctx, &redis.XReadArgs{Streams: []string{stream}, ID: after, Count: followCount, Block: followFor}).Result()
		switch {
		case errors.Is(err, redis.Nil):
			continue // nothing came
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("redis: follow %s: %w", stream, err)
		}
		for _, s := range found {
			for _, entry := range s.Messages {
				after = entry.ID
				each(texts(entry.Values))
			}
		}
	}
	return nil
}

// texts gives the values of an entry as what they are.
func texts(values map[string]any) map[string]string {
	out := make(map[string]string, min(len(values), math.MaxUint8))
	for key, value := range values {
		out[key], _ = value.(string)
	}
	return out
}
