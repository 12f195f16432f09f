// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// newRegistry makes the registry of the process, with what every Go program has and this build's version.
func newRegistry(version string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ddtb_build_info", Help: "1, labelled with the version of this build.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// reloads tells whether the last reload came through.
type reloads struct {
	successful prometheus.Gauge
	at         prometheus.Gauge
}

func newReloads(registerer prometheus.Registerer) *reloads {
	r := &reloads{
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ddtb_config_last_reload_successful", Help: "1 if the configuration in force is that of the file as it was last read, 0 if that was refused.",
		}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ddtb_config_last_reload_success_timestamp_seconds", Help: "When a configuration was read last that came into force.",
		}),
	}
	registerer.MustRegister(r.successful, r.at)
	r.done(nil)
	return r
}

func (r *reloads) done(err error) {
	if err != nil {
		r.successful.Set(0)
		return
	}
	r.successful.Set(1)
	r.at.SetToCurrentTime()
}

// metricsHandler serves /metrics, /healthz (the process answers) and /readyz (clients are served; else 503 with the reason).
func metricsHandler(gatherer prometheus.Gatherer, notReady func() string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 30 * time.Second}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := notReady(); why != "" {
			answer(w, http.StatusServiceUnavailable, why)
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	return mux
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n")) // who asked may be gone
}

// metricsTask serves handler on a listener that is open already.
func metricsTask(listener net.Listener, handler http.Handler) task {
	return newRoutine("metrics on "+listener.Addr().String(), func(ctx context.Context, ready func()) error {
		server := &http.Server{
			Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
			WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		}
		stop := context.AfterFunc(ctx, func() { _ = server.Close() })
		defer stop()
		ready()
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
}
