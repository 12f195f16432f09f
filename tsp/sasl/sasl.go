// SPDX-License-Identifier: GPL-2.0-or-later

// Package sasl holds the SASL mechanisms a TSP dialogue can use (RFC 4422), one file each, server and client side.
//
// A mechanism only talks: it collects a Credential on the server side and answers challenges on the client side. Whether
// the credential is right is for the caller's backend to say.
//
// Messages are those of TSP without their line end: tokens are base64 on one line (RFC 5572 figure 12), except that the PLAIN
// message goes raw, as every client in the field sends it.
package sasl

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Mechanism is a SASL mechanism by its registered name, upper case.
type Mechanism string

// The mechanisms there are.
const (
	Anonymous Mechanism = "ANONYMOUS"  // RFC 4505
	Plain     Mechanism = "PLAIN"      // RFC 4616
	DigestMD5 Mechanism = "DIGEST-MD5" // RFC 2831
	CramMD5   Mechanism = "CRAM-MD5"   // RFC 2195
)

// Errors of the mechanisms, wrapped with what is wrong.
var (
	// ErrMalformed: the message is not one of this mechanism, or not one that belongs here.
	ErrMalformed = errors.New("malformed SASL message")
	// ErrProof: the server could not prove that it knows the password.
	ErrProof = errors.New("server failed to prove itself")
	// ErrUnknownMechanism: none of the mechanisms there are.
	ErrUnknownMechanism = errors.New("unknown SASL mechanism")
	// ErrRealm: the realm cannot be used in a challenge.
	ErrRealm = errors.New("bad realm")
)

// MaxRealm is the longest realm, in octets, whose challenge stays within three times the size of the client's AUTHENTICATE datagram,
// 28 octets of IPv4 and UDP counted on both.
const MaxRealm = 31

// nonceBytes is the chance in one nonce: no dialogue's is ever guessed or met again.
const nonceBytes = 12

// Server is the server's side of one mechanism in one dialogue. It is used by one goroutine at a time.
type Server interface {
	// Start gives the first challenge, or the credential of a mechanism that needs no message at all. Neither: the client speaks
	// first.
	Start() (challenge []byte, credential Credential)
	// Next takes the client's next message and gives either the next challenge or, when it has all it needs, the credential.
	// Errors wrap ErrMalformed.
	Next(response []byte) (challenge []byte, credential Credential, err error)
	// Success gives what the client must hear before it is told of success, empty if nothing. proof is what the verifier gave
	// with its consent.
	Success(proof string) []byte
}

// Client is the client's side of one mechanism in one dialogue. It is used by one goroutine at a time.
type Client interface {
	// First tells whether the client speaks first; Next then gets nil.
	First() bool
	// Next answers a challenge. It may be empty, after the server's last. Errors wrap ErrMalformed or ErrProof.
	Next(challenge []byte) (response []byte, err error)
	// Done tells whether the exchange is complete, so that a success may be believed.
	Done() bool
}

// Identity is what a client authenticates with, UTF-8.
type Identity struct {
	User     string
	Password string
	Host     string // the server as the user knows it, for digest-uri
}

// NewServer makes the server side of a mechanism. realm is for DIGEST-MD5 and CRAM-MD5; random gives unpredictable octets.
func NewServer(mechanism Mechanism, realm string, random io.Reader) (Server, error) {
	switch mechanism {
	case Anonymous:
		return anonymousServer{}, nil
	case Plain:
		return plainServer{}, nil
	case DigestMD5:
		return newDigestServer(realm, random)
	case CramMD5:
		return newCramServer(realm, random)
	}
	return nil, fmt.Errorf("%w %q", ErrUnknownMechanism, mechanism)
}

// NewClient makes the client side of a mechanism.
func NewClient(mechanism Mechanism, identity Identity, random io.Reader) (Client, error) {
	switch mechanism {
	case Anonymous:
		return anonymousClient{}, nil
	case Plain:
		return &plainClient{identity: identity}, nil
	case DigestMD5:
		return newDigestClient(identity, random)
	case CramMD5:
		return &cramClient{identity: identity}, nil
	}
	return nil, fmt.Errorf("%w %q", ErrUnknownMechanism, mechanism)
}

// ValidateRealm says what is wrong with a realm: it must be 1 to MaxRealm octets of printable UTF-8 without comma, quote or
// backslash, because clients in the field split a challenge at every comma and know no escapes.
func ValidateRealm(realm string) error {
	if realm == "" || len(realm) > MaxRealm {
		return fmt.Errorf("%w: %d octets, want 1 to %d", ErrRealm, len(realm), MaxRealm)
	}
	if strings.ContainsAny(realm, `,"\`) || !printable(realm) {
		return fmt.Errorf("%w %q: comma, quote, backslash, control characters and invalid UTF-8 are not allowed", ErrRealm, realm)
	}
	return nil
}

// newNonce gives 16 characters of the base64 alphabet for URLs: no client in the field can misread one.
func newNonce(random io.Reader) (string, error) {
	var b [nonceBytes]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("nonce: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}

// encode makes one line of a token.
func encode(token string) []byte {
	return base64.StdEncoding.AppendEncode(nil, []byte(token))
}

// decode reads one line of a token; blanks around it and NUL octets left over from the line before are no part of it.
func decode(line []byte) ([]byte, error) {
	line = bytes.TrimRight(trim(line), "=") // not every client pads
	token, err := base64.RawStdEncoding.AppendDecode(nil, line)
	if err != nil {
		return nil, fmt.Errorf("%w: not base64", ErrMalformed)
	}
	return token, nil
}

func trim(line []byte) []byte {
	for len(line) > 0 && (line[0] == 0 || line[0] == ' ') {
		line = line[1:]
	}
	for len(line) > 0 && (line[len(line)-1] == 0 || line[len(line)-1] == ' ') {
		line = line[:len(line)-1]
	}
	return line
}
