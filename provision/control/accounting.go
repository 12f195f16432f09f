// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"ddtb/aaa"
	"ddtb/aaa/spool"
)

// Accounting is what keeps accounting records until billing has them (spool.Spool). Retry and Discard give an error that
// wraps spool.ErrNotParked.
type Accounting interface {
	Status() spool.Status
	Parked() []spool.Parked
	Retry(id uint64) error
	Discard(id uint64) error
}

// AccountingStatus tells how the records do.
type AccountingStatus struct {
	Pending int   `json:"pending"` // that wait to be delivered
	Parked  int   `json:"parked"`  // set aside, since the server refuses them
	Bytes   int64 `json:"bytes"`   // on disk
	Up      bool  `json:"up"`      // false while no accounting server answers
}

// AccountingRecord is a record that was set aside.
type AccountingRecord struct {
	ID      uint64    `json:"id"`
	Status  string    `json:"status"` // "Start", "Interim-Update", "Stop", ...
	Session string    `json:"session"`
	User    string    `json:"user"`
	Time    time.Time `json:"time"` // when it happened
	Cause   string    `json:"cause,omitempty"`
	Why     string    `json:"why,omitempty"` // the server refuses it, as far as it is known since the start of the daemon
}

func recordOf(p spool.Parked) AccountingRecord {
	r := AccountingRecord{
		ID: p.ID, Status: p.Record.Status.String(), Session: p.Record.Session, User: p.Record.Subscriber.Name, Time: p.Record.Time, Why: p.Why,
	}
	if p.Record.Status == aaa.StatusStop {
		r.Cause = p.Record.Cause.String()
	}
	return r
}

// accounting gives the spool, or says why there is none.
func (s *Server) accounting() (Accounting, error) {
	if s.Accounting == nil {
		return nil, &Error{http.StatusNotFound, "this server keeps no accounting records", `aaa.accounting in ddtb.toml is not "radius"`}
	}
	return s.Accounting, nil
}

func (s *Server) accountingStatus(w http.ResponseWriter, _ *http.Request) error {
	a, err := s.accounting()
	if err != nil {
		return err
	}
	now := a.Status()
	writeJSON(w, http.StatusOK, AccountingStatus{Pending: now.Pending, Parked: now.Parked, Bytes: now.Bytes, Up: !now.Silent})
	return nil
}

func (s *Server) parked(w http.ResponseWriter, _ *http.Request) error {
	a, err := s.accounting()
	if err != nil {
		return err
	}
	out := []AccountingRecord{}
	for _, p := range a.Parked() {
		out = append(out, recordOf(p))
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) retryRecord(w http.ResponseWriter, r *http.Request) error {
	return s.unpark(w, r, Accounting.Retry)
}

func (s *Server) dropRecord(w http.ResponseWriter, r *http.Request) error {
	return s.unpark(w, r, Accounting.Discard)
}

func (s *Server) unpark(w http.ResponseWriter, r *http.Request, do func(Accounting, uint64) error) error {
	a, err := s.accounting()
	if err != nil {
		return err
	}
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		return &Error{http.StatusBadRequest, fmt.Sprintf("record %q: a number is expected", r.PathValue("id")), ""}
	}
	if err := do(a, id); err != nil {
		if errors.Is(err, spool.ErrNotParked) {
			return &Error{http.StatusNotFound, err.Error(), "see the list of records set aside"}
		}
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Accounting asks how the accounting records do.
func (c *Client) Accounting(ctx context.Context) (out AccountingStatus, err error) {
	return out, c.get(ctx, "/v1/accounting", &out)
}

// Parked asks for the accounting records set aside, oldest first.
func (c *Client) Parked(ctx context.Context) (out []AccountingRecord, err error) {
	return out, c.get(ctx, "/v1/accounting/parked", &out)
}

// RetryRecord has a record that was set aside delivered again.
func (c *Client) RetryRecord(ctx context.Context, id uint64) error {
	return c.call(ctx, http.MethodPost, fmt.Sprintf("/v1/accounting/parked/%d", id), nil, nil, nil)
}

// DropRecord throws a record that was set aside away.
func (c *Client) DropRecord(ctx context.Context, id uint64) error {
	return c.call(ctx, http.MethodDelete, fmt.Sprintf("/v1/accounting/parked/%d", id), nil, nil, nil)
}
