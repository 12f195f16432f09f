// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa/journal"
)

// localCopy is a journal on this host's disk of what a node serves. A daemon that starts while Redis is away goes on with it:
// else nobody would know when the leases of the tunnels in the kernel end. It has to outlive the daemon, not the host, with
// which the tunnels go; so nobody waits for the disk, and after a new boot it tells nothing.
//
// It holds what the daemon that wrote it knew. As with a daemon that lived on while Redis was away, what Redis says later goes
// before it.
type localCopy struct {
	journal *journal.Journal
	path    string
	log     zerolog.Logger
	pools   []*sharedPool
	boot    string
	state   served // what it is a copy of
	broken  atomic.Bool

	// Guarded by state.mu.
	found map[indexOf]*tenure // of the last daemon, what has not been looked for in Redis yet
	whole bool                // all that the node serves is in it
}

// copyKind names the form of its records.
const copyKind = "ddtb served 1"

// A record of the copy is a sequence of these. Pools are counted as they are configured.
const (
	copyOf      = 1 // length, boot id, then opPools: what follows is of no use in another boot or with other pools
	copyPut     = 2 // pool, index, entry
	copyRenewed = 3 // the same: a new session, Redis knows the one before it
	copyEnd     = 4 // pool, index, end: the lease lasts until then
	copyDrop    = 5 // pool, index
	copyWhole   = 6 // all there is has been told
)

// elsewhen stands for the epoch in which an earlier daemon had a lease confirmed.
const elsewhen = "-"

// openCopy reads the copy at path, which may be of a daemon that is not there any more. One that tells nothing is begun anew.
func openCopy(path, boot string, pools []*sharedPool, state served, o Options) (*localCopy, error) {
	c := &localCopy{path: path, log: o.Logger, pools: pools, boot: boot, state: state}
	err := c.open()
	var damaged *journal.DamagedError
	if errors.Is(err, errMalformed) || errors.Is(err, journal.ErrKind) || errors.As(err, &damaged) {
		c.log.Warn().Err(err).Msg("what this server served is not known here; it is read from Redis")
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		err = c.open()
	}
	if err != nil {
		return nil, fmt.Errorf("copy of the leases: %w", err)
	}
	return c, nil
}

func (c *localCopy) open() error {
	c.found, c.whole = make(map[indexOf]*tenure), false
	known := false
	j, report, err := journal.Open(c.path, journal.Options{Kind: copyKind, Snapshot: c.snapshot, Fleeting: true, Logger: c.log}, func(record []byte) error {
		d := decoder{rest: record}
		for len(d.rest) > 0 && !d.bad {
			if d.rest[0] == copyOf {
				clear(c.found)
				c.whole, known = false, bytes.HasPrefix(d.rest, c.header())
				d.take(uint64(len(c.header())))
			}
			if !known {
				return nil // nor is the rest of any use
			}
			if len(d.rest) > 0 {
				c.read(&d)
			}
		}
		if d.bad {
			return errMalformed
		}
		return nil
	})
	if err != nil {
		return err
	}
	if w := report.Warning(); w != "" {
		c.log.Warn().Msg(w)
	}
	c.journal = j
	if !known {
		clear(c.found)
		return j.Append(c.header())
	}
	return nil
}

// header is what a copy begins with.
func (c *localCopy) header() []byte {
	var pools []Pool
	for _, p := range c.pools {
		pools = append(pools, p.Pool)
	}
	b := append([]byte{copyOf}, binary.AppendUvarint(nil, uint64(len(c.boot)))...)
	return appendPools(append(b, c.boot...), pools)
}

// read puts one item of a record into effect.
func (c *localCopy) read(d *decoder) {
	op := d.octet()
	if op == copyWhole {
		c.whole = true
		return
	}
	number, index := d.uvarint(), d.uint32()
	if d.bad || number >= uint64(len(c.pools)) || index == 0 || index >= c.pools[number].Size {
		d.bad = true
		return
	}
	at := indexOf{c.pools[number], index}
	switch op {
	case copyPut, copyRenewed:
		e := d.entry()
		if d.bad || !e.is(held) {
			d.bad = true
			return
		}
		t := tenureOf(e)
		if op == copyPut {
			t.epoch = elsewhen
		}
		c.found[at] = &t
	case copyEnd:
		end := d.time()
		if t := c.found[at]; t != nil {
			t.end = time.Unix(0, end)
		}
	case copyDrop:
		delete(c.found, at)
	default:
		d.bad = true
	}
}

// tenureOf is what an entry of the copy tells.
func tenureOf(e entry) tenure {
	f := e.fields()
	return tenure{
		owner: f.owner, session: f.session, node: f.node, foreign: f.foreign, forget: e.is(forget), data: []byte(f.data),
		since: time.Unix(0, e.since), end: time.Unix(0, e.end),
	}
}

// entry is the inverse of tenureOf.
func (t tenure) entry() entry {
	e := entry{flags: used | held, since: t.since.UnixNano(), end: t.end.UnixNano()}
	if t.forget {
		e.flags |= forget
	}
	if t.foreign.IsValid() {
		e.flags |= foreign
	}
	e.blob = fields{owner: t.owner, session: t.session, node: t.node, foreign: t.foreign, data: string(t.data)}.blob()
	return e
}

// The methods below do nothing for a nil copy. state.mu is held.

func (c *localCopy) put(p *sharedPool, index uint32, t *tenure) {
	if c == nil {
		return
	}
	delete(c.found, indexOf{p, index})
	c.append(c.appendPut(nil, indexOf{p, index}, t))
}

func (c *localCopy) change(p *sharedPool, index uint32, before tenure, t *tenure) {
	if c == nil {
		return
	}
	same := before.session == t.session && before.node == t.node && before.forget == t.forget && before.foreign == t.foreign &&
		before.since.Equal(t.since) && (before.epoch == "") == (t.epoch == "") && bytes.Equal(before.data, t.data)
	switch {
	case !same:
		c.append(c.appendPut(nil, indexOf{p, index}, t))
	case !before.end.Equal(t.end):
		c.append(binary.BigEndian.AppendUint64(c.appendAt(nil, copyEnd, indexOf{p, index}), uint64(t.end.UnixNano())))
	}
}

func (c *localCopy) drop(p *sharedPool, index uint32) {
	if c == nil {
		return
	}
	delete(c.found, indexOf{p, index})
	c.append(c.appendAt(nil, copyDrop, indexOf{p, index}))
}

func (c *localCopy) appendPut(b []byte, at indexOf, t *tenure) []byte {
	op := byte(copyPut)
	if t.epoch == "" {
		op = copyRenewed
	}
	return appendEntry(c.appendAt(b, op, at), t.entry())
}

func (c *localCopy) appendAt(b []byte, op byte, at indexOf) []byte {
	b = binary.AppendUvarint(append(b, op), uint64(slices.Index(c.pools, at.pool)))
	return binary.AppendUvarint(b, uint64(at.index))
}

// append writes a record. A copy that lacks one is worse than none: it is taken away until it can be written anew.
func (c *localCopy) append(record []byte) {
	if c.broken.Load() {
		return
	}
	if err := c.journal.Append(record); err != nil {
		c.broken.Store(true)
		c.log.Error().Err(errors.Join(err, os.Remove(c.path))).
			Msg("what this server serves cannot be noted on disk: should it be restarted while Redis is away, it does not know its tunnels")
	}
}

// mend writes a copy anew that lacks something. state.mu is not held.
func (c *localCopy) mend() {
	if c == nil || !c.broken.Load() {
		return
	}
	c.broken.Store(false) // what changes from now on is appended, or breaks it again
	if err := c.journal.Compact(); err != nil {
		c.broken.Store(true)
		return
	}
	if !c.broken.Load() {
		c.log.Info().Msg("what this server serves is noted on disk again")
	}
}

// settle drops what Redis, all of whose leases have been read, does not know of this node any more. state.mu is not held.
func (c *localCopy) settle() {
	if c == nil {
		return
	}
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	for at := range c.found {
		c.append(c.appendAt(nil, copyDrop, at))
	}
	clear(c.found)
	if !c.whole {
		c.whole = true
		c.append([]byte{copyWhole})
	}
}

// snapshot implements journal.Options.Snapshot.
func (c *localCopy) snapshot(emit func([]byte) error) error {
	c.state.mu.Lock()
	all := slices.AppendSeq(slices.Collect(maps.Keys(c.state.leases)), maps.Keys(c.found))
	whole := c.whole
	c.state.mu.Unlock()
	record := c.header()
	for some := range slices.Chunk(all, perPage) {
		c.state.mu.Lock()
		for _, at := range some {
			t := c.state.leases[at]
			if t == nil {
				t = c.found[at]
			}
			if t != nil {
				record = c.appendPut(record, at, t)
			}
		}
		c.state.mu.Unlock()
		if err := emit(record); err != nil {
			return err
		}
		record = record[:0]
	}
	if whole {
		record = append(record, copyWhole)
	}
	if err := emit(record); err != nil {
		return err
	}
	c.state.mu.Lock() // until changes under way are appended
	defer c.state.mu.Unlock()
	return nil
}

func (c *localCopy) close() error {
	if c == nil {
		return nil
	}
	return c.journal.Close()
}
