// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"fmt"
	"net/http"
	"slices"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/fleet"
)

func (s *Server) left(w http.ResponseWriter, r *http.Request) error {
	left, err := s.mortal(r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, Burial{Left: left.Sessions, LeftReleases: left.Leases})
	return nil
}

// mortal counts what a server that is gone has left; fleet.ErrNotFound for one that nobody knows and that left nothing.
func (s *Server) mortal(r *http.Request) (left provision.Burial, err error) {
	if s.Fleet == nil {
		return left, errAlone
	}
	nodes, err := s.Fleet.Nodes(r.Context())
	if err != nil {
		return left, err
	}
	name := r.PathValue("name")
	left, err = s.Broker.Left(r.Context(), name)
	known := slices.ContainsFunc(nodes, func(n fleet.Node) bool { return n.Name == name })
	if err == nil && !known && left == (provision.Burial{}) {
		err = fmt.Errorf("server %.64q: %w", name, fleet.ErrNotFound)
	}
	return left, err
}

func (s *Server) bury(w http.ResponseWriter, r *http.Request) error {
	var request BurialRequest
	if err := readJSON(r, &request); err != nil {
		return err
	}
	if len(request.NASIdentifier) > maxIdentifier {
		return &Error{http.StatusBadRequest, fmt.Sprintf("nas_identifier of %d octets", len(request.NASIdentifier)), fmt.Sprintf("at most %d are expected", maxIdentifier)}
	}
	if _, err := s.mortal(r); err != nil {
		return err
	}
	done, left, err := s.Broker.Bury(r.Context(), r.PathValue("name"), aaa.NAS{Identifier: request.NASIdentifier, Address: request.NASAddress})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, Burial{Ended: done.Sessions, Released: done.Leases, Left: left.Sessions, LeftReleases: left.Leases})
	return nil
}

// maxIdentifier is what a RADIUS attribute holds, in octets.
const maxIdentifier = 253
