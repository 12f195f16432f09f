// SPDX-License-Identifier: GPL-2.0-or-later

package tsp_test

import (
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"ddtb/tsp"
	"ddtb/tsp/tsptest"
)

// registry reads metrics back.
type registry struct{ *prometheus.Registry }

func newRegistry() registry { return registry{prometheus.NewPedanticRegistry()} }

// values gives all counters and gauges by name and labels, as the text format writes them.
func (r registry) values(t testing.TB) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.Metric {
			var labels []string
			for _, label := range metric.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
			}
			sort.Strings(labels)
			name := family.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			all[name] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return all
}

func (r registry) value(t testing.TB, name string) float64 {
	t.Helper()
	value, ok := r.values(t)[name]
	if !ok {
		t.Fatalf("no metric %s", name)
	}
	return value
}

func TestMetrics(t *testing.T) {
	metrics := newRegistry()
	server, _ := serve(t, tsp.ServerConfig{Metrics: metrics})
	if err := login(tsp.Client{User: tsptest.User, Password: tsptest.Password}, server.Addr.String()); err != nil {
		t.Fatal(err)
	}
	values := metrics.values(t)
	for name, want := range map[string]float64{
		`ddtb_tsp_requests_total{kind="version"}`:                        1,
		`ddtb_tsp_requests_total{kind="authenticate"}`:                   1,
		`ddtb_tsp_requests_total{kind="create"}`:                         1,
		`ddtb_tsp_requests_total{kind="accept"}`:                         1,
		`ddtb_tsp_requests_total{kind="poll"}`:                           1,
		`ddtb_tsp_replies_total{code="200"}`:                             3,
		`ddtb_tsp_logins_total{mechanism="DIGEST-MD5",result="success"}`: 1,
		`ddtb_tsp_logins_total{mechanism="DIGEST-MD5",result="failed"}`:  0,
		`ddtb_tsp_accepted_total`:                                        1,
		`ddtb_tsp_dialogues{network="udp",state="answered"}`:             1,
		`ddtb_tsp_dialogues{network="udp",state="open"}`:                 0,
		`ddtb_tsp_backend_duration_seconds{call="authenticate"}`:         1,
		`ddtb_tsp_backend_duration_seconds{call="accept"}`:               1,
		`ddtb_tsp_queued_requests`:                                       0,
	} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if n := len(values); n > 100 {
		t.Errorf("%d series", n)
	}

	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "ddtb_tsp_") {
			t.Errorf("%s is not named after us", family.GetName())
		}
	}
}

// TestMetricsRegisterOnce: two servers cannot share a registerer, and the failure leaves nothing behind.
func TestMetricsRegisterOnce(t *testing.T) {
	metrics := newRegistry()
	metrics.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "ddtb_tsp_accepted_total", Help: "Another."}))
	_, err := tsp.NewServer(tsp.ServerConfig{Backend: tsptest.NewBackend(), UDP: sockets(t), Metrics: metrics})
	if err == nil || !strings.Contains(err.Error(), "tsp metrics") {
		t.Fatal(err)
	}
	families, err := metrics.Gather()
	if err != nil || len(families) != 1 {
		t.Errorf("%d families: %v", len(families), err)
	}
}
