// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"

	"ddtb/cmd/tspc/agent"
	"ddtb/cmd/tspc/config"
	"ddtb/cmd/tspc/host"
	"ddtb/tsp"
)

// record is an event as programs read it: a line of --json, and the status file. What does not apply is left out.
type record struct {
	Time      time.Time    `json:"time"`
	Event     agent.Kind   `json:"event"`
	Interface string       `json:"interface"`
	Server    string       `json:"server,omitempty"`   // as it was named
	Endpoint  string       `json:"endpoint,omitempty"` // its address and port
	Type      string       `json:"type,omitempty"`
	Transport string       `json:"transport,omitempty"` // of the dialogue
	Local     netip.Addr   `json:"local,omitzero"`
	Address   netip.Addr   `json:"address,omitzero"`
	Prefix    netip.Prefix `json:"prefix,omitzero"`
	Name      string       `json:"name,omitempty"` // the provider registered for Address
	MTU       int          `json:"mtu,omitempty"`
	Keepalive float64      `json:"keepalive_seconds,omitempty"`
	Peer      netip.Addr   `json:"keepalive_address,omitzero"`
	Lifetime  float64      `json:"lifetime_seconds,omitempty"`
	Resolvers []netip.Addr `json:"resolvers,omitempty"`
	Brokers   []string     `json:"brokers,omitempty"`
	Retry     float64      `json:"retry_seconds,omitempty"`
	Error     string       `json:"error,omitempty"`
}

// reporter tells people, programs and systemd what happens.
type reporter struct {
	config config.Config
	log    zerolog.Logger
	mtu    func() int
	stdout io.Writer          // of --json, nil without
	notify func(state string) // systemd
	server agent.Server       // asked last
}

func newReporter(c config.Config, log zerolog.Logger, mtu func() int) *reporter {
	return &reporter{config: c, log: log, mtu: mtu, notify: func(string) {}}
}

// statusFile is where `tspc status` and scripts find the last record.
func statusFile(c config.Config) string {
	return filepath.Join(c.RunDir, c.Interface+".json")
}

// report takes one event.
func (r *reporter) report(e agent.Event) {
	if e.Server.Host != "" {
		r.server = e.Server
	}
	text := r.tell(e)
	b, err := json.Marshal(r.record(e))
	if err != nil {
		panic(fmt.Sprintf("record: %v", err))
	}
	b = append(b, '\n')
	if r.stdout != nil {
		_, _ = r.stdout.Write(b)
	}
	switch e.Kind {
	case agent.Stopped:
		_ = os.Remove(statusFile(r.config))
		r.notify(daemon.SdNotifyStopping)
	case agent.Undeleted:
	default:
		if err := host.WriteFile(statusFile(r.config), b, 0o644); err != nil {
			r.log.Warn().Err(err).Msg("status file not written")
		}
		r.notify("STATUS=" + text)
	}
}

// record makes the record of an event.
func (r *reporter) record(e agent.Event) record {
	out := record{Time: time.Now(), Event: e.Kind, Interface: r.config.Interface, Retry: e.Delay.Seconds()}
	if e.Kind != agent.Stopped {
		out.Server = r.server.String()
	}
	if e.Address.IsValid() {
		out.Endpoint = e.Address.String()
	}
	for _, broker := range e.Brokers {
		out.Brokers = append(out.Brokers, brokerName(broker))
	}
	if e.Err != nil {
		out.Error = explain(e.Err, r.config)
	}
	if e.Kind == agent.Up || e.Kind == agent.Down {
		offer := e.Info.Offer
		out.Endpoint, out.Type, out.Transport = e.Info.Server.String(), string(offer.Type), e.Info.Transport
		out.Local, out.Address, out.Prefix, out.Name = e.Info.Local, offer.ClientIPv6, offer.Prefix, offer.ClientName
		out.Keepalive, out.Peer = offer.Keepalive.Seconds(), offer.KeepaliveTo
		out.Lifetime, out.Resolvers, out.MTU = offer.Lifetime.Seconds(), offer.Resolvers, r.mtu()
	}
	return out
}

// tell writes an event to the log and gives its text.
func (r *reporter) tell(e agent.Event) string {
	level, text := zerolog.InfoLevel, ""
	switch e.Kind {
	case agent.Connecting:
		text = fmt.Sprintf("asking %v (%v)", e.Server, e.Address)
	case agent.Redirected:
		names := make([]string, len(e.Brokers))
		for i, broker := range e.Brokers {
			names[i] = brokerName(broker)
		}
		text = fmt.Sprintf("%v sends us to %s", e.Server, strings.Join(names, ", "))
	case agent.Failed:
		level, text = zerolog.WarnLevel, fmt.Sprintf("%v: %s", e.Server, explain(e.Err, r.config))
	case agent.Up:
		text = upText(e.Info)
	case agent.Down:
		level, text = zerolog.WarnLevel, "tunnel down: "+explain(e.Err, r.config)
	case agent.Waiting:
		text = fmt.Sprintf("next attempt in %v", e.Delay.Round(100*time.Millisecond))
	case agent.Undeleted:
		level, text = zerolog.DebugLevel, "the server was not told that the tunnel ends: "+explain(e.Err, r.config)
	case agent.Stopped:
		text = "stopped"
	}
	text = printable(text)
	r.log.WithLevel(level).Msg(text)
	if e.Kind == agent.Up && r.config.Router.Enable && !e.Info.Offer.Prefix.IsValid() {
		r.log.Warn().Msg("the server gave no prefix: there is IPv6 for this machine, but not for the LAN")
	}
	return text
}

// printable makes one line of text, and replaces what could command a terminal: servers choose parts of it.
func printable(text string) string {
	text = strings.ReplaceAll(text, "\n", "; ") // as errors.Join puts between two
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// upText is the line everybody waits for.
func upText(info agent.Info) string {
	var b strings.Builder
	fmt.Fprintf(&b, "tunnel up: address %v", info.Offer.ClientIPv6)
	if info.Offer.Prefix.IsValid() {
		fmt.Fprintf(&b, " prefix %v", info.Offer.Prefix)
	}
	fmt.Fprintf(&b, " server %v (%s)", info.Server, info.Offer.Type)
	return b.String()
}

func brokerName(broker tsp.Broker) string {
	if broker.Addr.IsValid() {
		return broker.Addr.String()
	}
	return broker.Name
}
