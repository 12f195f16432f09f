// SPDX-License-Identifier: GPL-2.0-or-later

package aaa

import (
	"fmt"
	"io"
)

// Mechanism is a SASL mechanism by its registered name.
type Mechanism string

// The mechanisms whose credentials aaa can carry.
const (
	MechanismAnonymous Mechanism = "ANONYMOUS"  // RFC 4505
	MechanismPlain     Mechanism = "PLAIN"      // RFC 4616
	MechanismDigestMD5 Mechanism = "DIGEST-MD5" // RFC 2831
	MechanismCramMD5   Mechanism = "CRAM-MD5"   // RFC 2195
)

// Credential is what a client proved or claims to know. It is sealed: Anonymous, Password, Digest and Cram are all
// there are. A Credential prints without its secret, whatever the verb.
type Credential interface {
	// User is the name the client gave, "" for Anonymous.
	User() string
	// Mechanism is the SASL mechanism the credential came by.
	Mechanism() Mechanism
	sealed()
}

// Anonymous claims nothing.
type Anonymous struct{}

// Password is a name with a clear password.
type Password struct {
	Username string
	Password string
}

// Digest is a complete DIGEST-MD5 response (RFC 2831 section 2.1.2), unquoted. The nonce was made by the server and
// already checked to be the one of this dialogue, as were nc and the service of the digest-uri.
type Digest struct {
	Username string
	Realm    string
	Nonce    string
	CNonce   string
	NC       string // 8 hex digits, "00000001"
	QOP      string // "auth"
	URI      string // digest-uri as the client sent it
	Response string // 32 hex digits
	UTF8     bool   // charset=utf-8 was given: name and realm are UTF-8, else ISO 8859-1
	AuthzID  string
}

// Cram is a CRAM-MD5 response (RFC 2195).
type Cram struct {
	Username  string
	Challenge string // as the server sent it, before base64
	Response  string // 32 hex digits, HMAC-MD5(password, challenge)
}

// User implements Credential.
func (Anonymous) User() string { return "" }

// User implements Credential.
func (c Password) User() string { return c.Username }

// User implements Credential.
func (c Digest) User() string { return c.Username }

// User implements Credential.
func (c Cram) User() string { return c.Username }

// Mechanism implements Credential.
func (Anonymous) Mechanism() Mechanism { return MechanismAnonymous }

// Mechanism implements Credential.
func (Password) Mechanism() Mechanism { return MechanismPlain }

// Mechanism implements Credential.
func (Digest) Mechanism() Mechanism { return MechanismDigestMD5 }

// Mechanism implements Credential.
func (Cram) Mechanism() Mechanism { return MechanismCramMD5 }

func (Anonymous) sealed() {}
func (Password) sealed()  {}
func (Digest) sealed()    {}
func (Cram) sealed()      {}

// String names the credential, never its secret.
func (Anonymous) String() string { return "ANONYMOUS" }

// String names the credential, never its secret.
func (c Password) String() string { return "PLAIN " + c.Username }

// String names the credential, never its secret.
func (c Digest) String() string { return "DIGEST-MD5 " + c.Username }

// String names the credential, never its secret.
func (c Cram) String() string { return "CRAM-MD5 " + c.Username }

// Format keeps every verb from printing the secret.
func (c Password) Format(f fmt.State, _ rune) { show(f, c) }

// Format keeps every verb from printing the secret.
func (c Digest) Format(f fmt.State, _ rune) { show(f, c) }

// Format keeps every verb from printing the secret.
func (c Cram) Format(f fmt.State, _ rune) { show(f, c) }

// MarshalText keeps the secret out of JSON.
func (c Password) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalText keeps the secret out of JSON.
func (c Digest) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalText keeps the secret out of JSON.
func (c Cram) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// show writes what may be seen of a secret thing. A write that fails is the caller's of fmt to notice.
func show(f fmt.State, s fmt.Stringer) { _, _ = io.WriteString(f, s.String()) }
