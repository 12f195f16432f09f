// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func load(t *testing.T, records ...[]byte) (*table, error) {
	t.Helper()
	l := loader{opts: Options{}.withDefaults()}
	for _, r := range records {
		if err := l.record(r); err != nil {
			return l.table, err
		}
	}
	return l.table, nil
}

func sampleEntries() map[uint32]entry {
	f := fields{owner: "alice", session: "s1", node: "n", data: "data"}
	g := f
	g.foreign = netip.MustParsePrefix("2001:db8:f000::/48")
	return map[uint32]entry{
		1: {flags: used | held, blob: f.blob(), since: 5, end: 9},
		2: {flags: used | held | kept | forget | foreign, blob: fields{owner: "bob", session: "s", foreign: g.foreign}.blob(), since: 5, end: 9},
		3: {flags: used, blob: ownerBlob("carol"), end: 7},
		4: {flags: used, end: 7},
		5: {flags: used | kept, blob: ownerBlob("dora")},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	pools := testPools(100)
	from := newTable(pools, Options{})
	record := appendPools(nil, pools)
	for i, e := range sampleEntries() {
		record = appendPut(record, from.pools[0], i, e)
	}
	got, err := load(t, record)
	if err != nil {
		t.Fatal(err)
	}
	if !samePools(got, pools) {
		t.Errorf("pools %+v", got.pools)
	}
	for i, want := range sampleEntries() {
		if e := got.pools[0].get(i); !e.same(want) {
			t.Errorf("index %d: %+v, want %+v", i, e, want)
		}
	}
	if err := got.build(); err != nil {
		t.Error(err)
	}
	// Cut anywhere but between two operations it is refused.
	bounds := 0
	for i := range record {
		if _, err := load(t, record[:i]); err == nil {
			bounds++
		}
	}
	if bounds != 1+5 { // nothing at all, and before each of the five
		t.Errorf("%d places to cut, want 6", bounds)
	}
}

// Whatever a change is, writing it down and reading it gives the entry after it.
func TestRecordChange(t *testing.T) {
	pools := testPools(100)
	from := newTable(pools, Options{})
	entries := []entry{{}}
	for _, e := range sampleEntries() {
		later, over := e, e.ended(20)
		later.end = 30
		entries = append(entries, e, later, over)
	}
	short := 0
	for _, before := range entries {
		for _, after := range entries {
			if !after.is(used) {
				continue // only undone, never written
			}
			record := appendPools(nil, pools)
			if before.is(used) {
				record = appendPut(record, from.pools[0], 7, before)
			}
			n := len(record)
			record = appendChange(record, change{from.pools[0], 7, before, after})
			if len(record)-n == 11 {
				short++
			}
			got, err := load(t, record)
			if err != nil || !got.pools[0].get(7).same(after) {
				t.Errorf("%+v to %+v gives %+v, %v", before, after, got.pools[0].get(7), err)
			}
		}
	}
	if short == 0 {
		t.Error("no change was written shortly")
	}
}

func TestContradictions(t *testing.T) {
	pools := testPools(100)
	from := newTable(pools, Options{})
	held1 := func(owner, prefix string) entry {
		f := fields{owner: owner, session: "s", foreign: netip.MustParsePrefix(prefix)}
		return entry{flags: used | held | foreign, blob: f.blob(), since: 1, end: 2}
	}
	reserved := entry{flags: used | kept, blob: ownerBlob("a")}
	for name, pair := range map[string][2]entry{
		"one owner, two indices":      {{flags: used, blob: ownerBlob("a")}, {flags: used, blob: ownerBlob("a")}},
		"one owner, two reservations": {reserved, reserved},
		"one prefix, two owners":      {held1("a", "2001:db8:f000::/48"), held1("b", "2001:db8:f000::/48")},
		"prefix in a prefix":          {held1("a", "2001:db8:f000:5::/64"), held1("b", "2001:db8:f000::/48")},
		"prefix of a pool":            {held1("a", "2001:db8:4000::/48"), {}},
	} {
		record := appendPut(appendPools(nil, pools), from.pools[0], 5, pair[0])
		if pair[1].is(used) {
			record = appendPut(record, from.pools[0], 6, pair[1])
		}
		got, err := load(t, record)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := got.build(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// No record makes the loader fail, and what it takes can be written and read again.
func FuzzRecord(f *testing.F) {
	pools := testPools(100)
	from := newTable(pools, Options{})
	record := appendPools(nil, pools)
	for i, e := range sampleEntries() {
		f.Add(appendPut(slices.Clone(record), from.pools[0], i, e))
		f.Add(appendPut(nil, from.pools[1], i, e))
	}
	f.Add(binary.BigEndian.AppendUint64(appendIndex(nil, opExtend, from.pools[0], 1), 99))
	f.Add(binary.BigEndian.AppendUint64(appendIndex(nil, opRelease, from.pools[0], 2), 99))
	for _, i := range []uint32{1, 2, 3} {
		record = appendPut(record, from.pools[0], i, sampleEntries()[i])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := load(t, b); err == nil && got != nil {
			checkWritable(t, got)
		}
		if got, err := load(t, record, b); err == nil {
			checkWritable(t, got)
		}
	})
}

func checkWritable(t *testing.T, got *table) {
	t.Helper()
	var pools []Pool
	for _, p := range got.pools {
		pools = append(pools, p.Pool)
	}
	record := appendPools(nil, pools)
	for _, p := range got.pools {
		for i, e := range p.all() {
			record = appendPut(record, p, i, e)
		}
	}
	again, err := load(t, record)
	if err != nil || !samePools(again, pools) {
		t.Fatalf("written again it is not read: %v", err)
	}
	for n, p := range got.pools {
		for i, e := range p.all() {
			if a := again.pools[n].get(i); !a.same(e) {
				t.Errorf("%+v became %+v", e, a)
			}
		}
	}
	if got.build() == nil {
		_ = got.usage()
	}
}

func TestOwners(t *testing.T) {
	o := newOwners()
	model := make(map[uint32]uint32) // index to hash
	r := rand.New(rand.NewPCG(1, 2))
	for step := range 20_000 {
		index := 1 + r.Uint32N(500)
		if hash, ok := model[index]; ok {
			o.remove(hash, index)
			delete(model, index)
		} else {
			hash := r.Uint32N(64) * 0x1000001 // many of the same, and many with the same low bits
			o.add(hash, index)
			model[index] = hash
		}
		if step%100 != 0 {
			continue
		}
		got := make(map[uint32]uint32)
		for h := range uint32(64) {
			o.each(h*0x1000001, func(i uint32) { got[i] = h * 0x1000001 })
		}
		if diff := cmp.Diff(model, got); diff != "" || o.count != len(model) {
			t.Fatalf("step %d: count %d of %d; %s", step, o.count, len(model), diff)
		}
	}
}

func TestPrefixSet(t *testing.T) {
	p := newTable(testPools(10), Options{}).pools[0]
	var s prefixSet
	model := make(map[netip.Prefix]uint32)
	r := rand.New(rand.NewPCG(3, 4))
	randomPrefix := func() netip.Prefix {
		a := [16]byte{0x20, 0x01, byte(r.Uint32N(64)), byte(r.Uint32N(256)), byte(r.Uint32N(4)), 0, byte(r.Uint32N(2))}
		return netip.PrefixFrom(netip.AddrFrom16(a), []int{20, 32, 40, 48, 56, 64}[r.Uint32N(6)]).Masked()
	}
	largest := 0
	for step := range 6000 {
		prefix := randomPrefix()
		var want []uint32
		for q, i := range model {
			if q.Overlaps(prefix) {
				want = append(want, i)
			}
		}
		var got []uint32
		for _, h := range s.overlapping(prefix) {
			got = append(got, h.index)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Fatalf("step %d: %v overlaps %v, want %v", step, prefix, got, want)
		}
		switch _, ok := model[prefix]; {
		case ok && r.Uint32N(3) == 0:
			s.remove(prefix)
			delete(model, prefix)
		case len(want) == 0 && prefix.Bits() > 32:
			s.add(prefix, p, uint32(step))
			model[prefix] = uint32(step)
		}
		largest = max(largest, len(s.chunks))
	}
	if largest < 3 {
		t.Errorf("%d chunks at most: nothing was split", largest)
	}
	for prefix := range model {
		s.remove(prefix)
	}
	if len(s.chunks) != 0 {
		t.Errorf("empty, and %d chunks are left", len(s.chunks))
	}
}

func TestQueue(t *testing.T) {
	table := newTable(testPools(2000), Options{})
	p := table.pools[0]
	r := rand.New(rand.NewPCG(5, 6))
	for step := range 20_000 {
		i := 1 + r.Uint32N(300)
		e := entry{flags: used, end: int64(r.Uint32N(1000))}
		if r.Uint32N(4) == 0 {
			e = entry{}
		}
		table.replace(p, i, e)
		if step%50 != 0 {
			continue
		}
		first, least := p.idle.first(), int64(1<<62)
		n := 0
		for i := range uint32(301) {
			if e := p.get(i); e.is(used) {
				least = min(least, e.end)
				n++
			}
		}
		if n != len(p.idle.items) || n > 0 && p.get(first).end != least {
			t.Fatalf("step %d: %d in the queue of %d, first ends at %d, want %d", step, len(p.idle.items), n, p.get(first).end, least)
		}
	}
}

func ExamplePool() {
	p := Pool{
		Name: "home", First: 1000, Size: 1 << 16, EndpointBase: netip.MustParseAddr("2001:db8:8000::"),
		PrefixBase: netip.MustParseAddr("2001:db8:4000::"), PrefixLen: 56,
	}
	fmt.Println(p.ID(5), p.Endpoint(5), p.Prefix(5))
	fmt.Println(p.Index(netip.MustParseAddr("2001:db8:4000:5ff::1")))
	// Output:
	// 1005 2001:db8:8000::5 2001:db8:4000:500::/56
	// 5 true
}
