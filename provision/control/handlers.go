// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/datapath"
)

func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	health, code := s.state(), http.StatusOK
	if !health.Ready {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, health)
	return nil
}

func (s *Server) state() Health {
	if !s.Broker.Status().Ready {
		return Health{Why: "the broker is starting or shutting down"}
	}
	if s.Health != nil {
		if err := s.Health(); err != nil {
			return Health{Why: err.Error()}
		}
	}
	return Health{Ready: true}
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) error {
	b := s.Broker.Status()
	out := Status{
		Node:       b.Node,
		Version:    s.Version,
		Started:    b.Started.UTC(),
		Uptime:     Duration(time.Since(b.Started).Round(time.Second)),
		Ready:      s.state().Ready,
		Datapath:   s.Datapath,
		Server:     b.Config.Server,
		Sessions:   make(map[string]int),
		Offered:    b.Offered,
		Ending:     b.Ending,
		MaxSession: b.Config.MaxSessions,
		Logins:     b.Logins,
		Refused:    b.Refused,
		Traffic:    traffic(b.Traffic),
		Sweep:      Sweep{Last: b.Swept.UTC(), Took: Duration(b.SweepFor)},
		Watchers:   b.Watchers,
	}
	for encap, n := range b.Active {
		out.Sessions[encap.String()] = n
	}
	if b.SweepErr != nil {
		out.Sweep.Error = b.SweepErr.Error()
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) config(w http.ResponseWriter, _ *http.Request) error {
	if s.Config == nil {
		return &Error{http.StatusNotFound, "this daemon shows no configuration", ""}
	}
	writeJSON(w, http.StatusOK, s.Config())
	return nil
}

func (s *Server) sessions(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	everywhere := query.Get("nodes") == "all"
	if everywhere {
		query.Del("nodes")
	}
	filter, err := sessionFilter(query)
	if err != nil {
		return err
	}
	if everywhere && s.Fleet != nil {
		return s.allSessions(w, r, filter)
	}
	return writeLines(w, func(yield func(Session, error) bool) {
		for session := range s.Broker.Sessions(filter) {
			if r.Context().Err() != nil || !yield(sessionOf(session), nil) {
				return
			}
		}
	})
}

// sessionFilter reads the parameters of a list of sessions.
func sessionFilter(q url.Values) (f provision.Filter, err error) {
	p := params{q, nil}
	f.User = p.text("user")
	f.Address, f.Client, f.Prefix = p.addr("address"), p.addr("client"), p.prefix("prefix")
	f.Encap = choice(&p, "encap", datapath.V6UDPV4, datapath.V6V4)
	f.State = choice(&p, "state", provision.Offered, provision.Active, provision.Ending)
	return f, p.done()
}

// params reads the parameters of a request and keeps the first error. What is not asked for by name is an error too.
type params struct {
	url.Values
	err error
}

func (p *params) text(key string) string {
	value := p.Get(key)
	p.Del(key)
	return value
}

func (p *params) fail(key, value, expected string) {
	if p.err == nil {
		p.err = &Error{http.StatusBadRequest, fmt.Sprintf("%s: %q", key, value), "expected " + expected}
	}
}

func (p *params) addr(key string) (out netip.Addr) {
	value := p.text(key)
	if value == "" {
		return out
	}
	out, err := netip.ParseAddr(value)
	if err != nil {
		p.fail(key, value, "an address")
	}
	return out
}

func (p *params) prefix(key string) (out netip.Prefix) {
	value := p.text(key)
	if value == "" {
		return out
	}
	out, err := netip.ParsePrefix(value)
	if err != nil {
		p.fail(key, value, "a prefix, such as 2001:db8::/48")
	}
	return out
}

// choice reads a parameter that is one of few.
func choice[T fmt.Stringer](p *params, key string, values ...T) (out T) {
	value := p.text(key)
	if value == "" {
		return out
	}
	names := ""
	for _, v := range values {
		if v.String() == value {
			return v
		}
		names += " " + v.String()
	}
	p.fail(key, value, "one of"+names)
	return out
}

func (p *params) done() error {
	for key := range p.Values {
		p.fail(key, p.Get(key), "no such parameter here")
	}
	return p.err
}

func (s *Server) session(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if session, ok := s.Broker.Session(id); ok {
		writeJSON(w, http.StatusOK, sessionOf(session))
		return nil
	}
	if s.Fleet == nil {
		return fmt.Errorf("session %q: %w", id, provision.ErrNotFound)
	}
	session, err := s.Fleet.Session(r.Context(), id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, remoteOf(session))
	return nil
}

func (s *Server) kick(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	err := s.Broker.Release(r.Context(), id, aaa.CauseAdminReset)
	if errors.Is(err, provision.ErrNotFound) && s.Fleet != nil {
		err = s.Fleet.Kick(r.Context(), id)
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, Kicked{Sessions: []string{id}})
	return nil
}

func (s *Server) kickUser(w http.ResponseWriter, r *http.Request) error {
	p := params{r.URL.Query(), nil}
	user := p.text("user")
	if user == "" {
		p.fail("user", user, "the name of a user")
	}
	if err := p.done(); err != nil {
		return err
	}
	out := Kicked{Sessions: []string{}}
	for session := range s.Broker.Sessions(provision.Filter{User: user}) {
		switch err := s.Broker.Release(r.Context(), session.ID, aaa.CauseAdminReset); {
		case err == nil:
			out.Sessions = append(out.Sessions, session.ID)
		case !errors.Is(err, provision.ErrNotFound):
			return fmt.Errorf("%d sessions of %q ended: %w", len(out.Sessions), user, err)
		}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// events streams what happens to sessions, each at once.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	watcher, err := s.Broker.Watch()
	if err != nil {
		return err
	}
	defer watcher.Close()
	out := newLines(w)
	w.WriteHeader(http.StatusOK)
	if out.control.SetWriteDeadline(time.Time{}) != nil || out.flush() != nil {
		return nil
	}
	ctx, cancel := contextUntil(r.Context(), s.closing)
	defer cancel()
	for {
		events, err := watcher.Next(ctx)
		if err != nil {
			return nil // the reader is gone, or the daemon ends
		}
		for i, event := range events {
			if i%linesPerDeadline == 0 && out.control.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
				return nil
			}
			if out.encoder.Encode(eventOf(event)) != nil {
				return nil
			}
		}
		if out.flush() != nil || out.control.SetWriteDeadline(time.Time{}) != nil {
			return nil
		}
	}
}
