// SPDX-License-Identifier: GPL-2.0-or-later

// Package aaa says who a subscriber is, what he may have, and what is billed.
//
// It holds the values every backend shares (Credential, Subscriber, Record) and the two interfaces the rest of
// ddtb speaks: Authenticator and Accountant. The backends are the folders below: local (accounts of our own),
// radius and ldap (the ISP's). aaa knows nothing of TSP, leases or the kernel; cmd/ddtb joins them.
package aaa

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Errors an Authenticator gives. Whoever wraps them says which backend and why; the subscriber never sees more than
// "300 Authentication failed" or "530 Server too busy".
var (
	// ErrUnknown: this backend has no such account. A chain asks the next one.
	ErrUnknown = errors.New("unknown subscriber")
	// ErrRejected: the account is there and the credential is wrong, or it is disabled or expired. A chain stops.
	ErrRejected = errors.New("rejected")
	// ErrUnavailable: no answer was to be had, try again later. A chain stops, since the account may be that backend's.
	ErrUnavailable = errors.New("backend unavailable")
	// ErrThrottled: too many failures from this source or for this account. Nothing was verified.
	ErrThrottled = errors.New("too many failed logins")
)

// Authenticator verifies a login.
//
// Authenticate returns the subscriber behind a credential, or an error that wraps one of the sentinels above. It is
// called by many goroutines at once, and bounded by ctx.
type Authenticator interface {
	// Mechanisms names the SASL mechanisms whose credentials this backend can verify, strongest first.
	Mechanisms() []Mechanism
	Authenticate(ctx context.Context, login Login) (Subscriber, error)
}

// Reauthorizer is an Authenticator that can be asked again about a subscriber whom it let in (RFC 2865 section 5.29).
//
// Reauthorize returns what he may have from now on. ErrRejected: the session has to end; ErrUnknown: this backend did not let
// him in; ErrUnavailable: no answer was to be had. It is called by many goroutines at once, and bounded by ctx.
type Reauthorizer interface {
	Reauthorize(ctx context.Context, renewal Renewal) (Subscriber, error)
}

// Renewal names a session about which its backend is asked again. There is no credential in it: none is kept.
type Renewal struct {
	Subscriber Subscriber // as he is in force; Reauthorize is what the backend wants to see
	Session    string
	TunnelID   uint32
	Client     netip.AddrPort
	Server     netip.AddrPort
}

// Accountant takes billing records. Account returns nil once the record is safe (on disk, for backends that deliver
// over a network); an error means that the record was not taken and the service must not be given.
//
// Start and Stop are given once each a session. Only after a crash, where nobody can know whether the last one was taken,
// it is given again with every field the same: equal Session and Status are one event, to be billed once.
type Accountant interface {
	Account(ctx context.Context, record Record) error
}

// Login is one attempt to log in.
type Login struct {
	Credential Credential
	Client     netip.AddrPort // the client's outer address as the server sees it
	Server     netip.AddrPort // the address the client spoke to
}

// Subscriber is what a backend knows of an authenticated subscriber. Zero values mean "the server's default"; as JSON, which
// leases and accounting keep, they take no room.
type Subscriber struct {
	Name            string        `json:",omitzero"` // the identity leases and billing go by; a backend may rename it (RADIUS User-Name)
	Anonymous       bool          `json:",omitzero"` // no account: nothing is kept for the next login
	Backend         string        `json:",omitzero"` // which backend answered: "local", "radius", ...
	Authentic       Authentic     `json:",omitzero"` // Acct-Authentic (RFC 2866 section 5.6)
	Pool            string        `json:",omitzero"` // lease pool
	Endpoint        netip.Addr    `json:",omitzero"` // static tunnel endpoint address
	Prefix          netip.Prefix  `json:",omitzero"` // static delegated prefix
	NoPrefix        bool          `json:",omitzero"` // may not have a delegated prefix
	SessionLimit    int           `json:",omitzero"` // sessions at a time (RADIUS Port-Limit)
	SessionTimeout  time.Duration `json:",omitzero"` // the session ends then
	IdleTimeout     time.Duration `json:",omitzero"` // the session ends when nothing came from the client for so long
	InterimInterval time.Duration `json:",omitzero"` // between Interim-Update records
	Class           [][]byte      `json:",omitzero"` // opaque, returned in every record (RFC 2865 section 5.25)
	CUI             []byte        `json:",omitzero"` // Chargeable-User-Identity, returned in every record (RFC 4372)
	Routes          []Route       `json:",omitzero"` // prefixes routed to the subscriber besides his delegated one
	Rate            Rate          `json:",omitzero"` // what his tunnel may carry
	Filter          string        `json:",omitzero"` // name of a filter or plan (RADIUS Filter-Id), "" for none
	Reauthorize     []byte        `json:",omitzero"` // not nil: at SessionTimeout the backend is asked again, see Reauthorizer, and wants to see this (State)
	Message         string        `json:",omitzero"` // for the subscriber (RADIUS Reply-Message)
	ResponseAuth    string        `json:",omitzero"` // DIGEST-MD5 rspauth, 32 hex digits (RFC 2831 section 2.1.3); only after a Digest login
}
