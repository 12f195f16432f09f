// SPDX-License-Identifier: GPL-2.0-or-later

package sasl

import "fmt"

// ANONYMOUS in TSP carries no message at all (RFC 5572 figure 11): naming the mechanism is the whole login.

type anonymousServer struct{}

func (anonymousServer) Start() ([]byte, Credential) { return nil, AnonymousCredential{} }

func (anonymousServer) Next([]byte) ([]byte, Credential, error) {
	return nil, nil, fmt.Errorf("%w: ANONYMOUS carries none", ErrMalformed)
}

func (anonymousServer) Success(string) []byte { return nil }

type anonymousClient struct{}

func (anonymousClient) First() bool { return false }

func (anonymousClient) Next([]byte) ([]byte, error) {
	return nil, fmt.Errorf("%w: challenge to ANONYMOUS", ErrMalformed)
}

func (anonymousClient) Done() bool { return true }
