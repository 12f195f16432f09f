// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"ddtb/aaa/radius/radiustest"
	"ddtb/provision/redis/redistest"
)

// TestMetricNames: what /metrics shows follows the conventions of Prometheus.
func TestMetricNames(t *testing.T) {
	s := newSite(t)
	s.start(t)
	_, text := get(t, "http://"+s.metrics+"/metrics")
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "ddtb_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestMetricsUsed: alerts and dashboard speak of metrics that there are.
func TestMetricsUsed(t *testing.T) {
	s := radiusSite(t, radiustest.Start(t, radiusUsers))
	redis := redistest.Start(t)
	s.lines["session"] = fmt.Sprintf("[lease]\nstore = \"redis\"\n[redis]\naddresses = [%q]\n%s", redis.Addr, s.lines["session"])
	udp, _ := injectors(s.start(t).dp)
	udp(netip.MustParseAddrPort("127.0.0.1:3653"), netip.MustParseAddrPort("127.0.0.1:9"), []byte("no packet")) // counted as dropped
	_, text := get(t, "http://"+s.metrics+"/metrics")
	used := 0
	for _, file := range []string{"../../contrib/prometheus/alerts.yml", "../../contrib/grafana/ddtb.json"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\b(ddtb|process)_[a-z_]+\b`).FindAllString(string(content), -1) {
			used++
			if !regexp.MustCompile(`(?m)^` + name + `[ {]`).MatchString(text) {
				t.Errorf("%s: %s is not among the metrics", file, name)
			}
		}
		if strings.HasSuffix(file, ".json") && !json.Valid(content) {
			t.Errorf("%s is no JSON", file)
		}
	}
	if used < 20 {
		t.Errorf("found %d names only", used)
	}
}

// TestNotReady: the health check says why.
func TestNotReady(t *testing.T) {
	handler := metricsHandler(newRegistry("x"), func() string { return "recovering" })
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	if code, body := get(t, server.URL+"/readyz"); code != http.StatusServiceUnavailable || body != "recovering\n" {
		t.Errorf("%d %q", code, body)
	}
	if code, _ := get(t, server.URL+"/elsewhere"); code != http.StatusNotFound {
		t.Errorf("elsewhere: %d", code)
	}
}
