// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/term"

	"ddtb/aaa"
	"ddtb/aaa/radius"
	"ddtb/cmd/ddtb/config"
	"ddtb/provision"
)

// checkLoginTime bounds one login of ddtb check --auth.
const checkLoginTime = 40 * time.Second

// checkLogin tries to log in as user at each backend but local, by each mechanism that it verifies.
func checkLogin(ctx context.Context, c config.Config, user, password string) ([]finding, error) {
	var all []finding
	table := builtIn()
	for _, name := range c.AAA.Backends {
		if name == "local" {
			all = append(all, finding{what: "login at local", detail: "not tried: its accounts are the running daemon's; see ddtbctl user show"})
			continue
		}
		backend, err := table.backends[name](given{config: c, log: zerolog.Nop(), registry: prometheus.NewRegistry()})
		if err != nil {
			all = append(all, finding{what: "login at " + name, bad: true, detail: err.Error()})
			continue
		}
		for _, m := range backend.Mechanisms() {
			if m != aaa.MechanismAnonymous {
				all = append(all, tryLogin(ctx, c, name, backend, m, login(m, user, c.TSP.Realm, password)))
			}
		}
		if backend.close != nil {
			if err := backend.close(); err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

// tryLogin logs in once, and tells what was granted or why not, or why it cannot be had from the pools.
func tryLogin(ctx context.Context, c config.Config, name string, a aaa.Authenticator, m aaa.Mechanism, credential aaa.Credential) finding {
	ctx, cancel := context.WithTimeout(ctx, checkLoginTime)
	defer cancel()
	f := finding{what: fmt.Sprintf("login at %s by %s", name, m)}
	s, err := a.Authenticate(ctx, aaa.Login{Credential: credential})
	if err != nil {
		f.bad, f.detail = true, err.Error()
		if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, radius.ErrReply) {
			f.detail += ": no answer: is the server running, does a firewall let us through, does it know this host's address and the shared secret or, over TLS, trust our certificate?"
		}
		return f
	}
	f.detail = granted(s)
	if err := provision.CheckGrant(config.Leases(c.Pools), s); err != nil {
		f.bad = true
		f.detail += "; its tunnel would be refused: " + err.Error()
	}
	return f
}

// granted tells what a backend gives a subscriber.
func granted(s aaa.Subscriber) string {
	all := []string{"accepted as " + s.Name}
	add := func(name string, value any, set bool) {
		if set {
			all = append(all, fmt.Sprintf("%s %v", name, value))
		}
	}
	add("pool", s.Pool, s.Pool != "")
	add("endpoint", s.Endpoint, s.Endpoint.IsValid())
	add("prefix", s.Prefix, s.Prefix.IsValid())
	add("sessions", s.SessionLimit, s.SessionLimit != 0)
	add("session timeout", s.SessionTimeout, s.SessionTimeout != 0)
	add("idle timeout", s.IdleTimeout, s.IdleTimeout != 0)
	add("interim", s.InterimInterval, s.InterimInterval != 0)
	add("bit/s up", s.Rate.Up, s.Rate.Up != 0)
	add("bit/s down", s.Rate.Down, s.Rate.Down != 0)
	add("no rate: neither a rate nor an [[aaa.plan]] is the filter", strconv.Quote(s.Filter), s.Filter != "" && s.Rate == aaa.Rate{})
	add("asked again at the session timeout", "", s.Reauthorize != nil)
	for _, r := range s.Routes {
		add(map[bool]string{false: "route", true: "further prefix"}[r.Delegated], r.Prefix, true)
	}
	return strings.Join(all, ", ")
}

// login is what a client that knows the password would send.
func login(m aaa.Mechanism, user, realm, password string) aaa.Credential {
	switch m {
	case aaa.MechanismDigestMD5:
		d := aaa.Digest{
			Username: user, Realm: realm, Nonce: rand.Text(), CNonce: rand.Text(), NC: "00000001", QOP: "auth", URI: "tsp/" + realm, UTF8: true,
		}
		d.Response = d.Respond(aaa.NewRawHA1(user, realm, password)) // UTF-8 as it stands: what a server without RFC 2831's rule hashes
		return d
	case aaa.MechanismCramMD5:
		c := aaa.Cram{Username: user, Challenge: "<" + rand.Text() + "@ddtb>"}
		c.Response = c.Respond(aaa.NewCramKey(password))
		return c
	default:
		return aaa.Password{Username: user, Password: password}
	}
}

// askPassword reads a password: without echo from a terminal, else the first line.
func askPassword(in io.Reader, prompt io.Writer, user string) (string, error) {
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprintf(prompt, "password of %s: ", user)
		b, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(prompt)
		return string(b), err
	}
	line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
	if password := strings.TrimRight(line, "\r\n"); password != "" {
		return password, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("expected a password in the first line of standard input")
	}
	return "", err
}
