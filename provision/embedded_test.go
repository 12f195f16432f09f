// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ddtb/aaa"
	"ddtb/provision/lease"
)

// onDisk puts the embedded store in the place of the one in memory.
func (w *world) onDisk(dir string) *lease.Embedded {
	w.Helper()
	store, err := lease.OpenEmbedded(dir, w.config.Pools, lease.Options{Clock: w.clock.Now})
	if err != nil {
		w.Fatal(err)
	}
	w.store = store
	return store
}

// Store and daemon end without a word; what is on disk is enough to go on with.
func TestRestartFromDisk(t *testing.T) {
	w := newWorld(t, testConfig())
	dir := t.TempDir()
	store := w.onDisk(dir)
	w.restart()
	const n = 300
	var kept, ended [n]Session
	for i := range n {
		kept[i] = w.login(request(fmt.Sprint("kept", i), client(i+1, 1)))
		ended[i] = w.login(request(fmt.Sprint("ended", i), client(i+1, 2)))
	}
	offer := w.offer(request("offered", client(1, 3)))
	for i := range n {
		w.send(kept[i], uint64(i))
		if err := w.Release(t.Context(), ended[i].ID, aaa.CauseUserRequest); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.markStarted(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(20 * time.Second)

	store = w.onDisk(dir)
	t.Cleanup(func() { store.Close() })
	w.restart()
	for i := range n {
		w.forwards(kept[i])
		if s := w.session(kept[i].ID); s.Traffic.RxPackets != uint64(i) || s.Subscriber.Name != kept[i].Subscriber.Name {
			t.Errorf("session is %+v", s)
		}
		w.billed(kept[i], aaa.StatusStart)
		w.billed(ended[i], aaa.StatusStart, aaa.StatusStop)
	}
	if _, ok := w.Session(offer.ID); ok || w.count(Filter{}) != n {
		t.Errorf("%d sessions", w.count(Filter{}))
	}
	if again := w.login(request("ended7", client(9, 9))); again.Endpoint != ended[7].Endpoint {
		t.Error("a lease was not sticky over the restart")
	}
}

// BenchmarkLoginOnDisk is BenchmarkLogin of many subscribers at once with the embedded store: each waits for the disk.
func BenchmarkLoginOnDisk(b *testing.B) {
	w := newWorld(b, benchConfig())
	store := w.onDisk(b.TempDir())
	defer store.Close()
	w.accountant = noAccounting{}
	w.restart()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go w.markLoop(ctx)
	var group errgroup.Group
	group.SetLimit(256)
	b.ResetTimer()
	for i := range b.N {
		group.Go(func() error {
			s, err := w.Offer(ctx, numbered(i))
			if err == nil {
				err = w.Activate(ctx, s.ID)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}
