// SPDX-License-Identifier: GPL-2.0-or-later

package aaa

import (
	"crypto/md5" //nolint:gosec // RFC 2831 is made of it
	"crypto/subtle"
	"encoding/hex"
	"fmt"
)

// HA1 is H(username ":" realm ":" password), MD5, of RFC 2831 section 2.1.2.1. It is what a server needs to verify
// DIGEST-MD5 within a realm without the password. Who has it can log in there: it is kept as secret as a password.
type HA1 [md5.Size]byte

// String names the key, never what it is.
func (HA1) String() string { return "HA1" }

// Format keeps every verb from printing the secret.
func (k HA1) Format(f fmt.State, _ rune) { show(f, k) }

// MarshalText keeps the secret out of JSON.
func (k HA1) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// NewHA1 hashes name, realm and password, all UTF-8, as RFC 2831 wants it: each of the three that can be written in
// ISO 8859-1 is hashed in that form, also by a client that announced charset=utf-8 (section 2.1.2, username).
func NewHA1(username, realm, password string) HA1 {
	return hashA1(latin1OrUTF8(username), latin1OrUTF8(realm), latin1OrUTF8(password))
}

// NewRawHA1 hashes the three as they are. Clients that announce charset=utf-8 and do not know the rule of NewHA1 do so;
// the two differ only where a character lies between U+0080 and U+00FF.
func NewRawHA1(username, realm, password string) HA1 {
	return hashA1(username, realm, password)
}

func hashA1(username, realm, password string) HA1 {
	return md5.Sum([]byte(username + ":" + realm + ":" + password)) //nolint:gosec // RFC 2831
}

// Verify tells whether the response was made with ha1, in constant time, and gives the rspauth that proves to the client
// that the server knows it too (RFC 2831 section 2.1.3). Only qop=auth is known here, and nobody may act for somebody else. The form that some clients send at
// VERSION 2.0.0, cut at a NUL in the hash, is not accepted: with an early NUL anybody could make it.
func (c Digest) Verify(ha1 HA1) (rspauth string, ok bool) {
	given, err := hex.DecodeString(c.Response)
	if err != nil || c.QOP != "auth" || c.AuthzID != "" && c.AuthzID != c.Username {
		return "", false
	}
	want := c.response(ha1, "AUTHENTICATE:"+c.URI)
	if subtle.ConstantTimeCompare(given, want[:]) != 1 {
		return "", false
	}
	proof := c.response(ha1, ":"+c.URI)
	return hex.EncodeToString(proof[:]), true
}

// Respond makes the response a client that knows ha1 would send, 32 hex digits; c.Response is not looked at.
func (c Digest) Respond(ha1 HA1) string {
	response := c.response(ha1, "AUTHENTICATE:"+c.URI)
	return hex.EncodeToString(response[:])
}

// response is KD(HEX(H(A1)), nonce:nc:cnonce:qop:HEX(H(A2))) of RFC 2831 section 2.1.2.1.
func (c Digest) response(ha1 HA1, a2 string) [md5.Size]byte {
	a1 := string(ha1[:]) + ":" + c.Nonce + ":" + c.CNonce
	if c.AuthzID != "" {
		a1 += ":" + c.AuthzID
	}
	return md5.Sum([]byte(hexMD5(a1) + ":" + c.Nonce + ":" + c.NC + ":" + c.CNonce + ":" + c.QOP + ":" + hexMD5(a2))) //nolint:gosec // RFC 2831
}

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s)) //nolint:gosec // RFC 2831
	return hex.EncodeToString(sum[:])
}
