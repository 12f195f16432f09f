// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what happens with each server. The label server is the configured name, so their number is bounded.
type metrics struct {
	registerer      prometheus.Registerer
	requests        *prometheus.CounterVec
	retransmissions *prometheus.CounterVec
	refused         *prometheus.CounterVec
	latency         *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registerer: r,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ddtb_radius_requests_total", Help: "RADIUS requests sent, retransmissions included."}, []string{"server"}),
		retransmissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ddtb_radius_retransmissions_total", Help: "RADIUS requests sent again for want of a reply."}, []string{"server"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ddtb_radius_bad_replies_total", Help: "RADIUS replies not believed, by what is wrong with them."}, []string{"server", "reason"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ddtb_radius_exchange_seconds", Help: "Time from the first transmission of a request to its reply.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9)}, []string{"server"}),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.retransmissions, m.refused, m.latency} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// counters are those of one server, looked up once.
type counters struct {
	requests, retransmissions prometheus.Counter
	latency                   prometheus.Observer
}

func (m *metrics) of(server string) counters {
	return counters{
		requests: m.requests.WithLabelValues(server), retransmissions: m.retransmissions.WithLabelValues(server), latency: m.latency.WithLabelValues(server),
	}
}

// watch shows a server's state.
func (m *metrics) watch(s *server) {
	if m.registerer == nil {
		return
	}
	labels := prometheus.Labels{"server": s.Name}
	m.registerer.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ddtb_radius_server_up", Help: "1 unless the RADIUS server is considered dead.", ConstLabels: labels,
		}, func() float64 {
			if s.dead(time.Now()) {
				return 0
			}
			return 1
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ddtb_radius_requests_waiting", Help: "RADIUS requests that wait for a place in flight.", ConstLabels: labels,
		}, func() float64 { return float64(s.waiting.Load()) }),
	)
}

// bad counts a reply that was not believed.
func (m *metrics) bad(server string, err error) {
	reason := "malformed"
	switch {
	case errors.Is(err, errUnasked):
		reason = "unasked"
	case errors.Is(err, errAuthenticator):
		reason = "authenticator"
	case errors.Is(err, errNoMA):
		reason = "unsigned"
	case errors.Is(err, errMA):
		reason = "message_authenticator"
	}
	m.refused.WithLabelValues(server, reason).Inc()
}
