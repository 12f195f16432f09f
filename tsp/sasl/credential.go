// SPDX-License-Identifier: GPL-2.0-or-later

package sasl

import (
	"fmt"
	"io"
)

// Credential is what a server-side mechanism collected. It is sealed: AnonymousCredential, PlainCredential,
// DigestCredential and CramCredential are all there are. It prints without its secret, whatever the verb.
type Credential interface {
	// User is the name the client gave, "" if none.
	User() string
	// Mechanism is the one that collected it.
	Mechanism() Mechanism
	sealed()
}

// AnonymousCredential claims nothing.
type AnonymousCredential struct{}

// PlainCredential is a name with a clear password (RFC 4616), UTF-8.
type PlainCredential struct {
	AuthzID  string // "" if none was asked for
	Username string
	Password string
}

// DigestCredential is a complete DIGEST-MD5 response (RFC 2831 section 2.1.2), unquoted. The nonce is the one made for
// this dialogue; realm, nc, qop and the service of the digest-uri were checked. Response was not: HA1.Proofs computes what it
// ought to be.
type DigestCredential struct {
	Username string
	Realm    string
	Nonce    string
	CNonce   string
	NC       string // "00000001"
	QOP      string // "auth"
	URI      string // digest-uri as the client sent it
	Response string // 32 lower-case hex digits
	UTF8     bool   // charset=utf-8 was given: Username and Realm ought to be UTF-8, else they are ISO 8859-1
	AuthzID  string
}

// CramCredential is a CRAM-MD5 response (RFC 2195).
type CramCredential struct {
	Username  string
	Challenge string // as the server sent it, before base64
	Response  string // 32 lower-case hex digits: HMAC-MD5(password, challenge)
}

// User implements Credential.
func (AnonymousCredential) User() string { return "" }

// User implements Credential.
func (c PlainCredential) User() string { return c.Username }

// User implements Credential; it is UTF-8 whatever the charset. Clients in the field announce utf-8 and send what stands in their
// configuration, in whatever charset.
func (c DigestCredential) User() string {
	if c.UTF8 {
		return text([]byte(c.Username))
	}
	return fromLatin1(c.Username)
}

// User implements Credential.
func (c CramCredential) User() string { return c.Username }

// Mechanism implements Credential.
func (AnonymousCredential) Mechanism() Mechanism { return Anonymous }

// Mechanism implements Credential.
func (PlainCredential) Mechanism() Mechanism { return Plain }

// Mechanism implements Credential.
func (DigestCredential) Mechanism() Mechanism { return DigestMD5 }

// Mechanism implements Credential.
func (CramCredential) Mechanism() Mechanism { return CramMD5 }

func (AnonymousCredential) sealed() {}
func (PlainCredential) sealed()     {}
func (DigestCredential) sealed()    {}
func (CramCredential) sealed()      {}

// String names the credential, never its secret.
func (AnonymousCredential) String() string { return string(Anonymous) }

// String names the credential, never its secret.
func (c PlainCredential) String() string { return string(Plain) + " " + c.Username }

// String names the credential, never its secret.
func (c DigestCredential) String() string { return string(DigestMD5) + " " + c.User() }

// String names the credential, never its secret.
func (c CramCredential) String() string { return string(CramMD5) + " " + c.Username }

// Format keeps every verb from printing the secret.
func (c PlainCredential) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// Format keeps every verb from printing the secret.
func (c DigestCredential) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// Format keeps every verb from printing the secret.
func (c CramCredential) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// MarshalText keeps encoders from writing the secret.
func (c PlainCredential) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalText keeps encoders from writing the secret.
func (c DigestCredential) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalText keeps encoders from writing the secret.
func (c CramCredential) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
