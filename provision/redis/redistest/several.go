// SPDX-License-Identifier: GPL-2.0-or-later

package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"ddtb/provision/redis"
)

// MasterName is what Sentinels call the master.
const MasterName = "ddtb"

// Sentinels runs n Sentinels that watch master and its replicas, and waits until they know all of them and each other.
// A master that is silent for so long is given up: where no failover is wanted, longer than a busy machine lets it wait.
func Sentinels(tb testing.TB, master *Server, n, replicas int, silent time.Duration) []*Server {
	tb.Helper()
	host, port, _ := net.SplitHostPort(master.Addr)
	var all []*Server
	for range n {
		conf := filepath.Join(tb.TempDir(), "sentinel.conf")
		all = append(all, start(tb, func(own int) []string {
			text := fmt.Sprintf("port %d\nbind 127.0.0.1\nsentinel monitor %s %s %s %d\nsentinel down-after-milliseconds %s %d\n"+
				"sentinel failover-timeout %s 10000\n", own, MasterName, host, port, n/2+1, MasterName, silent.Milliseconds(), MasterName)
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				tb.Fatal(err)
			}
			return []string{conf, "--sentinel"}
		}))
	}
	want := fmt.Sprintf("status=ok,address=%s,slaves=%d,sentinels=%d", master.Addr, replicas, n)
	for _, s := range all {
		s.Await(want, func(c *goredis.Client) bool {
			text, err := c.Info(context.Background(), "sentinel").Result()
			return err == nil && strings.Contains(text, want)
		})
	}
	return all
}

// SentinelOptions are those of a redis.Conn that asks Sentinels for the master.
func SentinelOptions(sentinels []*Server) redis.Options {
	o := redis.Options{Master: MasterName}
	for _, s := range sentinels {
		o.Addresses = append(o.Addresses, s.Addr)
	}
	return o
}

// Cluster runs a Redis Cluster of n masters, which share the slots evenly, and waits until it is whole.
func Cluster(tb testing.TB, n int) []*Server {
	tb.Helper()
	const slots = 16384
	ctx := context.Background()
	var all []*Server
	for i := range n {
		s := Start(tb, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
		c := s.Client()
		if err := c.ClusterAddSlotsRange(ctx, i*slots/n, (i+1)*slots/n-1).Err(); err != nil {
			tb.Fatal(err)
		}
		if err := c.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			tb.Fatal(err)
		}
		for _, other := range all {
			host, port, _ := net.SplitHostPort(other.Addr)
			if err := c.ClusterMeet(ctx, host, port).Err(); err != nil {
				tb.Fatal(err)
			}
		}
		all = append(all, s)
	}
	for _, s := range all {
		s.Await("a whole cluster", func(c *goredis.Client) bool {
			text, err := c.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(text, "cluster_state:ok") && strings.Contains(text, fmt.Sprintf("cluster_size:%d\r", n))
		})
	}
	return all
}

// ClusterOptions are those of a redis.Conn to a cluster.
func ClusterOptions(nodes []*Server) redis.Options {
	o := redis.Options{Cluster: true}
	for _, s := range nodes {
		o.Addresses = append(o.Addresses, s.Addr)
	}
	return o
}
