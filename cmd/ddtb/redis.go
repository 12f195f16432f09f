// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ddtb/cmd/ddtb/config"
	"ddtb/provision/lease"
	"ddtb/provision/redis"
)

// newRedis makes the connection of [redis]. It does not talk to the server yet.
func newRedis(c config.Config, registry prometheus.Registerer) (*redis.Conn, error) {
	o, err := redisOptions(c)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	o.Registerer = registry
	return redis.Open(o)
}

// redisOptions are those of [redis], with what stands in the files it names.
func redisOptions(c config.Config) (o redis.Options, err error) {
	o = c.Redis.Options()
	o.Name = c.Server.Name
	for secret, file := range map[*string]string{&o.Password: c.Redis.PasswordFile, &o.SentinelPassword: c.Redis.SentinelPasswordFile} {
		if file == "" {
			continue
		}
		if *secret, err = readSecret(file); err != nil {
			return o, err
		}
	}
	if c.Redis.TLS {
		o.TLS, err = tlsConfig(c.Redis.CAFile, c.Redis.ServerName, c.Redis.CertFile, c.Redis.KeyFile)
	}
	return o, err
}

// openRedis makes the daemon's connection, nil if [redis] names no server.
func (d *daemon) openRedis(c config.Config, registry prometheus.Registerer) (*redis.Conn, error) {
	if !c.Redis.Used() {
		return nil, nil
	}
	conn, err := newRedis(c, registry)
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, conn.Close)
	return conn, nil
}

// copyFile is what the daemon notes in server.state of the leases it serves, for a start while Redis is away.
const copyFile = "leases.copy"

// startTime bounds what a start waits for Redis. If there is nothing to go on with it is tried again by systemd, and the kernel
// forwards meanwhile.
const startTime = 10 * time.Second

// openShared opens the lease store that the tunnel servers share. What is wrong with the server is told at once.
func openShared(s given, opts lease.Options) (leaseStore, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	if _, err := s.redis.Check(ctx); err != nil && !redis.Away(err) {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	return lease.OpenRedis(ctx, config.Leases(s.config.Pools), lease.RedisOptions{
		Options: opts, Conn: s.redis, Node: s.config.Server.Name, Grace: s.config.Lease.Grace.Duration, TTL: s.config.Lease.TTL.Duration,
		Registerer: s.registry, Copy: filepath.Join(s.config.Server.State, copyFile), Boot: boot,
	})
}

// bootID names this boot of the host.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// refuter is a lease store that may learn that leases served here are another server's.
type refuter interface{ Refuted() <-chan struct{} }

// watchRefuted has the broker end the sessions whose leases have turned out to be another server's.
func (d *daemon) watchRefuted(store leaseStore) {
	r, ok := store.(refuter)
	if !ok {
		return
	}
	d.back = append(d.back, serves("leases refuted", func(ctx context.Context) error {
		for {
			select {
			case <-r.Refuted():
				if err := d.broker.Reassert(ctx); err != nil && ctx.Err() == nil {
					d.log.Warn().Err(err).Msg("sessions whose leases are another server's were not all ended; the sweep goes on with it")
				}
			case <-ctx.Done():
				return nil
			}
		}
	}))
}

// checkRedis asks the servers of [redis] whether they can be used.
func checkRedis(ctx context.Context, c config.Config) finding {
	f := finding{what: "redis " + strings.Join(c.Redis.Addresses, ", "), bad: true}
	conn, err := newRedis(c, nil)
	if err != nil {
		f.detail = err.Error()
		return f
	}
	defer conn.Close()
	info, err := conn.Check(ctx)
	if err != nil {
		f.detail = err.Error()
		return f
	}
	f.bad, f.detail = false, fmt.Sprintf("%s, %d replicas", info.Product, info.Replicas)
	return f
}
