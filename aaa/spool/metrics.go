// SPDX-License-Identifier: GPL-2.0-or-later

package spool

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what goes through a Spool.
type metrics struct {
	taken, delivered, parkings, failures prometheus.Counter
}

func newMetrics(r prometheus.Registerer, s *Spool) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "ddtb_accounting_" + name, Help: help})
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ddtb_accounting_" + name, Help: help}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return value()
		})
	}
	m := &metrics{
		taken:     counter("records_total", "Accounting records taken and safe on disk."),
		delivered: counter("delivered_total", "Accounting records a server has acknowledged."),
		parkings:  counter("parkings_total", "Accounting records set aside because the server refuses them."),
		failures:  counter("write_failures_total", "Writes to the accounting spool that failed."),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.taken, m.delivered, m.parkings, m.failures,
		gauge("pending", "Accounting records that wait to be delivered.", func() float64 { return float64(s.queue.length) }),
		gauge("parked", "Accounting records set aside now.", func() float64 { return float64(len(s.parked)) }),
		gauge("up", "1 unless no accounting server answers.", func() float64 {
			if s.state.down && time.Now().Before(s.state.until) {
				return 0
			}
			return 1
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ddtb_accounting_spool_bytes", Help: "Size of the accounting spool on disk."},
			func() float64 { return float64(s.journal.Size()) }),
	} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
