// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

var errDead = errors.New("the process was killed")

// fuse kills a process: of the calls it makes so many come through, the next has its effect or has not, without the
// process learning it, and then there are none.
type fuse struct {
	mu     sync.Mutex
	left   int // < 0: for ever
	effect bool
	dead   bool
}

func (f *fuse) call(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return errDead
	}
	if f.left == 0 {
		f.dead = true
		if f.effect {
			_ = do()
		}
		return errDead
	}
	f.left--
	return do()
}

func (f *fuse) blown() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// mortalStore, mortalPath and mortalAccountant are what a process that will be killed sees of the world.
type mortalStore struct {
	lease.Store
	*fuse
}

func (m mortalStore) Acquire(ctx context.Context, r lease.Request) (out lease.Lease, err error) {
	err = m.call(func() (err error) { out, err = m.Store.Acquire(ctx, r); return err })
	return out, err
}

func (m mortalStore) Extend(ctx context.Context, ttl time.Duration, h ...lease.Holder) (lost []lease.Lost, err error) {
	err = m.call(func() (err error) { lost, err = m.Store.Extend(ctx, ttl, h...); return err })
	return lost, err
}

func (m mortalStore) Release(ctx context.Context, h ...lease.Holder) error {
	return m.call(func() error { return m.Store.Release(ctx, h...) })
}

type mortalPath struct {
	datapath.Datapath
	*fuse
}

func (m mortalPath) Set(ctx context.Context, tunnels ...datapath.Tunnel) error {
	return m.call(func() error { return m.Datapath.Set(ctx, tunnels...) })
}

func (m mortalPath) Delete(ctx context.Context, id uint32) (c datapath.Counters, err error) {
	err = m.call(func() (err error) { c, err = m.Datapath.Delete(ctx, id); return err })
	return c, err
}

func (mortalPath) Resumes() {}

func (m mortalPath) All(ctx context.Context) iter.Seq2[datapath.State, error] {
	if m.blown() {
		return func(yield func(datapath.State, error) bool) { yield(datapath.State{}, errDead) }
	}
	return m.Datapath.All(ctx)
}

type mortalAccountant struct {
	aaa.Accountant
	*fuse
}

func (m mortalAccountant) Account(ctx context.Context, r aaa.Record) error {
	return m.call(func() error { return m.Accountant.Account(ctx, r) })
}
