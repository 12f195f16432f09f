// SPDX-License-Identifier: GPL-2.0-or-later

package sasl

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
)

// cramServer sends <nonce@realm> and reads "name digest" (RFC 2195 section 2).
type cramServer struct{ challenge string }

func newCramServer(realm string, random io.Reader) (Server, error) {
	if err := ValidateRealm(realm); err != nil {
		return nil, err
	}
	nonce, err := newNonce(random)
	if err != nil {
		return nil, err
	}
	return cramServer{challenge: "<" + nonce + "@" + realm + ">"}, nil
}

func (s cramServer) Start() ([]byte, Credential) { return encode(s.challenge), nil }

func (s cramServer) Next(response []byte) ([]byte, Credential, error) {
	token, err := decode(response)
	if err != nil {
		return nil, nil, err
	}
	i := bytes.LastIndexByte(token, ' ') // names may hold blanks, digests do not
	if i <= 0 {
		return nil, nil, fmt.Errorf("%w: CRAM-MD5 without name or digest", ErrMalformed)
	}
	c := CramCredential{Username: text(token[:i]), Challenge: s.challenge}
	if len(c.Username) > maxName || !printable(c.Username) {
		return nil, nil, fmt.Errorf("%w: CRAM-MD5 name is not text of at most %d octets", ErrMalformed, maxName)
	}
	if c.Response, err = hexDigest(token[i+1:]); err != nil {
		return nil, nil, err
	}
	return nil, c, nil
}

func (cramServer) Success(string) []byte { return nil }

// hexDigest checks that b is an MD5 digest in hexadecimal and makes it lower case.
func hexDigest(b []byte) (string, error) {
	var sum [md5.Size]byte
	if len(b) != hex.EncodedLen(len(sum)) {
		return "", fmt.Errorf("%w: digest of %d digits, want %d", ErrMalformed, len(b), hex.EncodedLen(len(sum)))
	}
	if _, err := hex.Decode(sum[:], b); err != nil {
		return "", fmt.Errorf("%w: digest is not hexadecimal", ErrMalformed)
	}
	return hex.EncodeToString(sum[:]), nil
}

// CramResponse is the digest of RFC 2195 section 2 for a challenge: HMAC-MD5 keyed with the password, 32 hex digits.
func CramResponse(password, challenge string) string {
	mac := hmac.New(md5.New, []byte(password))
	io.WriteString(mac, challenge)
	return hex.EncodeToString(mac.Sum(nil))
}

type cramClient struct {
	identity Identity
	done     bool
}

func (c *cramClient) First() bool { return false }

func (c *cramClient) Next(challenge []byte) ([]byte, error) {
	if c.done {
		return nil, fmt.Errorf("%w: second challenge of CRAM-MD5", ErrMalformed)
	}
	token, err := decode(challenge)
	if err != nil {
		return nil, err
	}
	if len(token) == 0 {
		return nil, fmt.Errorf("%w: empty challenge of CRAM-MD5", ErrMalformed)
	}
	c.done = true
	return encode(c.identity.User + " " + CramResponse(c.identity.Password, string(token))), nil
}

func (c *cramClient) Done() bool { return c.done }
