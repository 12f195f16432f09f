// SPDX-License-Identifier: GPL-2.0-or-later

package local

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"ddtb/aaa"
)

// journalKind names the form of the records below.
const journalKind = "ddtb accounts 1"

// A record of the journal is an operation and what it is about.
const (
	opPut    = 1 // an account, encoded
	opDelete = 2 // a name
)

var errMalformed = errors.New("malformed account record")

// record is an account with its secrets.
type record struct {
	Account
	argon2 string // argon2id in PHC string format
	realm  string // of ha1 and raw
	ha1    aaa.HA1
	raw    aaa.HA1 // of what a client makes that hashes UTF-8 as it is
	cram   aaa.CramKey
	has    has
}

// has says which of the record's parts there are.
type has uint8

const (
	hasHA1 has = 1 << iota
	hasRaw
	hasCram
)

func (r record) is(h has) bool { return r.has&h != 0 }

// Bits of the first octet of an encoded record.
const (
	bitDisabled = 1 << iota
	bitNoDigest
	bitCram
	bitNoPrefix
)

// encode writes a record: name, bits, has, created, password set, argon2id; realm and hashes as far as there are; pool,
// endpoint, prefix, session limit, timeouts, expiry, note. Strings have their length before them, numbers are uvarints,
// times seconds since 1970.
func (r record) encode() string {
	b := make([]byte, 0, 256)
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	number := func(n int64) { b = binary.AppendUvarint(b, uint64(n)) }
	text(r.Name)
	b = append(b, r.bits(), byte(r.has))
	number(seconds(r.Created))
	number(seconds(r.PasswordSet))
	text(r.argon2)
	if r.is(hasHA1) {
		text(r.realm)
		b = append(b, r.ha1[:]...)
	}
	if r.is(hasRaw) {
		b = append(b, r.raw[:]...)
	}
	if r.is(hasCram) {
		b = append(b, r.cram.Inner[:]...)
		b = append(b, r.cram.Outer[:]...)
	}
	text(r.Pool)
	text(packAddr(r.Endpoint))
	text(packPrefix(r.Prefix))
	number(int64(r.SessionLimit))
	number(int64(r.SessionTimeout / time.Second))
	number(int64(r.IdleTimeout / time.Second))
	number(seconds(r.Expires))
	text(r.Note)
	return string(b)
}

func (r record) bits() (bits byte) {
	set := func(on bool, bit byte) {
		if on {
			bits |= bit
		}
	}
	set(r.Disabled, bitDisabled)
	set(r.NoDigest, bitNoDigest)
	set(r.Account.Cram, bitCram)
	set(r.NoPrefix, bitNoPrefix)
	return bits
}

// decode reads what encode wrote, and nothing else.
func decode(s string) (record, error) {
	d := decoder{rest: s}
	var r record
	r.Name = d.text()
	bits := d.octet()
	d.bad = d.bad || bits >= 1<<4
	r.Disabled, r.NoDigest = bits&bitDisabled != 0, bits&bitNoDigest != 0
	r.Account.Cram, r.NoPrefix = bits&bitCram != 0, bits&bitNoPrefix != 0
	r.has = has(d.octet())
	r.Created, r.PasswordSet = d.time(), d.time()
	r.argon2 = d.text()
	if r.is(hasHA1) {
		r.realm = d.text()
		copy(r.ha1[:], d.take(len(r.ha1)))
	}
	if r.is(hasRaw) {
		copy(r.raw[:], d.take(len(r.raw)))
	}
	if r.is(hasCram) {
		copy(r.cram.Inner[:], d.take(len(r.cram.Inner)))
		copy(r.cram.Outer[:], d.take(len(r.cram.Outer)))
	}
	r.Pool = d.text()
	r.Endpoint, r.Prefix = d.addr(), d.prefix()
	r.SessionLimit = int(d.number(1<<31 - 1))
	r.SessionTimeout = time.Duration(d.number(maxSeconds)) * time.Second
	r.IdleTimeout = time.Duration(d.number(maxSeconds)) * time.Second
	r.Expires = d.time()
	r.Note = d.text()
	if d.bad || d.rest != "" || r.has&^(hasHA1|hasRaw|hasCram) != 0 || r.validate() != nil {
		return record{}, errMalformed
	}
	r.Mechanisms = r.mechanisms()
	return r, nil
}

// mechanisms are those the hashes serve, strongest first.
func (r record) mechanisms() []aaa.Mechanism {
	var out []aaa.Mechanism
	if r.is(hasHA1) {
		out = append(out, aaa.MechanismDigestMD5)
	}
	if r.is(hasCram) {
		out = append(out, aaa.MechanismCramMD5)
	}
	return append(out, aaa.MechanismPlain)
}

// maxSeconds is what a time.Duration can hold.
const maxSeconds = int64(^uint64(0)>>1) / int64(time.Second)

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func packAddr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	b := a.As16()
	return string(b[:])
}

func packPrefix(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return packAddr(p.Addr()) + string([]byte{byte(p.Bits())})
}

// decoder reads a record. After something malformed all it gives is zero, and bad is set.
type decoder struct {
	rest string
	bad  bool
}

func (d *decoder) take(n int) string {
	if d.bad || n > len(d.rest) {
		d.bad = true
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) octet() byte {
	if s := d.take(1); s != "" {
		return s[0]
	}
	return 0
}

func (d *decoder) number(most int64) int64 {
	var v uint64
	for shift := 0; ; shift += 7 {
		b := d.octet()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			// One form for each number only.
			if d.bad || shift > 0 && b == 0 || v > uint64(most) {
				d.bad = true
				return 0
			}
			return int64(v)
		}
		if shift == 56 {
			d.bad = true
			return 0
		}
	}
}

func (d *decoder) text() string { return d.take(int(d.number(1 << 20))) }

func (d *decoder) time() time.Time {
	if n := d.number(1 << 40); n != 0 {
		return time.Unix(n, 0).UTC()
	}
	return time.Time{}
}

func (d *decoder) addr() netip.Addr {
	s := d.text()
	if len(s) != 16 {
		d.bad = d.bad || s != ""
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte([]byte(s)))
}

func (d *decoder) prefix() netip.Prefix {
	s := d.text()
	if len(s) != 17 {
		d.bad = d.bad || s != ""
		return netip.Prefix{}
	}
	p := netip.PrefixFrom(netip.AddrFrom16([16]byte([]byte(s[:16]))), int(s[16]))
	d.bad = d.bad || !p.IsValid()
	return p
}
