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

// configLines are at the end of the map, out of every program's reach: they hold the Config by which the others are to be
// read, so that one is never seen without the other.
const configLines = 1024

// table is the map of tunnels in the memory of this process, and which of them are in force.
type table struct {
	memory []byte
	in     []inbound
	out    []outbound
	config []byte   // of the configLines
	active []uint64 // one bit a slot
	count  int
}

// record is that of a slot.
func (t *table) record(slot uint32) record { return record{&t.in[slot], &t.out[slot]} }

// size is the number of slots.
func (t *table) size() uint32 { return uint32(len(t.in)) }

// lines is how many lines a map for so many slots has.
func lines(size uint32) uint32 { return 2*size + configLines }

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

// openTable maps the records and sees which are in force. One that a killed process left half in force is taken out.
func openTable(m *ebpf.Map) (*table, error) {
	if m.MaxEntries() <= configLines || m.MaxEntries()%2 != 0 {
		return nil, fmt.Errorf("%s: %d lines cannot be of this program", m, m.MaxEntries())
	}
	memory, err := mapArray(m)
	if err != nil {
		return nil, err
	}
	n := int(m.MaxEntries()-configLines) / 2
	second, config := memory[n*lineSize:], memory[n*recordSize:]
	t := &table{
		memory: memory,
		in:     unsafe.Slice((*inbound)(unsafe.Pointer(unsafe.SliceData(memory))), n),  // #nosec G103 -- the map's own layout
		out:    unsafe.Slice((*outbound)(unsafe.Pointer(unsafe.SliceData(second))), n), // #nosec G103 -- as above
		config: config[:configLines*lineSize],
		active: make([]uint64, (n+63)/64),
	}
	for slot := range uint32(n) {
		switch r := t.record(slot); {
		case r.in.key != r.out.key:
			r.clear()
		case r.in.key != 0:
			t.mark(slot, true)
		}
	}
	return t, nil
}

func (t *table) close() error {
	memory := t.memory
	t.memory, t.in, t.out, t.config = nil, nil, nil, nil
	return unix.Munmap(memory)
}

// mark notes whether a record is in force.
func (t *table) mark(slot uint32, active bool) {
	word, bit := &t.active[slot/64], uint64(1)<<(slot%64)
	switch was := *word&bit != 0; {
	case active && !was:
		*word |= bit
		t.count++
	case !active && was:
		*word &^= bit
		t.count--
	}
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

// readConfig gives the Config last kept, ok false if there is none that is whole.
func (t *table) readConfig() (config datapath.Config, ok bool) {
	length, sum := binary.LittleEndian.Uint32(t.config), binary.LittleEndian.Uint32(t.config[4:])
	text := t.config[configHeader:]
	if length == 0 || int(length) > len(text) || crc32.ChecksumIEEE(text[:length]) != sum {
		return config, false
	}
	return config, json.Unmarshal(text[:length], &config) == nil
}

const configHeader = 8 // length, checksum

// writeConfig keeps a Config for the next process.
func (t *table) writeConfig(config datapath.Config) error {
	text, err := json.Marshal(config)
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
