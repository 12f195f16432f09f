// SPDX-License-Identifier: GPL-2.0-or-later

// Package journal is a file of records that outlives the process: appended, checksummed, and safe on disk when Append
// returns.
//
// It carries the leases of a single server (provision/lease), the accounts of aaa/local and, later, the accounting
// spool. It lies under aaa because arrows between rooms point down, from provision to aaa, and it knows neither.
//
// # Commits
//
// Callers of Append that come while the disk is busy share the next write and the next fdatasync: one frame, one
// checksum, all of its records or none. As long as there are several at a time, a fast disk is given one commit each two
// milliseconds, since a commit costs the processor more than many a caller's own work. A frame is written only when the one before it is known to be on disk. So a
// crash can lose or tear one frame at the most, the last, none of whose records was acknowledged; and a valid frame
// behind a damaged place proves that the damage is not the work of a crash.
//
// # Damage
//
// Open cuts a torn end of at most one frame and says so in its Report. Any other damage is a DamagedError: the file is
// left as it is, since what stood there had been acknowledged. Frames begin with a marker that is random for each file
// and enters their checksums, so that no record can contain the picture of a frame.
//
// # Compaction
//
// With Options.Snapshot the journal writes itself anew when it has doubled: the owner's present state first, while
// appenders go on, then what they appended meanwhile; at last, between two commits, the new file takes the old one's
// name. The snapshot need not be of one instant, if the owner keeps three rules. It changes its state before it appends
// the record of the change, and undoes that if Append fails. Its Snapshot begins and ends by waiting until the changes
// then under way are appended or undone. And its records say what is, not what is to be done ("the lease ends at 12:00",
// not "one hour more"), so that replaying one twice, or over a later state, ends in the same.
package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"
)

// MaxRecord bounds what one Append takes, in octets, all of its records together.
const MaxRecord = maxPayload / 2

// DefaultCompactSize is the size below which a journal does not compact by itself, if Options says nothing.
const DefaultCompactSize = 64 << 20

// Errors of a Journal, wrapped with the file.
var (
	ErrLocked   = errors.New("in use by another process")
	ErrClosed   = errors.New("journal closed")
	ErrTooLarge = errors.New("record too large")
	ErrKind     = errors.New("not a journal of the expected kind")
)

// Options of a Journal. Kind is needed.
type Options struct {
	// Kind names what the records are, with the version of their form, at most 32 octets. A file of another kind is
	// refused.
	Kind string
	// Snapshot hands records that make up the owner's whole state to emit, and stops at the first error of emit, returning
	// it. It runs beside appenders; the rules of the package comment hold. emit keeps nothing of the record it is given.
	// nil: the journal never compacts.
	Snapshot func(emit func(record []byte) error) error
	// CompactSize is the size of the file from which it may be compacted, in octets; 0: DefaultCompactSize.
	CompactSize int64
	// Fleeting: no call waits for the disk. What is appended outlives the process, not the host. After a crash of the host the
	// file may be damaged, or older than it was.
	Fleeting bool
	// Logger tells of compactions, which nobody waits for.
	Logger zerolog.Logger
	// Rand is where the file's marker comes from; nil: crypto/rand.
	Rand io.Reader
}

// Report is what Open found.
type Report struct {
	File    string
	Records int   // replayed
	Size    int64 // of the file in octets, after the cut
	Cut     int64 // octets of a torn end that were cut off; 0: none
}

// Warning says what the operator should know, "" if there is nothing.
func (r Report) Warning() string {
	if r.Cut == 0 {
		return ""
	}
	return fmt.Sprintf("journal %s: cut %d octets of a torn write at offset %d; nothing acknowledged was in them, unless the disk is failing",
		r.File, r.Cut, r.Size)
}

// Journal is an open journal. Its methods may be called by many goroutines at once.
type Journal struct {
	path string
	opts Options
	lock *os.File
	size atomic.Int64 // octets known to be on disk

	mu     sync.Mutex
	batch  *batch   // being filled
	full   []*batch // before it
	spare  []byte   // a frame's memory for the next batch
	closed bool

	kick    chan struct{} // there is something in batch
	crowded chan struct{} // a crowd waits for batch
	task    chan func()   // what the writer does between two commits
	quit    chan struct{} // closed by Close
	gone    sync.WaitGroup

	// The writer's own.
	file     file
	codec    codec
	dirty    bool         // the file may hold more than size octets, or not be what the folder says
	failures atomic.Int64 // commits that failed

	compacting sync.Mutex   // one compaction at a time
	compactAt  atomic.Int64 // size that starts the next one
	background atomic.Bool  // one was started by the writer
}

// Open opens the journal at path, making it and its folder if they are not there, and hands every record to replay in
// the order they were appended. A record is replay's only during the call. An error of replay ends Open.
//
// Errors: ErrLocked, ErrKind, a *DamagedError, those of replay and of the file system.
func Open(path string, opts Options, replay func(record []byte) error) (*Journal, Report, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, Report{}, fmt.Errorf("journal %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, Report{}, fmt.Errorf("journal: %w", err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, Report{}, fmt.Errorf("journal %s: %w", path, err)
	}
	j := &Journal{
		path: path, opts: opts, lock: lock, batch: newBatch(nil),
		kick: make(chan struct{}, 1), crowded: make(chan struct{}, 1), task: make(chan func()), quit: make(chan struct{}),
	}
	report, err := j.load(replay)
	if err != nil {
		if j.file != nil {
			_ = j.file.Close() // nothing was written
		}
		_ = lock.Close()
		return nil, Report{}, err
	}
	j.gone.Go(j.write)
	return j, report, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.Kind == "" || len(o.Kind) > kindSize {
		return o, fmt.Errorf("kind %q: 1 to %d octets expected", o.Kind, kindSize)
	}
	if o.CompactSize == 0 {
		o.CompactSize = DefaultCompactSize
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	return o, nil
}

// Append adds records, all of them or none, and returns when they are on disk. They are copied. After an error the
// journal is as it was before and may be appended to again: a full disk is no end.
//
// It cannot be given up half-way: whether a record is on disk is known only when the disk has answered.
func (j *Journal) Append(records ...[]byte) error {
	b, err := j.enqueue(records)
	if err != nil {
		return fmt.Errorf("journal %s: %w", j.path, err)
	}
	tell(j.kick)
	<-b.done
	return b.err
}

// tell leaves a signal in a channel of one slot.
func tell(signal chan<- struct{}) {
	select {
	case signal <- struct{}{}:
	default: // the writer has been told
	}
}

func (j *Journal) enqueue(records [][]byte) (*batch, error) {
	size := 0
	for _, r := range records {
		size += recordSize(r)
	}
	if size > MaxRecord {
		return nil, fmt.Errorf("%w: %d octets, %d is the most", ErrTooLarge, size, MaxRecord)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, ErrClosed
	}
	if len(j.batch.frame)+size > frameHeaderSize+maxPayload {
		j.full = append(j.full, j.batch)
		j.batch = newBatch(nil)
		tell(j.crowded)
	}
	for _, r := range records {
		j.batch.frame = appendRecord(j.batch.frame, r)
	}
	if j.batch.callers++; j.batch.callers == crowd {
		tell(j.crowded)
	}
	return j.batch, nil
}

// Size is the size of the file in octets.
func (j *Journal) Size() int64 { return j.size.Load() }

// Close waits for the appends under way, ends a compaction under way and lets go of the file. Appends after it give
// ErrClosed.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.mu.Unlock()
	close(j.quit)
	j.gone.Wait()
	return errors.Join(j.file.Close(), j.lock.Close())
}
