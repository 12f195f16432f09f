// SPDX-License-Identifier: GPL-2.0-or-later

package datapath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Null is a Datapath in memory: it holds the model and moves no packet. Tests and load figures run on it without root.
// What its clients are supposed to send and receive is told to it by Count.
type Null struct {
	now func() time.Time

	mu      sync.Mutex
	config  Config
	ready   bool
	tunnels map[uint32]State
	deleted map[uint32]State // the last of each id
	foreign Foreign
	drops   map[Reason]Drop
	tallies map[uint32]map[Reason]uint64 // drops by tunnel
}

var (
	_ Datapath           = (*Null)(nil)
	_ DropReporter       = (*Null)(nil)
	_ TunnelDropReporter = (*Null)(nil)
	_ Injector           = (*Null)(nil)
	_ Resumer            = (*Null)(nil)
)

// errNotConfigured is what Set answers before the first Configure.
var errNotConfigured = errors.New("the datapath is not configured")

// NewNull makes a Null that asks now for the time.
func NewNull(now func() time.Time) *Null {
	return &Null{now: now, tunnels: map[uint32]State{}, deleted: map[uint32]State{}, drops: map[Reason]Drop{}, tallies: map[uint32]map[Reason]uint64{}}
}

// Configure implements Datapath.
func (n *Null) Configure(_ context.Context, config Config) error {
	if err := config.Validate(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, state := range n.tunnels {
		if config.Check(state.Tunnel) != nil {
			n.remove(state.Tunnel)
		}
	}
	n.config, n.ready = config, true
	return nil
}

func (n *Null) remove(t Tunnel) {
	delete(n.tunnels, t.ID)
	for _, prefix := range n.config.ForeignOf(t) {
		n.foreign.Remove(prefix)
	}
}

// Set implements Datapath.
func (n *Null) Set(_ context.Context, tunnels ...Tunnel) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ready {
		return errNotConfigured
	}
	var errs []error
	for _, t := range tunnels {
		if err := n.set(t); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (n *Null) set(t Tunnel) error {
	if err := n.config.Check(t); err != nil {
		return err
	}
	foreign := n.config.ForeignOf(t)
	for _, prefix := range foreign {
		if holder, ok := n.foreign.Holder(prefix); ok && holder != t.ID {
			return fmt.Errorf("tunnel %d: %s belongs to tunnel %d: %w", t.ID, prefix, holder, ErrInvalid)
		}
	}
	state, ok := n.tunnels[t.ID]
	if ok {
		n.remove(state.Tunnel)
	}
	if !ok || state.Session != t.Session {
		last, resumed := n.deleted[t.ID]
		resumed = resumed && !ok && last.Session == t.Session
		if state = (State{LastSeen: n.now()}); resumed {
			state.Counters = last.Counters
		} else {
			delete(n.tallies, t.ID)
		}
	}
	delete(n.deleted, t.ID)
	for _, prefix := range foreign {
		n.foreign.Add(prefix, t.ID)
	}
	state.Tunnel = t
	n.tunnels[t.ID] = state
	return nil
}

// Delete implements Datapath.
func (n *Null) Delete(_ context.Context, id uint32) (Counters, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	state, ok := n.tunnels[id]
	if !ok {
		return Counters{}, fmt.Errorf("tunnel %d: %w", id, ErrNotFound)
	}
	n.remove(state.Tunnel)
	n.deleted[id] = state
	return state.Counters, nil
}

// Resumes implements Resumer.
func (n *Null) Resumes() {}

// Reboot forgets every tunnel and what it counted, as a host does that goes down.
func (n *Null) Reboot() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, state := range n.tunnels {
		n.remove(state.Tunnel)
	}
	clear(n.deleted)
}

// All implements Datapath. The tunnels come in the order of their ids.
func (n *Null) All(ctx context.Context) iter.Seq2[State, error] {
	return func(yield func(State, error) bool) {
		for _, state := range n.snapshot() {
			if err := ctx.Err(); err != nil {
				yield(State{}, err)
				return
			}
			if !yield(state, nil) {
				return
			}
		}
	}
}

func (n *Null) snapshot() []State {
	n.mu.Lock()
	defer n.mu.Unlock()
	states := make([]State, 0, len(n.tunnels))
	for _, state := range n.tunnels {
		states = append(states, state)
	}
	slices.SortFunc(states, func(a, b State) int { return cmp.Compare(a.ID, b.ID) })
	return states
}

// Close implements Datapath. A Null has no kernel to leave its tunnels in: they stay in it, for the next Configure.
func (n *Null) Close() error { return nil }

// Count adds traffic to a tunnel, as if its client had sent and received it. ErrNotFound if there is none.
func (n *Null) Count(id uint32, traffic Counters) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	state, ok := n.tunnels[id]
	if !ok {
		return fmt.Errorf("tunnel %d: %w", id, ErrNotFound)
	}
	n.add(state, traffic)
	return nil
}

func (n *Null) add(state State, traffic Counters) {
	state.RxPackets += traffic.RxPackets
	state.RxBytes += traffic.RxBytes
	state.TxPackets += traffic.TxPackets
	state.TxBytes += traffic.TxBytes
	if traffic.RxPackets > 0 {
		state.LastSeen = n.now()
	}
	n.tunnels[state.ID] = state
}

// Inject implements Injector: a packet that may pass is counted, one that may not is counted with the drops.
func (n *Null) Inject(encap Encap, local, remote netip.AddrPort, packet []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	inner, why := ParseInner(packet)
	id := uint32(0)
	if why == "" {
		id, why = n.admit(inner, encap, local, remote)
	}
	if why == "" {
		n.add(n.tunnels[id], Counters{RxPackets: 1, RxBytes: uint64(inner.Length)})
		return
	}
	n.drops[why] = Drop{
		Reason: why, Packets: n.drops[why].Packets + 1, Tunnel: id, Remote: remote, Inner: inner.Source, Last: n.now(),
	}
	if id == 0 {
		return
	}
	if n.tallies[id] == nil {
		n.tallies[id] = map[Reason]uint64{}
	}
	n.tallies[id][why]++
}

// admit finds the tunnel of an inner packet, and the reason why it may not pass.
func (n *Null) admit(inner Inner, encap Encap, local, remote netip.AddrPort) (uint32, Reason) {
	id, ok := n.config.Owner(inner.Source)
	if !ok {
		id, ok = n.foreign.Owner(inner.Source)
	}
	if !ok {
		return 0, InnerSource
	}
	state, ok := n.tunnels[id]
	if !ok {
		return id, NoTunnel
	}
	return id, inner.Refuse(state.Tunnel, encap, local, remote)
}

// Drops implements DropReporter.
func (n *Null) Drops(context.Context) ([]Drop, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var drops []Drop
	for _, reason := range Reasons() {
		if drop, ok := n.drops[reason]; ok {
			drops = append(drops, drop)
		}
	}
	return drops, nil
}

// TunnelDrops implements TunnelDropReporter.
func (n *Null) TunnelDrops(ctx context.Context) iter.Seq2[TunnelDrop, error] {
	return func(yield func(TunnelDrop, error) bool) {
		for _, drop := range n.tallied() {
			if err := ctx.Err(); err != nil {
				yield(TunnelDrop{}, err)
				return
			}
			if !yield(drop, nil) {
				return
			}
		}
	}
}

func (n *Null) tallied() (drops []TunnelDrop) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, tally := range n.tallies {
		for reason, packets := range tally {
			drops = append(drops, TunnelDrop{Tunnel: id, Reason: reason, Packets: packets})
		}
	}
	return drops
}
