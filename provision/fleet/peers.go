// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"context"
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
