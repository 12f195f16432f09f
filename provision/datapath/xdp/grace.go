// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
)

// grace waits until no program run is in flight that began before the call. A record that was taken out of force is then
// still: nobody counts in it, nobody reads it.
//
// The kernel has no system call for that by name. But an update of a map that holds maps returns only after an RCU grace
// period (maybe_wait_bpf_programs in kernel/bpf/syscall.c, since Linux 4.20), so that its caller may be sure that no
// program sees the old inner map; and programs run as RCU readers, in XDP, generic XDP and tc alike. One wait serves all
// who asked for it before it began.
type grace struct {
	sync func() error // one grace period

	turn sync.Mutex // held during it
	mu   sync.Mutex
	next *round
}

// round is one wait and those who share it.
type round struct {
	done chan struct{}
	err  error
}

func newGrace() (*grace, func() error, error) {
	inner := &ebpf.MapSpec{Name: "ddtb_grace", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	outer, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "ddtb_grace", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("map of maps: %w", err)
	}
	member, err := ebpf.NewMap(inner)
	if err != nil {
		_ = outer.Close()
		return nil, nil, fmt.Errorf("map of maps: %w", err)
	}
	g := &grace{sync: func() error { return outer.Put(uint32(0), member) }}
	return g, func() error { _ = member.Close(); return outer.Close() }, nil
}

// wait returns after a grace period that began after the call.
func (g *grace) wait() error {
	g.mu.Lock()
	r := g.next
	mine := r == nil
	if mine {
		r = &round{done: make(chan struct{})}
		g.next = r
	}
	g.mu.Unlock()
	if !mine {
		<-r.done
		return r.err
	}
	g.turn.Lock()
	g.mu.Lock()
	g.next = nil // whoever asks from now on needs the next one
	g.mu.Unlock()
	r.err = g.sync()
	g.turn.Unlock()
	close(r.done)
	return r.err
}
