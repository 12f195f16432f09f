// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"iter"
	"math/bits"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// table is the map of tunnels in the memory of this process, and which of them are in force. In the map stand the inbound
// halves, the outbound ones, the ledgers, the tallies, and the Config by which they are to be read, so that one is never seen
// without the other.
type table struct {
	memory []byte
	layout layout
	in     []half
	out    []half
	ledger []ledger
	tally  []tally
	config []byte
	active slotSet
	staged slotSet // those that a Set is about to put in force; empty but for that time
}

// slotSet is a set of slots, one bit each.
type slotSet []uint64

func newSlotSet(size uint32) slotSet { return make(slotSet, (size+63)/64) }

func (s slotSet) has(slot uint32) bool { return s[slot/64]&(1<<(slot%64)) != 0 }

func (s slotSet) set(slot uint32, on bool) {
	if on {
		s[slot/64] |= 1 << (slot % 64)
	} else {
		s[slot/64] &^= 1 << (slot % 64)
	}
}

// configEntries is how much room the Config has in the map, 64 KiB.
const configEntries = 4096

// record is that of a slot.
func (t *table) record(slot uint32) record {
	at := slot << t.layout.spread
	return record{&t.in[at], &t.out[at], &t.ledger[slot], &t.tally[slot]}
}

// mapArray maps an mmapable array map.
func mapArray(m *ebpf.Map) ([]byte, error) {
	size := int(m.MaxEntries()) * int((m.ValueSize()+7)/8*8)
	page := os.Getpagesize()
	memory, err := unix.Mmap(m.FD(), 0, (size+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap %s: %w", m, err)
	}
	return memory, nil
}

// openTable maps a table and gives the Config by which it was filled. If that cannot be told there is no room for records in
// it, until arrange says otherwise.
func openTable(m *ebpf.Map) (*table, datapath.Config, error) {
	if m.MaxEntries() <= configEntries {
		return nil, datapath.Config{}, fmt.Errorf("%s: %d entries cannot be of this program", m, m.MaxEntries())
	}
	memory, err := mapArray(m)
	if err != nil {
		return nil, datapath.Config{}, err
	}
	end := int(m.MaxEntries()) * halfSize
	t := &table{memory: memory, config: memory[end-configEntries*halfSize : end]}
	k, ok := t.readConfig()
	l, err := layoutOf(k.Config, k.Spread)
	if !ok || err != nil || l.entries() != m.MaxEntries() {
		t.arrange(layout{})
		return t, datapath.Config{}, nil
	}
	t.arrange(l)
	return t, k.Config, nil
}

// arrange finds the records of a layout in the memory, and sees which are in force. One that a killed process left half in
// force is taken out.
func (t *table) arrange(l layout) {
	n := int(l.size) << l.spread
	second, third, fourth := t.memory[n*halfSize:], t.memory[2*n*halfSize:], t.memory[l.tallies()*halfSize:]
	t.layout = l
	t.in = unsafe.Slice((*half)(unsafe.Pointer(unsafe.SliceData(t.memory))), n)              // #nosec G103 -- the map's own layout
	t.out = unsafe.Slice((*half)(unsafe.Pointer(unsafe.SliceData(second))), n)               // #nosec G103 -- as above
	t.ledger = unsafe.Slice((*ledger)(unsafe.Pointer(unsafe.SliceData(third))), int(l.size)) // #nosec G103 -- as above
	t.tally = unsafe.Slice((*tally)(unsafe.Pointer(unsafe.SliceData(fourth))), int(l.size))  // #nosec G103 -- as above
	t.active, t.staged = newSlotSet(l.size), newSlotSet(l.size)
	for slot := range l.size {
		switch r := t.record(slot); {
		case r.key() != r.out.key&keyMask:
			r.clear()
		case r.inForce():
			t.active.set(slot, true)
		}
	}
}

func (t *table) close() error {
	memory := t.memory
	t.memory, t.in, t.out, t.ledger, t.tally, t.config = nil, nil, nil, nil, nil, nil
	return unix.Munmap(memory)
}

// slots yields the records in force from one on.
func (t *table) slots(from uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i := from / 64; i < uint32(len(t.active)); i++ {
			word := t.active[i]
			if i == from/64 {
				word &= ^uint64(0) << (from % 64)
			}
			for ; word != 0; word &= word - 1 {
				if !yield(i*64 + uint32(bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

// kept is what is kept of a Config: itself, and how the records are laid out.
type kept struct {
	Config datapath.Config
	Spread uint32
}

const configHeader = 8 // length, checksum

// readConfig gives the Config last kept, ok false if there is none that is whole.
func (t *table) readConfig() (k kept, ok bool) {
	length, sum := binary.LittleEndian.Uint32(t.config), binary.LittleEndian.Uint32(t.config[4:])
	text := t.config[configHeader:]
	if length == 0 || int(length) > len(text) || crc32.ChecksumIEEE(text[:length]) != sum {
		return k, false
	}
	return k, json.Unmarshal(text[:length], &k) == nil
}

// writeConfig keeps a Config for the next process.
func (t *table) writeConfig(config datapath.Config) error {
	text, err := json.Marshal(kept{config, t.layout.spread})
	if err != nil {
		return err
	}
	if len(text) > len(t.config)-configHeader {
		return fmt.Errorf("a configuration of %d octets: at most %d can be kept", len(text), len(t.config)-configHeader)
	}
	if old := t.config[configHeader:][:len(text)]; bytes.Equal(old, text) && binary.LittleEndian.Uint32(t.config) == uint32(len(text)) {
		return nil
	}
	binary.LittleEndian.PutUint32(t.config, 0)
	copy(t.config[configHeader:], text)
	binary.LittleEndian.PutUint32(t.config[4:], crc32.ChecksumIEEE(text))
	binary.LittleEndian.PutUint32(t.config, uint32(len(text)))
	return nil
}
