// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"golang.org/x/term"

	"ddtb/cmd/tspc/agent"
	"ddtb/cmd/tspc/config"
	"ddtb/cmd/tspc/dialogue"
	"ddtb/cmd/tspc/keepalive"
	"ddtb/cmd/tspc/machine"
	"ddtb/tsp"
)

// How long an address gets before the next one, or the next server, has its turn.
const (
	tries          = 4                // messages over UDP, 30 s in all
	connectTimeout = 10 * time.Second // of TCP
)

// run keeps the tunnel up until ctx is done.
func run(ctx context.Context, c config.Config, o options, stdout, stderr io.Writer, getenv func(string) string) error {
	password, err := c.FindPassword(getenv)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	log := logger(stderr, c.LogLevel, getenv)
	m, err := machine.Open(machineConfig(c, log))
	if err != nil {
		return err
	}
	reporter := newReporter(c, log, m.MTU)
	if o.json {
		reporter.stdout = stdout
	}
	reporter.notify = func(state string) { _, _ = daemon.SdNotify(false, state) }
	reporter.notify(daemon.SdNotifyReady)

	servers, _ := c.Servers() // Validate has seen them
	a := agent.New(agent.Config{
		Servers: servers,
		Dialer:  newDialer(c, password, log),
		Machine: m,
		Watch:   func(ctx context.Context, info agent.Info) error { return watch(ctx, c.Interface, info, log) },
		Report:  reporter.report,
		Rand:    rand.Float64,
		Once:    o.once,
	})
	return errors.Join(a.Run(ctx), m.Close())
}

// logger writes for people: to a terminal in colour, to the journal without the time it adds itself.
func logger(w io.Writer, level string, getenv func(string) string) zerolog.Logger {
	console := zerolog.ConsoleWriter{Out: w, TimeFormat: time.DateTime, NoColor: true}
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		console.NoColor = false
	}
	if getenv("JOURNAL_STREAM") != "" {
		console.PartsExclude = []string{zerolog.TimestampFieldName}
	}
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		panic("log level was not validated")
	}
	return zerolog.New(console).Level(parsed).With().Timestamp().Logger()
}

func machineConfig(c config.Config, log zerolog.Logger) machine.Config {
	route, _ := c.Route() // Validate has seen it
	return machine.Config{
		Interface: c.Interface, RunDir: c.RunDir, MTU: c.MTU, Default: route, Metric: c.Metric,
		Router: c.Router.Enable, LANs: c.Router.LAN, Advertise: c.Router.Advertise,
		Proto41: c.Encapsulator(), Log: log,
	}
}

func newDialer(c config.Config, password string, log zerolog.Logger) *dialogue.Dialer {
	mechanisms, _ := c.Mechanisms() // Validate has seen them
	return &dialogue.Dialer{
		Client: tsp.Client{
			User: c.User, Password: password, Mechanisms: mechanisms, Tries: tries, Log: log,
			Dialer: net.Dialer{Timeout: connectTimeout},
		},
		Network: c.Network(),
		Request: c.Request(),
		Lookup:  net.DefaultResolver.LookupNetIP,
		Log:     log,
	}
}

// watch sends keepalives until the tunnel is dead or ctx is done.
func watch(ctx context.Context, name string, info agent.Info, log zerolog.Logger) error {
	offer := info.Offer
	if offer.Keepalive == 0 {
		log.Warn().Msg("the server wants no keepalive: a tunnel that breaks will not be noticed")
		<-ctx.Done()
		return ctx.Err()
	}
	echo, err := keepalive.NewICMPv6(name, offer.ClientIPv6, offer.KeepaliveTo, cryptorand.Reader)
	if err != nil {
		return err
	}
	monitor := keepalive.Monitor{Interval: offer.Keepalive, Rand: rand.Float64, Answered: func(d time.Duration) {
		log.Debug().Dur("rtt", d).Msg("keepalive answered")
	}}
	if err := monitor.Run(ctx, echo); err != nil {
		return fmt.Errorf("%w: %v does not answer through it", err, offer.KeepaliveTo)
	}
	return nil
}
