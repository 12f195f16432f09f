// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"ddtb/tsp/sasl"
)

// metrics of a Server. Every label value is known beforehand, so that no stranger can make new series and none has to be
// looked up by the datagram.
type metrics struct {
	requests struct{ version, echo, authenticate, create, delete, info, accept, reject, poll, other prometheus.Counter }
	drops    struct {
		malformed, rate, unknown, stale, busy, queue, source, table, size, inner prometheus.Counter
	}
	replies  map[Code]prometheus.Counter
	other    prometheus.Counter // replies with any other code
	logins   map[sasl.Mechanism]struct{ success, failed, error prometheus.Counter }
	backend  struct{ authenticate, create, accept, reject, delete, info prometheus.Observer }
	accepted prometheus.Counter
	repeated prometheus.Counter
	inner    prometheus.Counter
	evicted  prometheus.Counter
	all      []prometheus.Collector
}

const namespace, subsystem = "ddtb", "tsp"

func newMetrics() *metrics {
	m := &metrics{}
	requests := m.vector("requests_total", "Requests of clients by kind.", "kind")
	for kind, counter := range map[string]*prometheus.Counter{
		"version": &m.requests.version, "echo": &m.requests.echo, "authenticate": &m.requests.authenticate,
		"create": &m.requests.create, "delete": &m.requests.delete, "info": &m.requests.info, "accept": &m.requests.accept,
		"reject": &m.requests.reject, "poll": &m.requests.poll, "other": &m.requests.other,
	} {
		*counter = requests.WithLabelValues(kind)
	}
	drops := m.vector("dropped_total", "Messages that were not answered, by reason.", "reason")
	for reason, counter := range map[string]*prometheus.Counter{
		"malformed": &m.drops.malformed, "rate": &m.drops.rate, "unknown": &m.drops.unknown, "stale": &m.drops.stale,
		"busy": &m.drops.busy, "queue": &m.drops.queue, "source": &m.drops.source, "table": &m.drops.table, "size": &m.drops.size,
		"inner": &m.drops.inner,
	} {
		*counter = drops.WithLabelValues(reason)
	}
	m.newReplies()
	m.newLogins()
	m.newBackend()
	m.accepted = m.counter("accepted_total", "Tunnels that clients accepted.")
	m.repeated = m.counter("repeated_total", "Retransmitted requests that were answered again from memory.")
	m.inner = m.counter("inner_packets_total", "Tunnel packets that came up on a signalling socket and were handed on.")
	m.evicted = m.counter("evicted_total", "Dialogues without login that had to make room for others.")
	return m
}

func (m *metrics) newReplies() {
	replies := m.vector("replies_total", "Status lines sent by code.", "code")
	m.replies = map[Code]prometheus.Counter{}
	for _, code := range []Code{StatusSuccess, StatusAuthFailed, StatusNoTunnels, StatusBadVersion, StatusBadTunnelType, StatusServerError,
		StatusBadRequest, StatusBadIPv4, StatusBadIPv6, StatusIPv4InUse, StatusPrefixLength, StatusDNSDelegation,
		StatusBadPrefixLength, StatusNoPrefixLength, StatusInProgress, StatusPrefixForbidden, StatusBusy} {
		m.replies[code] = replies.WithLabelValues(strconv.Itoa(int(code)))
	}
	redirect := StatusSuccess + brokerListFollows
	m.replies[redirect] = replies.WithLabelValues(strconv.Itoa(int(redirect)))
	m.other = replies.WithLabelValues("other")
}

func (m *metrics) newLogins() {
	logins := m.vector("logins_total", "Logins by mechanism and result: success, failed (300) or error (any other code).", "mechanism", "result")
	m.logins = map[sasl.Mechanism]struct{ success, failed, error prometheus.Counter }{}
	for _, mechanism := range []sasl.Mechanism{sasl.Anonymous, sasl.Plain, sasl.DigestMD5, sasl.CramMD5} {
		m.logins[mechanism] = struct{ success, failed, error prometheus.Counter }{
			logins.WithLabelValues(string(mechanism), "success"),
			logins.WithLabelValues(string(mechanism), "failed"),
			logins.WithLabelValues(string(mechanism), "error"),
		}
	}
}

func (m *metrics) newBackend() {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem,
		Name: "backend_duration_seconds", Help: "Time the backend took to answer, by call.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"call"})
	m.all = append(m.all, seconds)
	for call, observer := range map[string]*prometheus.Observer{
		"authenticate": &m.backend.authenticate, "create": &m.backend.create, "accept": &m.backend.accept, "reject": &m.backend.reject,
		"delete": &m.backend.delete, "info": &m.backend.info,
	} {
		*observer = seconds.WithLabelValues(call)
	}
}

func (m *metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	m.all = append(m.all, c)
	return c
}

func (m *metrics) vector(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
	m.all = append(m.all, v)
	return v
}

// gauge shows what value returns, with one constant label.
func (m *metrics) gauge(name, help string, labels prometheus.Labels, value func() float64) {
	m.all = append(m.all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
		ConstLabels: labels}, value))
}

// register makes everything known to registerer, or nothing.
func (m *metrics) register(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	for i, collector := range m.all {
		if err := registerer.Register(collector); err != nil {
			for _, done := range m.all[:i] {
				registerer.Unregister(done)
			}
			return err
		}
	}
	return nil
}

func (m *metrics) reply(code Code) {
	counter, ok := m.replies[code]
	if !ok {
		counter = m.other
	}
	counter.Inc()
}

func (m *metrics) login(mechanism sasl.Mechanism, code Code) {
	switch counters := m.logins[mechanism]; code {
	case StatusSuccess:
		counters.success.Inc()
	case StatusAuthFailed:
		counters.failed.Inc()
	default:
		counters.error.Inc()
	}
}

func (m *metrics) request(what action) {
	switch what {
	case actionCreate:
		m.requests.create.Inc()
	case actionDelete:
		m.requests.delete.Inc()
	case actionInfo:
		m.requests.info.Inc()
	case actionAccept:
		m.requests.accept.Inc()
	case actionReject:
		m.requests.reject.Inc()
	default:
		m.requests.other.Inc()
	}
}
