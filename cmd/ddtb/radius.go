// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ddtb/aaa"
	"ddtb/aaa/ldap"
	"ddtb/aaa/radius"
	"ddtb/aaa/spool"
	"ddtb/cmd/ddtb/config"
)

// openRADIUS makes the Authenticator over [[aaa.radius.server]].
func openRADIUS(s given) (authBackend, error) {
	c := s.config.AAA.RADIUS
	client, err := radiusClient(c, c.Servers, "login", s.registry)
	if err != nil {
		return authBackend{}, err
	}
	guest := aaa.Password{Username: c.Guest}
	if c.Guest != "" {
		if guest.Password, err = readSecret(c.GuestFile); err != nil {
			return authBackend{}, err
		}
	}
	a, err := radius.NewAuthenticator(client, radius.AuthOptions{
		NAS: nasOf(s.config), Digest: radius.DigestMode(c.Digest), Style: radius.DigestStyle(c.DigestStyle), Cram: c.Cram,
		Vendor: c.Vendor, Guest: guest, Force: c.DigestForce, Rates: rateSources(s.config), Plans: s.config.AAA.Rates(),
		Secured: !slices.ContainsFunc(c.Servers, func(s config.RADIUSServer) bool { return !s.TLS }),
	})
	return authBackend{Authenticator: a, task: serves("radius logins", client.Run)}, err
}

// openSpool makes the Accountant over [[aaa.radius.accounting]], with its spool in the state directory.
func openSpool(s given) (accountant, error) {
	c := s.config.AAA.RADIUS
	client, err := radiusClient(c, c.Accounting, "accounting", s.registry)
	if err != nil {
		return accountant{}, err
	}
	to := radius.NewAccounting(client, radius.AcctOptions{NAS: nasOf(s.config)}, time.Now)
	sp, report, err := spool.Open(filepath.Join(s.config.Server.State, "accounting.journal"), to, spool.Options{
		Logger: s.log, Registerer: s.registry,
	})
	if err != nil {
		return accountant{}, err
	}
	if text := report.Warning(); text != "" {
		s.log.Warn().Msg(text)
	}
	run := func(ctx context.Context) error {
		serving, stop := context.WithCancel(ctx)
		defer stop()
		probing := make(chan error, 1)
		go func() { probing <- client.Run(serving) }()
		err := sp.Run(ctx)
		stop()
		return errors.Join(err, <-probing)
	}
	taker := aaa.Accountant(sp)
	if !c.AccountingOn {
		taker = sessionsOnly{sp}
	}
	return accountant{Accountant: taker, kept: sp, task: serves("accounting", run), close: sp.Close}, nil
}

// sessionsOnly keeps Accounting-On and Accounting-Off from an Accountant.
type sessionsOnly struct{ aaa.Accountant }

// Account implements aaa.Accountant.
func (s sessionsOnly) Account(ctx context.Context, r aaa.Record) error {
	if r.Status == aaa.StatusOn || r.Status == aaa.StatusOff {
		return nil
	}
	return s.Accountant.Account(ctx, r)
}

// rateSources are the attributes that rates are looked for in.
func rateSources(c config.Config) []radius.RateSource {
	out := make([]radius.RateSource, 0, len(c.AAA.RADIUS.Rates))
	for _, name := range c.AAA.RADIUS.Rates {
		out = append(out, radius.RateSource(name))
	}
	return out
}

// serves makes a task of a function that serves from its start on.
func serves(name string, run func(context.Context) error) task {
	return newRoutine(name, func(ctx context.Context, ready func()) error {
		ready()
		return run(ctx)
	})
}

// nasOf is how this server names itself to RADIUS.
func nasOf(c config.Config) radius.NAS {
	nas := radius.NAS{Identifier: c.AAA.RADIUS.NASIdentifier, Address: c.AAA.RADIUS.NASAddress}
	if nas.Identifier == "" {
		nas.Identifier = c.Server.Name
	}
	return nas
}

func radiusClient(c config.RADIUS, list []config.RADIUSServer, service string, r prometheus.Registerer) (*radius.Client, error) {
	o := radius.Options{
		Retransmit: c.Retransmit.Duration, Each: c.Tries, Timeout: c.Timeout.Duration, Dead: radius.Dead{Time: c.Dead.Duration},
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"service": service}, r),
	}
	for _, s := range list {
		server, err := radiusServer(s)
		if err != nil {
			return nil, fmt.Errorf("server %s: %w", s.Address, err)
		}
		o.Servers = append(o.Servers, server)
	}
	return radius.NewClient(o)
}

func radiusServer(c config.RADIUSServer) (s radius.Server, err error) {
	s = radius.Server{Address: c.Address, Priority: c.Priority, Weight: c.Weight, InFlight: c.InFlight, NoStatus: c.NoStatus}
	if err := s.MessageAuthenticator.UnmarshalText([]byte(c.MessageAuthenticator)); err != nil {
		return s, err
	}
	if c.SecretFile != "" {
		secret, err := readSecret(c.SecretFile)
		if err != nil {
			return s, err
		}
		s.Secret = []byte(secret)
	}
	if c.TLS {
		s.TLS, err = tlsConfig(c.CAFile, c.ServerName, c.CertFile, c.KeyFile)
	}
	return s, err
}

// openLDAP makes the Authenticator over [aaa.ldap].
func openLDAP(s given) (authBackend, error) {
	c := s.config.AAA.LDAP
	o := c.Options()
	o.Plans = s.config.AAA.Rates()
	var err error
	if c.PasswordFile != "" {
		if o.Password, err = readSecret(c.PasswordFile); err != nil {
			return authBackend{}, err
		}
	}
	if o.TLS, err = tlsConfig(c.CAFile, c.ServerName, "", ""); err != nil {
		return authBackend{}, err
	}
	a, err := ldap.New(o)
	if err != nil {
		return authBackend{}, err
	}
	return authBackend{Authenticator: a, close: a.Close}, nil
}

// readSecret reads a file that holds a secret and nothing else, but for the end of its line.
func readSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s: expected a secret in it", path)
	}
	return secret, nil
}

// tlsConfig reads the files TLS needs; "" stands for the system's roots, the address's name, no certificate of our own.
func tlsConfig(ca, name, cert, key string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
	if ca != "" {
		b, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s: expected certificates in PEM form", ca)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// dynamicClients reads the secrets of [[aaa.dynamic.client]].
func dynamicClients(list []config.DynamicClient) ([]radius.DynamicClient, error) {
	var out []radius.DynamicClient
	for _, c := range list {
		secret, err := readSecret(c.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("client %s: %w", c.Source, err)
		}
		source := netip.PrefixFrom(c.Source.Addr().Unmap(), c.Source.Bits()).Masked()
		out = append(out, radius.DynamicClient{
			Source: source, Secret: []byte(secret),
			NoDisconnect: !slices.Contains(c.Requests, "disconnect"), NoChange: !slices.Contains(c.Requests, "change"),
		})
	}
	return out, nil
}
