// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"

	"ddtb/aaa"
)

// Params are the parameters of argon2id, by the letters of RFC 9106 section 3.1.
type Params struct {
	Memory  uint32 // m, KiB
	Time    uint32 // t, passes
	Threads uint8  // p, lanes
}

// defaultParams are less than the 64 MiB and 3 passes that RFC 9106 section 4 recommends where memory is short: those
// cost a tenth of a second of processor time a login, and a login storm is what this server has to live through. A store
// takes any Params; a hash keeps the ones it was made with.
func defaultParams() Params { return Params{Memory: 19 * 1024, Time: 2, Threads: 1} }

const (
	saltSize = 16
	hashSize = 32
	// maxWaiting bounds who waits for argon2id; the next one is told that the server is busy.
	maxWaiting = 4096
)

var errHash = errors.New("malformed argon2id hash")

// argon2Hash is a hash with all that it takes to make it again.
type argon2Hash struct {
	Params
	salt, hash []byte
}

// String writes the hash in PHC string format.
func (h argon2Hash) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.Memory, h.Time, h.Threads, b64(h.salt), b64(h.hash))
}

// parseArgon2 reads a PHC string, of parameters that one login may cost.
func parseArgon2(s string) (h argon2Hash, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return h, errHash
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return h, errHash
	}
	var values [3]uint64
	for i, name := range []string{"m=", "t=", "p="} {
		number, ok := strings.CutPrefix(costs[i], name)
		values[i], err = strconv.ParseUint(number, 10, 31)
		if !ok || err != nil {
			return h, errHash
		}
	}
	h.Memory, h.Time, h.Threads = uint32(values[0]), uint32(values[1]), uint8(min(values[2], 255))
	strict := base64.RawStdEncoding.Strict()
	var saltErr, hashErr error
	h.salt, saltErr = strict.DecodeString(parts[4])
	h.hash, hashErr = strict.DecodeString(parts[5])
	if saltErr != nil || hashErr != nil || h.Params.validate() != nil || len(h.salt) < 8 || len(h.hash) < 16 || len(h.salt) > 64 || len(h.hash) > 64 {
		return argon2Hash{}, errHash
	}
	return h, nil
}

func (p Params) validate() error {
	switch {
	case p.Memory < 8*uint32(p.Threads) || p.Memory > 4<<20:
		return fmt.Errorf("argon2id memory of %d KiB: 8 a thread to 4 GiB expected", p.Memory)
	case p.Time < 1 || p.Time > 100:
		return fmt.Errorf("argon2id time of %d: 1 to 100 passes expected", p.Time)
	case p.Threads < 1:
		return errors.New("argon2id threads of 0: 1 or more expected")
	}
	return nil
}

// hasher computes argon2id, so many at a time as memory was set aside for.
type hasher struct {
	params  Params
	random  io.Reader
	slots   chan struct{}
	waiting atomic.Int64
}

// enter waits for a slot. leave gives it back.
func (h *hasher) enter(ctx context.Context) error {
	if h.waiting.Add(1) > maxWaiting {
		h.waiting.Add(-1)
		return fmt.Errorf("%d passwords wait to be verified: %w", maxWaiting, aaa.ErrUnavailable)
	}
	defer h.waiting.Add(-1)
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting to verify a password: %w: %w", aaa.ErrUnavailable, ctx.Err())
	}
}

func (h *hasher) leave() { <-h.slots }

// hash makes a hash of a new password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	out := argon2Hash{Params: h.params, salt: make([]byte, saltSize)}
	if _, err := io.ReadFull(h.random, out.salt); err != nil {
		return "", err
	}
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	out.hash = argon2.IDKey([]byte(password), out.salt, out.Time, out.Memory, out.Threads, hashSize)
	return out.String(), nil
}

// verify compares a password with a hash.
func (h *hasher) verify(ctx context.Context, password, hash string) (bool, error) {
	want, err := parseArgon2(hash)
	if err != nil {
		return false, err
	}
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer h.leave()
	got := argon2.IDKey([]byte(password), want.salt, want.Time, want.Memory, want.Threads, uint32(len(want.hash)))
	return subtle.ConstantTimeCompare(got, want.hash) == 1, nil
}

// decoy is a hash that no password has, and that costs to verify what a new one does.
func (h *hasher) decoy() (string, error) {
	out := argon2Hash{Params: h.params, salt: make([]byte, saltSize), hash: make([]byte, hashSize)}
	for _, b := range [][]byte{out.salt, out.hash} {
		if _, err := io.ReadFull(h.random, b); err != nil {
			return "", err
		}
	}
	return out.String(), nil
}
