// SPDX-License-Identifier: GPL-2.0-or-later

package sasl

import (
	"bytes"
	"fmt"
)

// Bounds of names and passwords, in octets: RFC 4616 section 2 asks for at least 255. No backend takes longer passwords.
const (
	maxName     = 255
	maxPassword = 256
)

// plainServer reads RFC 4616's [authzid] NUL authcid NUL passwd, raw as the clients in the field send it or base64 as
// a line protocol would have it. Raw has two NUL octets, base64 none, and either may follow the NUL some clients send behind AUTHENTICATE
// PLAIN, on a stream.
type plainServer struct{}

func (plainServer) Start() ([]byte, Credential) { return nil, nil }

func (plainServer) Next(message []byte) ([]byte, Credential, error) {
	if bytes.Count(message, []byte{0}) < 2 {
		var err error
		if message, err = decode(message); err != nil {
			return nil, nil, err
		}
	}
	if bytes.Count(message, []byte{0}) == 3 && message[0] == 0 {
		message = message[1:]
	}
	parts := bytes.Split(message, []byte{0})
	if len(parts) != 3 {
		return nil, nil, fmt.Errorf("%w: PLAIN has %d fields, want 3", ErrMalformed, len(parts))
	}
	for i, most := range [...]int{maxName, maxName, maxPassword} {
		if len(parts[i]) > most {
			return nil, nil, fmt.Errorf("%w: PLAIN field of %d octets, want at most %d", ErrMalformed, len(parts[i]), most)
		}
	}
	c := PlainCredential{AuthzID: text(parts[0]), Username: text(parts[1]), Password: text(parts[2])}
	if c.Username == "" || c.Password == "" {
		return nil, nil, fmt.Errorf("%w: PLAIN with empty name or password", ErrMalformed)
	}
	if !printable(c.AuthzID) || !printable(c.Username) {
		return nil, nil, fmt.Errorf("%w: PLAIN name with control characters", ErrMalformed)
	}
	return nil, c, nil
}

func (plainServer) Success(string) []byte { return nil }

type plainClient struct {
	identity Identity
	done     bool
}

func (c *plainClient) First() bool { return true }

func (c *plainClient) Next(challenge []byte) ([]byte, error) {
	if c.done || len(challenge) > 0 {
		return nil, fmt.Errorf("%w: challenge to PLAIN", ErrMalformed)
	}
	c.done = true
	return []byte("\x00" + c.identity.User + "\x00" + c.identity.Password), nil
}

func (c *plainClient) Done() bool { return c.done }
