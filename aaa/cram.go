// SPDX-License-Identifier: GPL-2.0-or-later

package aaa

import (
	"crypto/md5" //nolint:gosec // RFC 2195 is made of it
	"crypto/subtle"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// CramKey is what a server needs to verify CRAM-MD5 without the password: the MD5 chaining values after the key blocks of
// HMAC (RFC 2195 section 2, RFC 2104 section 4). Who has it can log in: it is kept as secret as a password.
type CramKey struct {
	Inner, Outer [md5.Size]byte
}

// String names the key, never what it is.
func (CramKey) String() string { return "CramKey" }

// Format keeps every verb from printing the secret.
func (k CramKey) Format(f fmt.State, _ rune) { show(f, k) }

// MarshalText keeps the secret out of JSON.
func (k CramKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// NewCramKey derives the key from a password.
func NewCramKey(password string) CramKey {
	key := []byte(password)
	if len(key) > md5.BlockSize {
		sum := md5.Sum(key) //nolint:gosec // RFC 2104
		key = sum[:]
	}
	return CramKey{Inner: chainingValue(key, 0x36), Outer: chainingValue(key, 0x5c)}
}

// Verify tells whether the response was made with the password behind k, in constant time.
func (c Cram) Verify(k CramKey) bool {
	given, err := hex.DecodeString(c.Response)
	want := k.mac(c.Challenge)
	return err == nil && subtle.ConstantTimeCompare(given, want) == 1
}

// Respond makes the response a client would send, 32 hex digits; c.Response is not looked at.
func (c Cram) Respond(k CramKey) string { return hex.EncodeToString(k.mac(c.Challenge)) }

func (k CramKey) mac(challenge string) []byte {
	inner := continueMD5(k.Inner, []byte(challenge))
	return continueMD5(k.Outer, inner)
}

// The form crypto/md5 gives its state: a magic, four words, the block under way, the octets so far.
const (
	md5Magic     = "md5\x01"
	md5StateSize = len(md5Magic) + md5.Size + md5.BlockSize + 8
)

// chainingValue is MD5's state after one block of the padded key.
func chainingValue(key []byte, pad byte) (out [md5.Size]byte) {
	var block [md5.BlockSize]byte
	copy(block[:], key)
	for i := range block {
		block[i] ^= pad
	}
	h := md5.New() //nolint:gosec // RFC 2195
	h.Write(block[:])
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil || len(state) != md5StateSize {
		panic("crypto/md5 gives its state in a form not known here")
	}
	copy(out[:], state[len(md5Magic):])
	return out
}

// continueMD5 is the MD5 of a block with the given chaining value, followed by rest.
func continueMD5(value [md5.Size]byte, rest []byte) []byte {
	state := make([]byte, 0, md5StateSize)
	state = append(state, md5Magic...)
	state = append(state, value[:]...)
	state = append(state, make([]byte, md5.BlockSize)...)
	state = binary.BigEndian.AppendUint64(state, md5.BlockSize)
	h := md5.New() //nolint:gosec // RFC 2195
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		panic("crypto/md5 takes its state in a form not known here: " + err.Error())
	}
	h.Write(rest)
	return h.Sum(nil)
}
