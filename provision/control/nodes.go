// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"context"
	"iter"
	"net/http"
	"net/netip"

	"ddtb/provision"
	"ddtb/provision/fleet"
)

// Fleet is what a Server knows of the tunnel servers, its own and others, and can ask of them.
type Fleet interface {
	// Nodes gives all of them.
	Nodes(ctx context.Context) ([]fleet.Node, error)
	// Sessions yields the sessions in force at all of them. An error ends it.
	Sessions(ctx context.Context) iter.Seq2[fleet.Session, error]
	// Session gives a session of another one; fleet.ErrNotFound if none has it.
	Session(ctx context.Context, id string) (fleet.Session, error)
	// Kick ends a session at another one; fleet.ErrNotFound if none has it.
	Kick(ctx context.Context, id string) error
	// Drain makes one take no more sessions and end those it has, or serve again; "" is the own one.
	Drain(ctx context.Context, node string, on bool) error
}

// errAlone is told where there is no Fleet.
var errAlone = &Error{http.StatusNotFound, "this daemon knows of no other servers", ""}

func (s *Server) nodes(w http.ResponseWriter, r *http.Request) error {
	if s.Fleet == nil {
		return errAlone
	}
	nodes, err := s.Fleet.Nodes(r.Context())
	if err != nil {
		return err
	}
	out := make([]Node, len(nodes))
	for i, n := range nodes {
		out[i] = Node{
			Name: n.Name, Address: n.Address, State: string(n.State), Sessions: n.Sessions, Capacity: n.Capacity, Version: n.Version, Seen: n.Seen.UTC(),
		}
		if n.State != fleet.Gone {
			out[i].Started = timeOf(n.Epoch)
		}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) drain(w http.ResponseWriter, r *http.Request) error { return s.setDrain(w, r, true) }
func (s *Server) undrain(w http.ResponseWriter, r *http.Request) error {
	return s.setDrain(w, r, false)
}

func (s *Server) setDrain(w http.ResponseWriter, r *http.Request, on bool) error {
	if s.Fleet == nil {
		return errAlone
	}
	name := r.PathValue("name")
	if name == Here {
		name = ""
	}
	if err := s.Fleet.Drain(r.Context(), name, on); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}

// allSessions streams the sessions of all servers that match. Of those elsewhere only active ones are known.
func (s *Server) allSessions(w http.ResponseWriter, r *http.Request, filter provision.Filter) error {
	if filter.State != 0 && filter.State != provision.Active {
		return &Error{http.StatusBadRequest, "state: " + filter.State.String(), "of other servers only active sessions are known"}
	}
	return writeLines(w, func(yield func(Session, error) bool) {
		for session, err := range s.Fleet.Sessions(r.Context()) {
			if err == nil && !matches(filter, session.Session) {
				continue
			}
			if r.Context().Err() != nil || !yield(remoteOf(session), err) || err != nil {
				return
			}
		}
	})
}

// remoteOf shows a session that may be another server's.
func remoteOf(s fleet.Session) Session {
	out := sessionOf(s.Session)
	out.Node = s.Node
	if s.Lifetime == 0 {
		out.Expires = nil // not known here
	}
	return out
}

// matches does for a session what a Broker does for its own.
func matches(f provision.Filter, s provision.Session) bool {
	holds := func(a netip.Addr) bool {
		return a == s.Endpoint || s.Prefix.IsValid() && s.Prefix.Contains(a) || s.Routes.Contains(a)
	}
	overlaps := func(p netip.Prefix) bool {
		return p.Contains(s.Endpoint) || s.Prefix.IsValid() && p.Overlaps(s.Prefix) || s.Routes.Overlaps(p)
	}
	return (f.User == "" || f.User == s.Subscriber.Name) &&
		(f.Encap == 0 || f.Encap == s.Encap) &&
		(!f.Client.IsValid() || f.Client.Unmap() == s.Client.Addr()) &&
		(!f.Address.IsValid() || holds(f.Address)) &&
		(!f.Prefix.IsValid() || overlaps(f.Prefix))
}
