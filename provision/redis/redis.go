// SPDX-License-Identifier: GPL-2.0-or-later

// Package redis is the connection to Redis that a fleet of tunnel servers shares: one server, a master watched by
// Sentinels, or a Redis Cluster, with TLS and ACL users. What is kept there is the business of those who use it: the
// lease store (provision/lease) and the fleet's registry.
//
// Redis 6.2 or newer is needed. Every wait is bounded: by Options.Timeout for one command and by the caller's context
// for all tries together. A command may be sent twice (its answer was lost), so whatever is sent has to be idempotent.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Bounds and defaults of Options.
const (
	DefaultTimeout     = time.Second
	DefaultConnections = 32
	retries            = 2
	backoff            = 20 * time.Millisecond // before the first retry, then up to maxBackoff
	maxBackoff         = 200 * time.Millisecond
)

// Options of Open. Addresses is required.
type Options struct {
	// Addresses are host:port of the server, of the Sentinels if Master is given, of some nodes of the cluster if Cluster
	// is. The path of a Unix socket may stand for the one server.
	Addresses []string
	Master    string // the name that Sentinels know the master by; "" without Sentinels
	Cluster   bool   // Redis Cluster
	Database  int    // not with Cluster

	Username, Password                 string      // ACL user; "" is the default user
	SentinelUsername, SentinelPassword string      // of the Sentinels
	TLS                                *tls.Config // nil: none. Used for Sentinels, too.

	Name        string                // this node, for CLIENT LIST
	Timeout     time.Duration         // to connect, and for one command; 0: DefaultTimeout
	Connections int                   // at most, to one server; 0: DefaultConnections
	Registerer  prometheus.Registerer // nil: no metrics
}

// Validate says what is missing or does not go together.
func (o Options) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if len(o.Addresses) == 0 {
		bad("addresses", "none: expected a server such as %q", "192.0.2.20:6379")
	}
	for _, a := range o.Addresses {
		socket := strings.HasPrefix(a, "/")
		if _, _, err := net.SplitHostPort(a); !socket && err != nil {
			bad("addresses", "%q: expected host and port such as %q, or the path of a socket", a, "192.0.2.20:6379")
		}
		if socket && (o.Master != "" || o.Cluster || len(o.Addresses) > 1) {
			bad("addresses", "%q: a socket stands for one server, without sentinel and cluster", a)
		}
	}
	if o.Master != "" && o.Cluster {
		bad("cluster", "true: a cluster has no Sentinels, but sentinel is %q", o.Master)
	}
	if len(o.Addresses) > 1 && o.Master == "" && !o.Cluster {
		bad("addresses", "%d servers: expected one, unless sentinel or cluster is given", len(o.Addresses))
	}
	if o.Cluster && o.Database != 0 {
		bad("database", "%d: a cluster has database 0 only", o.Database)
	}
	if o.Username != "" && o.Password == "" {
		bad("username", "%q: a password is needed with it", o.Username)
	}
	return errors.Join(errs...)
}

// Conn is a pool of connections. It is a redis.UniversalClient; Master and Check stand beside.
type Conn struct {
	redis.UniversalClient
	options Options
}

// Open makes a Conn. It does not talk to anybody yet: Check does.
func Open(o Options) (*Conn, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Connections == 0 {
		o.Connections = DefaultConnections
	}
	// The library's own logger writes to standard error what is returned to us as an error anyway.
	redis.SetLogger(silence{})
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: o.Addresses, MasterName: o.Master, IsClusterMode: o.Cluster, DB: o.Database,
		Username: o.Username, Password: o.Password, SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
		TLSConfig: o.TLS, ClientName: clientName(o.Name), DisableIdentity: true, Protocol: 2,
		DialTimeout: o.Timeout, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, ContextTimeoutEnabled: true, DialerRetries: 1,
		PoolSize: o.Connections, PoolTimeout: o.Timeout, PipelinePoolSize: -1,
		MaxRetries: retries, MinRetryBackoff: backoff, MaxRetryBackoff: maxBackoff, MaxRedirects: 3,
	})
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	client.AddHook(hook{m})
	return &Conn{UniversalClient: client, options: o}, nil
}

// Timeout is that of one command.
func (c *Conn) Timeout() time.Duration { return c.options.Timeout }

// Master is the client of the one server that may write key: what has to go over one connection (a write and the WAIT
// for it) is sent by it. In a cluster, a MOVED error means that the key has another master now; see Moved.
func (c *Conn) Master(ctx context.Context, key string) (*redis.Client, error) {
	switch client := c.UniversalClient.(type) {
	case *redis.Client:
		return client, nil
	case *redis.ClusterClient:
		return client.MasterForKey(ctx, key)
	}
	return nil, fmt.Errorf("redis client of type %T", c.UniversalClient) // Open makes no other
}

// Moved takes an error of a Master's command: if it tells that the keys lie on another server now, the map of the
// cluster is read anew and true returned.
func (c *Conn) Moved(ctx context.Context, err error) bool {
	client, clustered := c.UniversalClient.(*redis.ClusterClient)
	if !clustered || err == nil {
		return false
	}
	if _, ok := redis.IsMovedError(err); !ok && !redis.IsTryAgainError(err) && !redis.IsClusterDownError(err) {
		return false
	}
	client.ReloadState(ctx)
	return true
}

// clientName makes a name that CLIENT SETNAME takes: printable ASCII without spaces.
func clientName(node string) string {
	name := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, node)
	if name == "" {
		return "ddtb"
	}
	return "ddtb-" + name
}

// silence is the library's logger.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}
