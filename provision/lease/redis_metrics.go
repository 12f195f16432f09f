// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// redisMetrics tell how the shared store fares. What the connection fares stands in provision/redis.
type redisMetrics struct {
	epochs, asserted, refuted, renewed, unreplicated prometheus.Counter
}

func newRedisMetrics(registerer prometheus.Registerer, r *Redis) (*redisMetrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &redisMetrics{
		epochs:       counter("ddtb_lease_epochs_total", "New epochs seen: Redis failed over, was restarted, or its clock jumped."),
		asserted:     counter("ddtb_lease_asserted_total", "Leases asserted in a new epoch."),
		refuted:      counter("ddtb_lease_refuted_total", "Leases that were another's when they were asserted."),
		renewed:      counter("ddtb_lease_renewed_locally_total", "Leases taken over by a new session of their owner while Redis was away."),
		unreplicated: counter("ddtb_lease_unreplicated_total", "Leases given that no replica had acknowledged in time."),
	}
	if registerer == nil {
		return m, nil
	}
	away := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ddtb_lease_store_up", Help: "1 unless the last look at Redis failed."}, func() float64 {
		if r.away.Load() {
			return 0
		}
		return 1
	})
	replicas := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ddtb_lease_store_replicas", Help: "Replicas that follow the master."},
		func() float64 { return float64(r.replicas.Load()) })
	var errs []error
	for _, c := range []prometheus.Collector{m.epochs, m.asserted, m.refuted, m.renewed, m.unreplicated, away, replicas} {
		errs = append(errs, registerer.Register(c))
	}
	return m, errors.Join(errs...)
}
