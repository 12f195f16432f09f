// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"time"
)

// entry is what is kept of one index. A million of them are the store's memory, so it is small: 40 octets and one string.
type entry struct {
	blob  string // see fields
	since int64  // when the session got it, nanoseconds since 1970; 0 unless held
	end   int64  // end of the lease if held, perhaps past, else when it ended; 0: never leased
	slot  uint32 // place in one of the pool's queues, counted from 1; 0: in none. Not part of the state.
	flags flags
}

type flags uint8

const (
	used    flags = 1 << iota // somebody has or had it; all else is zero without
	held                      // by a session, until end and beyond, as long as nobody else needs the index
	kept                      // reserved for the owner
	forget                    // the owner goes with the session
	foreign                   // the session holds a foreign prefix besides
)

func (e entry) is(f flags) bool { return e.flags&f != 0 }

// same tells whether two entries hold the same state.
func (e entry) same(o entry) bool {
	e.slot, o.slot = 0, 0
	return e == o
}

// ended is e after its session is gone at a time.
func (e entry) ended(at int64) entry {
	out := entry{end: at, flags: e.flags &^ (held | forget | foreign)}
	if !e.is(forget) || e.is(kept) {
		out.blob = ownerBlob(e.owner())
	}
	return out
}

// disowned is e without its owner, at a time; a session that holds it is gone.
func (e entry) disowned(at int64) entry {
	if !e.is(held) {
		at = e.end
	}
	return entry{end: at, flags: used}
}

// active tells whether a session holds e and its time is not over.
func (e entry) active(now time.Time) bool { return e.is(held) && e.end > now.UnixNano() }

// fields are what a blob holds: nothing, or the owner, or all of them.
//
//	length of owner, owner; if held: length of session, session, length of node, node, if foreign: prefix (17), data
//
// A session of lower-case hex digits is kept as the octets they stand for, with inHex in its length.
type fields struct {
	owner, session, node string
	foreign              netip.Prefix
	data                 string
}

const (
	prefixSize = 17   // 16 octets of address, one of length
	inHex      = 0x80 // beyond MaxSession
)

func (f fields) blob() string {
	var space [256]byte // enough for most, and not on the heap
	b := append(space[:0], byte(len(f.owner)))
	b = append(b, f.owner...)
	if isHex(f.session) {
		b = append(b, byte(hex.DecodedLen(len(f.session)))|inHex)
		b, _ = hex.AppendDecode(b, []byte(f.session))
	} else {
		b = append(b, byte(len(f.session)))
		b = append(b, f.session...)
	}
	b = append(b, byte(len(f.node)))
	b = append(b, f.node...)
	if f.foreign.IsValid() {
		a := f.foreign.Addr().As16()
		b = append(b, a[:]...)
		b = append(b, byte(f.foreign.Bits()))
	}
	b = append(b, f.data...)
	return string(b)
}

// isHex tells whether s is made of pairs of lower-case hex digits.
func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s)%2 == 0
}

func ownerBlob(owner string) string {
	if owner == "" {
		return ""
	}
	return string(append([]byte{byte(len(owner))}, owner...))
}

// owner is "" if there is none. The entry's blob is well-formed (validBlob).
func (e entry) owner() string {
	if e.blob == "" {
		return ""
	}
	return e.blob[1 : 1+int(e.blob[0])]
}

// fields takes the blob apart. The strings lie in it.
func (e entry) fields() fields {
	f, _ := e.parse()
	return f
}

// parse takes a blob apart that may be malformed, and tells whether it is not.
func (e entry) parse() (f fields, ok bool) {
	rest := e.blob
	if rest == "" {
		return f, !e.is(held)
	}
	cut := func(packed byte) (s string) {
		if !ok || rest == "" || len(rest) < 1+int(rest[0]&^packed) {
			ok = false
			return ""
		}
		n := int(rest[0] &^ packed)
		unpack := rest[0]&packed != 0
		s, rest = rest[1:1+n], rest[1+n:]
		if unpack {
			return hex.EncodeToString([]byte(s))
		}
		return s
	}
	ok = true
	f.owner = cut(0)
	if !e.is(held) {
		return f, ok && rest == "" && f.owner != ""
	}
	f.session = cut(inHex)
	f.node = cut(0)
	if e.is(foreign) && ok {
		if len(rest) < prefixSize {
			return f, false
		}
		f.foreign = netip.PrefixFrom(netip.AddrFrom16([16]byte([]byte(rest[:16]))), int(rest[16]))
		rest = rest[prefixSize:]
		ok = f.foreign.IsValid() && f.foreign.Masked() == f.foreign && f.foreign.Addr().Is6()
	}
	f.data = rest
	return f, ok && f.owner != "" && f.session != "" && len(f.session) <= MaxSession && len(f.data) <= MaxData
}

// valid tells whether an entry read from outside is one that the store writes.
func (e entry) valid() bool {
	if e.flags&^(used|held|kept|forget|foreign) != 0 || !e.is(used) {
		return false
	}
	if !e.is(held) && (e.is(forget) || e.is(foreign) || e.since != 0) {
		return false
	}
	f, ok := e.parse()
	return ok && (f.owner != "" || !e.is(kept))
}

// appendEntry writes an entry for the journal: flags, since, end, length of blob, blob.
func appendEntry(b []byte, e entry) []byte {
	b = append(b, byte(e.flags))
	b = binary.BigEndian.AppendUint64(b, uint64(e.since))
	b = binary.BigEndian.AppendUint64(b, uint64(e.end))
	b = binary.AppendUvarint(b, uint64(len(e.blob)))
	return append(b, e.blob...)
}
