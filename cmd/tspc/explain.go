// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"ddtb/cmd/tspc/config"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// explain says in a subscriber's words what an error means for him. What it does not know it leaves as it is.
func explain(err error, c config.Config) string {
	var status *tsp.StatusError
	var errno syscall.Errno
	switch {
	case errors.As(err, &status):
		return explainStatus(status, c)
	case errors.Is(err, tsp.ErrTimeout):
		return fmt.Sprintf("no answer (is the name right, and does a firewall let TSP through?): %v", err)
	case errors.Is(err, tsp.ErrMechanism):
		return fmt.Sprintf("it offers no way to log in with mechanism %q and the user that are configured: %v", c.Mechanism, err)
	case errors.Is(err, sasl.ErrProof):
		return fmt.Sprintf("it does not know your password itself: somebody else may be answering in its place: %v", err)
	case errors.Is(err, tsp.ErrProtocol):
		return fmt.Sprintf("it does not speak TSP as it should: %v", err)
	case errors.As(err, &errno) && errno == unix.ECONNREFUSED:
		return "no tunnel broker is running there (connection refused)"
	}
	return err.Error()
}

// explainStatus is explain for a reply (RFC 5572 appendix B). The server's own words come last.
func explainStatus(status *tsp.StatusError, c config.Config) string {
	var text string
	switch status.Code {
	case tsp.StatusAuthFailed:
		text = fmt.Sprintf("user or password refused for user %q", c.User)
		if c.User == "" {
			text = "it gives no tunnels to anonymous users"
		}
	case tsp.StatusNoTunnels, tsp.StatusBusy:
		text = "it has no room for another tunnel just now"
	case tsp.StatusInProgress:
		text = "it is still busy with an earlier request of ours"
	case tsp.StatusBadVersion:
		text = "it speaks another version of TSP"
	case tsp.StatusBadTunnelType:
		text = fmt.Sprintf("it has no tunnels of type %s", c.Tunnel)
	case tsp.StatusIPv4InUse:
		text = "there is another tunnel from this IPv4 address already"
	case tsp.StatusPrefixLength, tsp.StatusBadPrefixLength, tsp.StatusNoPrefixLength:
		text = fmt.Sprintf("it gives no prefix of length %d", c.Router.PrefixLength)
	case tsp.StatusPrefixForbidden:
		text = "it gives no prefix to anonymous users"
	case tsp.StatusServerError:
		text = "it has trouble of its own"
	default:
		text = "it refused"
	}
	return fmt.Sprintf("%s (%v)", text, status)
}
