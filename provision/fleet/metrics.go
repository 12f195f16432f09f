// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an Agent counts.
type metrics struct {
	reachable                        atomic.Bool
	events, sessions, failed, lost   prometheus.Counter
	overlaps                         prometheus.Counter
	contested                        prometheus.Histogram
	up, peers, redirecting, draining prometheus.GaugeFunc
}

func newMetrics(a *Agent, registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "ddtb", Subsystem: "fleet", Name: name, Help: help})
	}
	gauge := func(name, help string, value func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "ddtb", Subsystem: "fleet", Name: name, Help: help}, value)
	}
	m.events = counter("events_written_total", "Events put before the other servers.")
	m.sessions = counter("sessions_written_total", "Sessions put before the other servers, each as often as it was.")
	m.failed = counter("write_failures_total", "Batches of events or sessions that could not be written; all sessions are written anew then.")
	m.lost = counter("events_lost_total", "Events that came faster than they could be written.")
	m.overlaps = counter("overlapping_logins_total", "Logins at other servers of subscribers who got a network that a subscriber here has.")
	m.contested = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "ddtb", Subsystem: "fleet", Name: "contest_seconds", Help: "From hearing of a login at another server to the end of the session here that it replaced.",
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
	})
	m.up = gauge("reachable", "Whether the other servers can be reached (1), or there are none to be.", func() float64 {
		return truth(m.reachable.Load())
	})
	m.peers = gauge("servers", "Servers that are known and alive, this one counted.", func() float64 {
		n := 1
		for _, peer := range a.known() {
			if peer.State != Gone && peer.State != Stopped {
				n++
			}
		}
		return float64(n)
	})
	m.redirecting = gauge("redirecting", "Whether new clients are sent to another server.", func() float64 { return truth(len(a.Redirect()) > 0) })
	m.draining = gauge("draining", "Whether this server is being drained.", func() float64 { return truth(a.draining.Load()) })
	if registry == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.events, m.sessions, m.failed, m.lost, m.overlaps, m.contested, m.up, m.peers, m.redirecting, m.draining} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// reach notes whether the other servers can be reached.
func (m *metrics) reach(up bool) { m.reachable.Store(up) }
