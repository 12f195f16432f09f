// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The layout of attributes, netlink(7).
const (
	attributeHeader = 4
	nested          = 1 << 15 // NLA_F_NESTED
	kindMask        = 1<<14 - 1
)

// message is a run of attributes that grows.
type message []byte

// add appends an attribute and pads it to four octets.
func (m *message) add(kind uint16, value ...byte) {
	*m = binary.NativeEndian.AppendUint16(*m, uint16(attributeHeader+len(value)))
	*m = binary.NativeEndian.AppendUint16(*m, kind)
	*m = append(*m, value...)
	for len(*m)%4 != 0 {
		*m = append(*m, 0)
	}
}

func (m *message) u32(kind uint16, value uint32) {
	m.add(kind, binary.NativeEndian.AppendUint32(nil, value)...)
}

func (m *message) u64(kind uint16, value uint64) {
	m.add(kind, binary.NativeEndian.AppendUint64(nil, value)...)
}

// be16 appends a port.
func (m *message) be16(kind, value uint16) { m.add(kind, byte(value>>8), byte(value)) }

// nest appends an attribute made of those that f appends.
func (m *message) nest(kind uint16, f func()) {
	begin := len(*m)
	m.add(kind | nested)
	f()
	binary.NativeEndian.PutUint16((*m)[begin:], uint16(len(*m)-begin))
}

// errTruncated: an attribute does not end where its message does.
var errTruncated = errors.New("attribute: truncated")

// walk calls f with each attribute of a message.
func walk(b []byte, f func(kind uint16, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < attributeHeader {
			return errTruncated
		}
		length, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])&kindMask
		if length < attributeHeader || length > len(b) {
			return errTruncated
		}
		if err := f(kind, b[attributeHeader:length]); err != nil {
			return err
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return nil
}

// sized complains about an attribute whose length is not the one it must have.
func sized(kind uint16, value []byte, length int) error {
	if len(value) != length {
		return fmt.Errorf("attribute %d: %d octets, %d expected", kind, len(value), length)
	}
	return nil
}
