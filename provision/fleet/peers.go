// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ddtb/provision"
)

var _ provision.Peers = (*Agent)(nil)

// Alive implements provision.Peers. The board is asked, since a server that was not there at the last heartbeat may be now;
// if it cannot be, what was read last holds.
func (a *Agent) Alive(ctx context.Context, node string) bool {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	nodes, err := a.board.Nodes(ctx)
	if err != nil {
		if nodes = a.known(); nodes == nil {
			return true
		}
	}
	at := slices.IndexFunc(nodes, func(n Node) bool { return n.Name == node })
	return at >= 0 && nodes[at].State != Gone
}

// Claim implements provision.Peers.
func (a *Agent) Claim(ctx context.Context, node string, keep time.Duration) (yield func(), err error) {
	claim := func(ctx context.Context, keep time.Duration) (holder string, err error) {
		ctx, cancel := context.WithTimeout(ctx, ioTimeout)
		defer cancel()
		return a.board.Claim(ctx, node, a.Name, keep)
	}
	holder, err := claim(ctx, keep)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if holder != a.Name {
		return nil, fmt.Errorf("server %.64q does it: %w", holder, provision.ErrClaimed)
	}
	return func() {
		if _, err := claim(context.WithoutCancel(ctx), 0); err != nil {
			a.Logger.Warn().Err(err).Str("server", node).Msg("what a server has left is kept from the others for some minutes")
		}
	}, nil
}

// Seen implements provision.Peers: as of the last time that the other server wrote all its sessions.
func (a *Agent) Seen(ctx context.Context, session string) time.Time {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	s, err := a.board.Session(ctx, session)
	if err != nil {
		return time.Time{}
	}
	return s.Seen
}
