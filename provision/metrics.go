// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// metrics counts what the Broker does, and reads the rest from it when it is asked. Without a Registerer it only counts.
type metrics struct {
	broker *Broker

	logins  map[string]*atomic.Uint64 // by result; the keys never change
	octets  [2]atomic.Uint64          // inner, from and to clients
	packets [2]atomic.Uint64
	sweep   prometheus.Histogram
}

// Directions of traffic, and the label that names them.
const (
	received = iota // from clients
	transmitted
)

var directions = [2]string{received: "receive", transmitted: "transmit"}

// results are the errors of a login by the label that counts them; nil is a login that came through.
var results = []struct {
	label string
	err   error
}{
	{"accepted", nil},
	{"full", ErrFull},
	{"denied", ErrDenied},
	{"client_address", ErrClientAddress},
	{"address_in_use", ErrAddressInUse},
	{"prefix_length", ErrPrefixLength},
	{"anonymous_prefix", ErrAnonymousPrefix},
	{"in_progress", ErrInProgress},
	{"busy", ErrBusy},
	{"not_found", ErrNotFound},
	{otherResult, errOther},
}

const otherResult = "other"

var errOther = errors.New("any other")

var (
	sessionsDesc = desc("sessions", "Tunnels in force.", "encap")
	offersDesc   = desc("offers", "Tunnels offered and not yet accepted.")
	endingsDesc  = desc("sessions_ending", "Ended sessions whose accounting or lease is still owed.")
	loginsDesc   = desc("logins_total", "Tunnel requests of authenticated subscribers.", "result")
	octetsDesc   = desc("octets_total", "Octets of inner packets, as of the last sweep.", "direction")
	packetsDesc  = desc("packets_total", "Inner packets, as of the last sweep.", "direction")
	leasesDesc   = desc("leases", "Indices of a pool.", "pool", "state")
	dropsDesc    = desc("dropped_packets_total", "Packets not forwarded.", "reason")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ddtb_"+name, help, labels, nil)
}

func newMetrics(b *Broker, registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{broker: b, logins: make(map[string]*atomic.Uint64), sweep: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "ddtb_sweep_duration_seconds",
		Help:    "Time of one pass over all tunnels, with what followed from it.",
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
	})}
	for _, r := range results {
		m.logins[r.label] = new(atomic.Uint64)
	}
	if registerer == nil {
		return m, nil
	}
	return m, errors.Join(registerer.Register(m), registerer.Register(m.sweep))
}

// login counts a request that came to its end.
func (m *metrics) login(err error) {
	for _, r := range results {
		if errors.Is(err, r.err) {
			m.logins[r.label].Add(1)
			return
		}
	}
	m.logins[otherResult].Add(1)
}

// traffic counts what tunnels carried since they were looked at last.
func (m *metrics) traffic(c datapath.Counters) {
	m.octets[received].Add(c.RxBytes)
	m.packets[received].Add(c.RxPackets)
	m.octets[transmitted].Add(c.TxBytes)
	m.packets[transmitted].Add(c.TxPackets)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		sessionsDesc, offersDesc, endingsDesc, loginsDesc, octetsDesc, packetsDesc, leasesDesc, dropsDesc,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	b := m.broker
	b.mu.Lock()
	active, offers, endings := b.active, len(b.offers), len(b.endings)
	b.mu.Unlock()
	for _, encap := range []datapath.Encap{datapath.V6UDPV4, datapath.V6V4} {
		gauge(sessionsDesc, active[encap], encap.String())
	}
	gauge(offersDesc, offers)
	gauge(endingsDesc, endings)
	for _, r := range results {
		counter(loginsDesc, m.logins[r.label].Load(), r.label)
	}
	for i, direction := range directions {
		counter(octetsDesc, m.octets[i].Load(), direction)
		counter(packetsDesc, m.packets[i].Load(), direction)
	}
	if store, ok := b.store.Store.(lease.UsageReporter); ok {
		for _, u := range store.Usage() {
			gauge(leasesDesc, int(u.Active), u.Pool, "active")
			gauge(leasesDesc, int(u.Idle), u.Pool, "idle")
			gauge(leasesDesc, int(u.Reserved), u.Pool, "reserved")
			gauge(leasesDesc, int(u.Unused), u.Pool, "unused")
		}
	}
	m.collectDrops(counter)
}

func (m *metrics) collectDrops(counter func(*prometheus.Desc, uint64, ...string)) {
	reporter, ok := m.broker.datapath.(datapath.DropReporter)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	drops, err := reporter.Drops(ctx)
	if err != nil {
		m.broker.log.Warn().Err(err).Msg("the datapath did not tell its drops")
		return
	}
	for _, d := range drops {
		counter(dropsDesc, d.Packets, string(d.Reason))
	}
}
