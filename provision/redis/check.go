// SPDX-License-Identifier: GPL-2.0-or-later

package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Oldest is the oldest version of Redis that has all that is asked of it.
const Oldest = "6.2"

// Check asks every master whether it can be used, and says clearly what is wrong if not: nobody there, password or user
// refused, a command not permitted, too old, a replica, about to evict keys. info tells of the server that answered last.
func (c *Conn) Check(ctx context.Context) (info Info, err error) {
	var mu sync.Mutex // the masters of a cluster are asked side by side
	ask := func(ctx context.Context, client *redis.Client) error {
		told, err := ReadInfo(ctx, client)
		if err != nil {
			return c.Explain(err)
		}
		mu.Lock()
		info = told
		mu.Unlock()
		return told.usable(c.options.Cluster)
	}
	switch client := c.UniversalClient.(type) {
	case *redis.Client:
		err = ask(ctx, client)
	case *redis.ClusterClient:
		if err = client.Ping(ctx).Err(); err != nil { // says why there is no map of the cluster
			err = c.Explain(err)
			break
		}
		err = client.ForEachMaster(ctx, ask)
	}
	return info, err
}

// Info is what a server tells of itself.
type Info struct {
	Version       string // of Redis, or what another program says it is equal to
	Product       string // the program by its own name and version: "Redis 7.0.15", "Valkey 8.0.1"
	Master        bool   // else it is a replica
	ReplicationID string // changes whenever the data may have lost writes: after a failover, a restart
	Replicas      int    // that follow it, and were heard of in the last two seconds
	Clustered     bool
	Policy        string // maxmemory_policy; "noeviction" is the one that loses nothing
	MaxMemory     int64  // octets, 0: no limit
	UsedMemory    int64  // octets
}

// ReadInfo asks a server.
func ReadInfo(ctx context.Context, client redis.Cmdable) (Info, error) {
	var fields [4]*redis.StringCmd
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, section := range []string{"server", "replication", "memory", "cluster"} {
			fields[i] = p.Info(ctx, section)
		}
		return nil
	})
	if err != nil {
		return Info{}, err
	}
	var text strings.Builder
	for _, f := range fields {
		text.WriteString(f.Val())
	}
	return parseInfo(text.String()), nil
}

// parseInfo reads the answer of INFO. Fields it does not know, or that do not stand there, it passes over.
func parseInfo(text string) Info {
	var i Info
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch key {
		case "redis_version":
			i.Version = value
			if i.Product == "" {
				i.Product = "Redis " + value
			}
		case "valkey_version":
			i.Product = "Valkey " + value
		case "role":
			i.Master = value == "master"
		case "master_replid":
			i.ReplicationID = value
		case "cluster_enabled":
			i.Clustered = value == "1"
		case "maxmemory_policy":
			i.Policy = value
		case "maxmemory":
			i.MaxMemory, _ = strconv.ParseInt(value, 10, 64)
		case "used_memory":
			i.UsedMemory, _ = strconv.ParseInt(value, 10, 64)
		default:
			if strings.HasPrefix(key, "slave") && strings.Contains(value, "state=online") && fresh(value) {
				i.Replicas++
			}
		}
	}
	return i
}

// fresh tells whether a replica acknowledged something in the last two seconds: "ip=...,state=online,offset=...,lag=0".
func fresh(replica string) bool {
	for field := range strings.SplitSeq(replica, ",") {
		if lag, ok := strings.CutPrefix(field, "lag="); ok {
			return lag == "0" || lag == "1" || lag == "2"
		}
	}
	return false
}

func (i Info) usable(clustered bool) error {
	switch {
	case older(i.Version, Oldest):
		return fmt.Errorf("redis %s: too old, %s or newer is needed", i.Version, Oldest)
	case !i.Master:
		return errors.New("redis: this server is a read-only replica: give the master's address, or the Sentinels' and redis.sentinel")
	case i.Clustered != clustered:
		return fmt.Errorf("redis: redis.cluster is %v, but the server says cluster_enabled %v", clustered, i.Clustered)
	case i.MaxMemory > 0 && i.Policy != "noeviction":
		return fmt.Errorf("redis: maxmemory-policy %s would throw leases away: set it to noeviction", i.Policy)
	}
	return nil
}

// older compares versions by their first two numbers. One that cannot be read is not old.
func older(version, than string) bool {
	var a, b [2]int
	if n, _ := fmt.Sscanf(version, "%d.%d", &a[0], &a[1]); n < 2 {
		return false
	}
	if n, _ := fmt.Sscanf(than, "%d.%d", &b[0], &b[1]); n < 2 {
		return false
	}
	return a[0] < b[0] || a[0] == b[0] && a[1] < b[1]
}

// Away tells whether an error says that no server answers, or that it cannot serve for the moment, rather than that something is
// wrong with what is asked of it.
func Away(err error) bool {
	switch Kind(err) {
	case "network", "timeout", "loading", "full":
		return true
	}
	return false
}

// Explain puts an error of Redis into an operator's words. The error stays wrapped.
func (c *Conn) Explain(err error) error {
	o, hint := c.options, ""
	switch Kind(err) {
	case "":
		return nil
	case "auth":
		hint = "password or user refused: see redis.username and redis.password_file"
		if o.Password == "" {
			hint = "a password is wanted: give redis.password_file"
		}
	case "acl":
		hint = fmt.Sprintf("user %q may not do this: see contrib/redis.md for the ACL it needs", o.Username)
	case "readonly":
		hint = "this server is a read-only replica: give the master's address, or the Sentinels' and redis.sentinel"
	case "full":
		hint = "it is full: raise its maxmemory"
	case "timeout":
		hint = fmt.Sprintf("no answer within %v", o.Timeout.Round(time.Millisecond))
	case "network":
		hint = "nobody answers there"
	}
	if hint == "" {
		return fmt.Errorf("redis %s: %w", strings.Join(o.Addresses, ", "), err)
	}
	return fmt.Errorf("redis %s: %s: %w", strings.Join(o.Addresses, ", "), hint, err)
}
