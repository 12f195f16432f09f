// SPDX-License-Identifier: GPL-2.0-or-later

package redis

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Kind sorts an error of Redis: "auth" (password or user refused), "acl" (command or key not permitted), "readonly" (a
// replica), "full" (maxmemory), "loading" (the server starts, or a script runs too long), "cluster" (a part of it is down
// or moving), "timeout", "network" and "other". It is "" for what is no error: nil, a missing key, a script to be sent.
func Kind(err error) string {
	var timeout net.Error
	var dial *net.OpError
	switch {
	case err == nil, errors.Is(err, redis.Nil), redis.HasErrorPrefix(err, "NOSCRIPT"):
		return ""
	case redis.IsAuthError(err), has(err, "WRONGPASS", "NOAUTH", "ERR AUTH", "ERR invalid password", "ERR Client sent AUTH"):
		return "auth"
	case redis.IsPermissionError(err), has(err, "NOPERM", "ACL failure"):
		return "acl"
	case redis.IsReadOnlyError(err), has(err, "READONLY"):
		return "readonly"
	case redis.IsOOMError(err), has(err, "OOM "):
		return "full"
	case has(err, "LOADING", "BUSY", "MASTERDOWN", "NOREPLICAS", "MISCONF"):
		return "loading"
	case has(err, "MOVED", "ASK ", "TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT"):
		return "cluster"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &dial), errors.Is(err, context.Canceled), has(err, "EOF", "closed", "all sentinels"):
		return "network"
	}
	return "other"
}

// has tells whether an error's text holds one of the words: what a script has met stands within the script's error.
func has(err error, words ...string) bool {
	for _, w := range words {
		if strings.Contains(err.Error(), w) {
			return true
		}
	}
	return false
}

// metrics count what is asked of Redis. The label command holds the names of the commands that this program sends.
type metrics struct {
	latency *prometheus.HistogramVec
	errors  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ddtb_redis_command_seconds", Help: "Time of one command to Redis, or of several sent together, retries included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9)}, []string{"command"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ddtb_redis_errors_total", Help: "Commands to Redis that failed, by the kind of error."}, []string{"kind"}),
	}
	for _, kind := range []string{"auth", "acl", "readonly", "full", "loading", "cluster", "timeout", "network", "other"} {
		m.errors.WithLabelValues(kind) // shown as 0 from the start
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.latency), r.Register(m.errors))
}

func (m *metrics) saw(command string, began time.Time, err error) {
	m.latency.WithLabelValues(command).Observe(time.Since(began).Seconds())
	if kind := Kind(err); kind != "" {
		m.errors.WithLabelValues(kind).Inc()
	}
}

// hook measures every command.
type hook struct{ metrics *metrics }

// DialHook implements redis.Hook.
func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		h.metrics.saw(cmd.Name(), began, err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		h.metrics.saw("pipeline", began, err)
		return err
	}
}
