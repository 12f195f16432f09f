// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/aaa/journal"
)

// journalFile is the journal's name in the folder given to Open.
const journalFile = "accounts.journal"

// Options of a Store. Only Realm is needed.
type Options struct {
	Realm  string           // of DIGEST-MD5; part of every HA1
	Clock  func() time.Time // nil: time.Now
	Logger zerolog.Logger   // tells of a cut journal tail, of compactions, and of accounts of another realm
	Rand   io.Reader        // of salts and keys; nil: crypto/rand

	NoDigest bool // DIGEST-MD5 is not offered, and no HA1 made, whatever the accounts allow
	Cram     bool // CRAM-MD5 is offered, and its key made for the accounts that want it
	Chained  bool // another backend follows: a name unknown here is passed on at once, at no cost

	Argon2   Params // of new passwords; zero: 19 MiB, 2 passes, 1 thread
	Parallel int    // argon2id hashes computed at a time, each with Argon2.Memory; 0: one a processor
	Limits   Limits
}

// Store holds the accounts. Its methods may be called by many goroutines at once; those that change something return
// when the change is on disk.
type Store struct {
	opts    Options
	journal *journal.Journal
	hasher  *hasher
	cache   *cache
	guard   *guard
	decoy   record          // stands in for accounts that are not there
	offers  []aaa.Mechanism // not to be changed
	wait    func(context.Context, time.Duration) error

	seed     maphash.Seed
	shards   [256]shard
	count    atomic.Int64
	changing sync.RWMutex // held for reading from a change to a shard until it is on disk or undone
}

// shard is a part of the accounts.
type shard struct {
	change   sync.Mutex // held by who changes one of them, until it is on disk
	mu       sync.RWMutex
	accounts map[string]string // encoded records by name; the name lies in the record
}

// Open reads the accounts kept in dir, which is made if it is not there. Only one process may have a folder open.
//
// Accounts whose HA1 was made for another realm can log in with PLAIN; their HA1 comes anew with the next password.
func Open(dir string, opts Options) (*Store, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	s := &Store{
		opts: opts, offers: opts.mechanisms(), guard: newGuard(opts.Limits, opts.Clock), wait: sleep, seed: maphash.MakeSeed(),
		hasher: &hasher{params: opts.Argon2, random: opts.Rand, slots: make(chan struct{}, opts.Parallel)},
	}
	for i := range s.shards {
		s.shards[i].accounts = make(map[string]string)
	}
	if s.cache, err = newCache(opts.Rand); err == nil {
		s.decoy, err = s.newDecoy()
	}
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	strangers := 0
	j, report, err := journal.Open(filepath.Join(dir, journalFile), journal.Options{
		Kind: journalKind, Snapshot: s.snapshot, Logger: opts.Logger,
	}, func(r []byte) error { return s.replay(r, &strangers) })
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	s.journal = j
	if w := report.Warning(); w != "" {
		opts.Logger.Warn().Msg(w)
	}
	if strangers > 0 {
		opts.Logger.Warn().Str("realm", opts.Realm).Int("accounts", strangers).
			Msg("accounts have digest hashes of another realm: DIGEST-MD5 fails for them until their passwords are set again")
	}
	return s, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.Realm == "" {
		return o, errors.New("a realm is needed")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Argon2 == (Params{}) {
		o.Argon2 = defaultParams()
	}
	if o.Parallel == 0 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	return o, o.Argon2.validate()
}

// newDecoy makes an account that no credential fits and that costs to verify what any other does.
func (s *Store) newDecoy() (record, error) {
	r := record{realm: s.opts.Realm, has: hasHA1 | hasCram}
	var err error
	if r.argon2, err = s.hasher.decoy(); err != nil {
		return r, err
	}
	for _, b := range [][]byte{r.ha1[:], r.cram.Inner[:], r.cram.Outer[:]} {
		if _, err := io.ReadFull(s.opts.Rand, b); err != nil {
			return r, err
		}
	}
	return r, nil
}

// replay takes a record of the journal. strangers counts accounts of another realm, as they come and go.
func (s *Store) replay(b []byte, strangers *int) error {
	if len(b) == 0 || b[0] != opPut && b[0] != opDelete {
		return errMalformed
	}
	name := string(b[1:])
	encoded := ""
	if b[0] == opPut {
		encoded = name
		r, err := decode(encoded)
		if err != nil {
			return err
		}
		name = r.Name
		if s.stranger(r) {
			*strangers++
		}
	}
	if old, err := decode(s.swap(s.shard(name), name, encoded)); err == nil && s.stranger(old) {
		*strangers--
	}
	return nil
}

func (s *Store) stranger(r record) bool { return r.is(hasHA1) && r.realm != s.opts.Realm }

// snapshot implements journal.Options.Snapshot.
func (s *Store) snapshot(emit func([]byte) error) error {
	s.settle()
	var encoded []string
	for i := range s.shards {
		shard := &s.shards[i]
		encoded = encoded[:0]
		shard.mu.RLock()
		for _, e := range shard.accounts {
			encoded = append(encoded, e)
		}
		shard.mu.RUnlock()
		for _, e := range encoded {
			if err := emit(append([]byte{opPut}, e...)); err != nil {
				return err
			}
		}
	}
	s.settle()
	return nil
}

// settle waits until the changes under way are on disk or undone.
func (s *Store) settle() {
	s.changing.Lock()
	defer s.changing.Unlock()
}

// Close ends the store. Changes after it fail; logins are still verified.
func (s *Store) Close() error { return s.journal.Close() }

func (s *Store) shard(name string) *shard {
	return &s.shards[maphash.String(s.seed, name)%uint64(len(s.shards))]
}

// lookup returns an account with its secrets.
func (s *Store) lookup(name string) (record, bool) {
	shard := s.shard(name)
	shard.mu.RLock()
	encoded, ok := shard.accounts[name]
	shard.mu.RUnlock()
	if !ok {
		return record{}, false
	}
	r, err := decode(encoded)
	if err != nil {
		panic("local: an account cannot be read that was written or checked here: " + err.Error())
	}
	return r, true
}

// swap puts an encoded record in place of another, "" for none, and returns that.
func (s *Store) swap(shard *shard, name, encoded string) (old string) {
	shard.mu.Lock()
	defer shard.mu.Unlock()
	old = shard.accounts[name]
	delete(shard.accounts, name) // the key lies in the old record, which it would keep alive
	if encoded != "" {
		at := 1
		for encoded[at-1] >= 0x80 {
			at++
		}
		shard.accounts[encoded[at:at+len(name)]] = encoded
	}
	switch {
	case old == "" && encoded != "":
		s.count.Add(1)
	case old != "" && encoded == "":
		s.count.Add(-1)
	}
	return old
}

// sleep waits for a time or for ctx's end, which is its error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", aaa.ErrUnavailable, ctx.Err())
	}
}
