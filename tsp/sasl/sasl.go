// SPDX-License-Identifier: GPL-2.0-or-later

// Package sasl holds the SASL mechanisms a TSP dialogue can use (RFC 4422), one file each, server and client side.
//
// A mechanism only talks: it collects a Credential on the server side and answers challenges on the client side. Whether
// the credential is right is for the caller's backend to say.
package sasl

import "errors"

// Mechanism is a SASL mechanism by its registered name, upper case.
type Mechanism string

// The mechanisms there are.
const (
	Anonymous Mechanism = "ANONYMOUS"  // RFC 4505
	Plain     Mechanism = "PLAIN"      // RFC 4616
	DigestMD5 Mechanism = "DIGEST-MD5" // RFC 2831
	CramMD5   Mechanism = "CRAM-MD5"   // RFC 2195
)

// ErrMalformed: the client's message is not one of this mechanism.
var ErrMalformed = errors.New("malformed SASL message")
