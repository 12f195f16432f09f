// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa/journal"
)

// journalFile is the journal's name in the folder given to OpenEmbedded.
const journalFile = "leases.journal"

// batchOctets is the size of the record after which a batch takes no more calls.
const batchOctets = 256 << 10

// Embedded is the Store of a single server: leases in memory, every change in a journal on disk before it is
// acknowledged.
//
// One goroutine makes all changes, in batches: the calls that came while the last batch was on its way to the disk are
// run on the table one after the other, what they changed becomes one record of the journal, and when that is on disk
// they are answered. If it does not get there the whole batch is undone and its calls fail, so what is in memory is at
// most one batch ahead of the disk and nobody has been told of it; but for tentative calls, which are answered at once
// and go to the disk with the next batch that has another.
//
// While several callers wait at a time, batches are at least a pace apart: the disk is asked a few hundred times a second
// for thousands of logins, and none waits long for it.
type Embedded struct {
	operations
	logger  zerolog.Logger
	journal *journal.Journal

	calls chan *call
	quit  chan struct{} // closed by Close
	gone  chan struct{} // closed when nobody serves calls any more
	once  sync.Once

	changing sync.Mutex // guards what follows: the batch under way
	waiting  []*call    // to be answered when it is on disk or undone
	changes  []change
	record   []byte // the same, encoded

	crowded   bool      // several waited for the last batch
	committed time.Time // the last batch went to the disk
}

// pace is the least time between two batches while several callers wait.
const pace = 4 * time.Millisecond

// call is one operation to be done.
type call struct {
	ctx       context.Context
	tentative bool
	op        func(*table, time.Time) error
	done      chan struct{} // closed when err stands
	err       error
}

// OpenEmbedded reads the leases kept in dir, which is made if it is not there, and serves pools from it. Only one
// process may have a folder open.
//
// Leases are found again by the name of their pool. A pool that has grown keeps all; one that has shrunk or is gone
// loses those beyond its end, and one whose addresses or ids have changed ends its active leases, whose clients have the
// old addresses, while owners keep their index. Where that ends an active lease or a reservation it is an error unless
// opts.Drop is set.
func OpenEmbedded(dir string, pools []Pool, opts Options) (*Embedded, error) {
	return openEmbedded(dir, pools, opts, 0)
}

// openEmbedded takes the size from which the journal compacts, too; 0: as the journal sees fit.
func openEmbedded(dir string, pools []Pool, opts Options, compactSize int64) (*Embedded, error) {
	if err := Validate(pools); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	e := &Embedded{
		operations: operations{clock: opts.Clock}, logger: opts.Logger,
		calls: make(chan *call, 1024), quit: make(chan struct{}), gone: make(chan struct{}),
	}
	e.do = e.submit
	l := loader{opts: opts}
	j, report, err := journal.Open(filepath.Join(dir, journalFile), journal.Options{
		Kind: journalKind, Snapshot: e.snapshot, CompactSize: compactSize, Logger: opts.Logger,
	}, l.record)
	if err != nil {
		return nil, fmt.Errorf("leases: %w", err)
	}
	e.journal = j
	if w := report.Warning(); w != "" {
		e.logger.Warn().Msg(w)
	}
	if err := e.adopt(l.table, pools, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("leases in %s: %w", report.File, err), j.Close())
	}
	go e.serve()
	return e, nil
}

// adopt makes what was read, nil for a new journal, the table that is served.
func (e *Embedded) adopt(found *table, pools []Pool, opts Options) error {
	var err error
	fresh, moved := found == nil, false
	if fresh {
		found = newTable(pools, opts)
	} else if moved = !samePools(found, pools); moved {
		found, err = e.migrate(found, pools, opts)
	}
	if err == nil {
		err = found.build()
	}
	if err != nil {
		return err
	}
	e.table = found
	found.record = func(c change) {
		e.changes = append(e.changes, c)
		e.record = appendChange(e.record, c)
	}
	switch {
	case fresh:
		return e.journal.Append(appendPools(nil, pools))
	case moved:
		return e.journal.Compact()
	}
	return nil
}

// Close ends the store once the calls under way are done. Calls after it give ErrUnavailable.
func (e *Embedded) Close() error {
	e.once.Do(func() { close(e.quit) })
	<-e.gone
	return e.journal.Close()
}

// submit implements operations.do.
func (e *Embedded) submit(ctx context.Context, tentative bool, op func(*table, time.Time) error) error {
	c := &call{ctx: ctx, tentative: tentative, op: op, done: make(chan struct{})}
	select {
	case <-e.quit:
		return errClosed()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	case e.calls <- c:
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	case <-e.gone:
	}
	select {
	case <-c.done:
		return c.err
	default:
		return errClosed()
	}
}

func errClosed() error { return fmt.Errorf("%w: closed", ErrUnavailable) }

// serve runs calls until the store is closed and none is left.
func (e *Embedded) serve() {
	defer close(e.gone)
	defer e.settle()
	due := time.NewTimer(pace)
	defer due.Stop()
	batch := func(c *call) {
		if wait := e.batch(c); wait > 0 {
			due.Reset(wait)
		}
	}
	for {
		select {
		case c := <-e.calls:
			batch(c)
		case <-due.C:
			e.commitWaiting()
		case <-e.quit:
			select {
			case c := <-e.calls:
				batch(c)
			default:
				return
			}
		}
	}
}

// batch runs a call, and those that came meanwhile, and commits what somebody waits for. If it is too early for that, it
// gives how long to wait for more.
func (e *Embedded) batch(first *call) (wait time.Duration) {
	e.changing.Lock()
	defer e.changing.Unlock()
	e.apply(e.clock(), first)
	full := len(e.record) >= batchOctets
	if len(e.waiting) == 0 && !full {
		return 0
	}
	if wait = time.Until(e.committed.Add(pace)); e.crowded && wait > 0 && !full {
		return wait
	}
	e.commit()
	return 0
}

// commitWaiting commits if somebody waits for it.
func (e *Embedded) commitWaiting() {
	e.changing.Lock()
	defer e.changing.Unlock()
	if len(e.waiting) > 0 {
		e.commit()
	}
}

// apply runs a call and those that came meanwhile, and answers the tentative ones.
func (e *Embedded) apply(now time.Time, c *call) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		if c.err = c.ctx.Err(); c.err != nil {
			c.err = fmt.Errorf("%w: %w", ErrUnavailable, c.err)
		} else {
			c.err = c.op(e.table, now)
		}
		if c.tentative {
			close(c.done)
		} else {
			e.waiting = append(e.waiting, c)
		}
		if len(e.record) >= batchOctets {
			return
		}
		select {
		case c = <-e.calls:
		default:
			return
		}
	}
}

// commit brings the batch to the disk, or undoes it, and answers those who wait.
func (e *Embedded) commit() {
	e.crowded, e.committed = len(e.waiting) > 1, time.Now()
	err := e.persist()
	for _, c := range e.waiting {
		if err != nil {
			c.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		close(c.done)
	}
	clear(e.waiting)
	e.waiting = e.waiting[:0]
}

// persist brings the changes to the disk, or undoes them.
func (e *Embedded) persist() error {
	if len(e.changes) == 0 {
		return nil
	}
	err := e.journal.Append(e.record)
	if err != nil {
		e.mu.Lock()
		for i := len(e.changes) - 1; i >= 0; i-- {
			c := e.changes[i]
			e.table.swap(c.pool, c.index, c.before)
		}
		e.mu.Unlock()
	}
	clear(e.changes)
	e.changes, e.record = e.changes[:0], e.record[:0]
	return err
}

// snapshot implements journal.Options.Snapshot.
func (e *Embedded) snapshot(emit func([]byte) error) error {
	e.settle()
	pools := make([]Pool, 0, len(e.table.pools))
	for _, p := range e.table.pools {
		pools = append(pools, p.Pool)
	}
	record := appendPools(nil, pools)
	for _, p := range e.table.pools {
		for n := 0; ; n++ {
			e.mu.Lock()
			entries, ok := p.pageAt(n)
			e.mu.Unlock()
			if !ok {
				break
			}
			for i, entry := range entries {
				if !entry.is(used) {
					continue
				}
				record = appendPut(record, p, uint32(n<<pageBits+i), entry)
				if len(record) < batchOctets {
					continue
				}
				if err := emit(record); err != nil {
					return err
				}
				record = record[:0]
			}
		}
	}
	if len(record) > 0 {
		if err := emit(record); err != nil {
			return err
		}
	}
	e.settle()
	return nil
}

// settle brings the changes under way to the disk, or undoes them.
func (e *Embedded) settle() {
	e.changing.Lock()
	defer e.changing.Unlock()
	e.commit()
}
