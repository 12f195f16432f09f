// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/lease"
)

func (s *Server) pools(w http.ResponseWriter, r *http.Request) error {
	usage, err := s.usage(r.Context())
	if err != nil {
		return err
	}
	out := []Pool{}
	for _, pool := range s.Broker.Status().Config.Pools {
		out = append(out, poolOf(pool, usage[pool.Name]))
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) pool(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	pools := s.Broker.Status().Config.Pools
	i := slices.IndexFunc(pools, func(p lease.Pool) bool { return p.Name == name })
	if i < 0 {
		return fmt.Errorf("pool %q: %w", name, lease.ErrNoPool)
	}
	usage, err := s.usage(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, poolOf(pools[i], usage[name]))
	return nil
}

// usage counts the leases of each pool, by walking through them if the store does not count.
func (s *Server) usage(ctx context.Context) (map[string]lease.Usage, error) {
	out := make(map[string]lease.Usage)
	if store, ok := s.Store.(lease.UsageReporter); ok {
		for _, u := range store.Usage() {
			out[u.Pool] = u
		}
		return out, nil
	}
	for _, pool := range s.Broker.Status().Config.Pools {
		out[pool.Name] = lease.Usage{Pool: pool.Name, Size: pool.Size, Unused: pool.Size - 1}
	}
	for l, err := range s.Store.All(ctx) {
		if err != nil {
			return nil, err
		}
		u := out[l.Pool]
		u.Unused--
		switch l.State {
		case lease.Displaced:
			u.Unused++ // its index is counted by whoever has it
		case lease.Active:
			u.Active++
		case lease.Idle:
			u.Idle++
		case lease.Reserved:
			u.Reserved++
		}
		out[l.Pool] = u
	}
	return out, nil
}

func (s *Server) leases(w http.ResponseWriter, r *http.Request) error {
	p := params{r.URL.Query(), nil}
	pool, user, addr := p.text("pool"), p.text("user"), p.addr("address")
	state := choice(&p, "state", leaseState(lease.Active), leaseState(lease.Idle), leaseState(lease.Reserved), leaseState(lease.Displaced))
	if err := p.done(); err != nil {
		return err
	}
	match := func(l lease.Lease) bool {
		return (pool == "" || pool == l.Pool) && (user == "" || ownedBy(l.Owner, user)) &&
			(lease.State(state) == l.State || state == 0 && l.State != lease.Displaced) &&
			(!addr.IsValid() || addr == l.Endpoint || l.Prefix.Contains(addr))
	}
	return writeLines(w, matching(s.Store.All(r.Context()), match))
}

// matching yields the leases that match, as they are shown.
func matching(all iter.Seq2[lease.Lease, error], match func(lease.Lease) bool) iter.Seq2[Lease, error] {
	return func(yield func(Lease, error) bool) {
		for l, err := range all {
			if err == nil && !match(l) {
				continue
			}
			if !yield(leaseOf(l), err) || err != nil {
				return
			}
		}
	}
}

// ownedBy tells whether a lease's owner is a user, in whatever slot.
func ownedBy(owner, user string) bool {
	if owner == user {
		return true
	}
	for slot := 1; slot <= provision.MaxSlots && len(owner) >= len(user); slot++ {
		if owner == provision.Owner(user, slot) {
			return true
		}
	}
	return false
}

// leaseState is a lease.State with its name.
type leaseState lease.State

// String implements fmt.Stringer.
func (s leaseState) String() string { return stateName(lease.State(s)) }

// place reads which lease a request is about.
func place(r *http.Request) (pool string, index uint32, err error) {
	text := r.PathValue("index")
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return "", 0, &Error{http.StatusBadRequest, fmt.Sprintf("index: %q", text), "expected a number"}
	}
	return r.PathValue("pool"), uint32(n), nil
}

// find gives the lease of an index.
func (s *Server) find(r *http.Request) (lease.Lease, error) {
	name, index, err := place(r)
	if err != nil {
		return lease.Lease{}, err
	}
	if !slices.ContainsFunc(s.Broker.Status().Config.Pools, func(p lease.Pool) bool { return p.Name == name }) {
		return lease.Lease{}, fmt.Errorf("pool %q: %w", name, lease.ErrNoPool)
	}
	for l, err := range s.Store.All(r.Context()) {
		if err != nil {
			return lease.Lease{}, err
		}
		if l.Pool == name && l.Index == index && l.State != lease.Displaced {
			return l, nil
		}
	}
	return lease.Lease{}, &Error{http.StatusNotFound, fmt.Sprintf("index %d of pool %q is not leased", index, name), "see the list of leases"}
}

func (s *Server) lease(w http.ResponseWriter, r *http.Request) error {
	l, err := s.find(r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, leaseOf(l))
	return nil
}

// releaseLease ends the session that holds a lease; one that no session of ours holds is released in the store.
func (s *Server) releaseLease(w http.ResponseWriter, r *http.Request) error {
	l, err := s.find(r)
	if err != nil {
		return err
	}
	if l.State != lease.Active {
		return &Error{http.StatusConflict, fmt.Sprintf("no session holds index %d of pool %q, it is %s", l.Index, l.Pool, stateName(l.State)), ""}
	}
	err = s.Broker.Release(r.Context(), l.Session, aaa.CauseAdminReset)
	if errors.Is(err, provision.ErrNotFound) {
		err = s.Store.Release(r.Context(), lease.Holder{Pool: l.Pool, Index: l.Index, Session: l.Session})
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) reserve(w http.ResponseWriter, r *http.Request) error {
	var body Reservation
	if err := readJSON(r, &body); err != nil {
		return err
	}
	return s.setReservation(w, r, body.User, true)
}

func (s *Server) unreserve(w http.ResponseWriter, r *http.Request) error {
	return s.setReservation(w, r, r.URL.Query().Get("user"), false)
}

func (s *Server) setReservation(w http.ResponseWriter, r *http.Request, user string, on bool) error {
	pool, index, err := place(r)
	if err != nil {
		return err
	}
	if user == "" {
		return &Error{http.StatusBadRequest, "no user is given", "a reservation is kept for a user"}
	}
	if err := s.Store.Reserve(r.Context(), pool, index, user, on); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
