// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"cmp"
	"net/netip"
	"slices"
)

// A server sends clients away when its load is more than headroom of the least loaded one's, and slack of the capacity
// besides, above it. Two servers that know each other's load as of one heartbeat ago would have to change by twice that
// in between to send clients in a circle.
const (
	headroom = 1.1
	slack    = 0.01
	offered  = 3 // servers told to a client at most: it goes to the one that answers first, not to the first
)

// Redirect gives the servers that new clients are to be sent to, the best first, none if this one serves them. It does
// not block.
func (a *Agent) Redirect() []netip.Addr {
	if targets := a.targets.Load(); targets != nil {
		return *targets
	}
	return nil
}

// aim settles where clients are sent until the next heartbeat.
func (a *Agent) aim(self Node) {
	var targets []netip.Addr
	switch {
	case a.refuses():
		targets = choose(a.known(), 1)
	case a.Balance == Load:
		targets = choose(a.known(), below(self))
	}
	a.targets.Store(&targets)
}

// below is the load that another server has to be below to be sent clients.
func below(self Node) float64 { return (self.Load() - slack) / headroom }

// choose picks of those servers that serve and are less loaded than below the least loaded one, and those about as little
// loaded.
func choose(nodes []Node, below float64) []netip.Addr {
	var able []Node
	for _, n := range nodes {
		if n.State == Serving && n.Address.IsValid() && n.Load() < below {
			able = append(able, n)
		}
	}
	slices.SortFunc(able, func(a, b Node) int { return cmp.Or(cmp.Compare(a.Load(), b.Load()), cmp.Compare(a.Name, b.Name)) })
	var out []netip.Addr
	for _, n := range able[:min(len(able), offered)] {
		if n.Load() <= able[0].Load()*headroom+slack {
			out = append(out, n.Address)
		}
	}
	return out
}
