// SPDX-License-Identifier: GPL-2.0-or-later

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The form of a file. Numbers are big-endian.
//
//	header   magic "ddtbjrnl", version u32, salt 8 octets, size u64 after the compaction that made the file,
//	         kind 32 octets padded with NUL, CRC32C of all that
//	frame    marker u32 (the first half of the salt), length u32 of the payload, CRC32C of salt, length and payload
//	payload  records, each with its length before it as a uvarint
const (
	magic           = "ddtbjrnl"
	version         = 1
	saltSize        = 8
	kindSize        = 32
	headerSize      = len(magic) + 4 + saltSize + 8 + kindSize + 4
	frameHeaderSize = 12
	maxPayload      = 1 << 20
)

var (
	errFrame  = errors.New("not a frame")
	errRecord = errors.New("malformed record length")
)

// codec writes and reads the frames of one file.
type codec struct {
	salt [saltSize]byte
	seed uint32 // CRC32C of salt
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// newCodec draws the salt of a new file.
func newCodec(random io.Reader) (codec, error) {
	var salt [saltSize]byte
	if _, err := io.ReadFull(random, salt[:]); err != nil {
		return codec{}, err
	}
	salt[0] |= 0x80 // a marker of zeros would be found in every hole
	return codecOf(salt), nil
}

func codecOf(salt [saltSize]byte) codec {
	return codec{salt: salt, seed: crc32.Checksum(salt[:], castagnoli())}
}

func (c codec) marker() []byte { return c.salt[:4] }

// header is the first headerSize octets of a file. base is its size after the compaction that made it, 0 for a new one.
func (c codec) header(kind string, base int64) []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, version)
	b = append(b, c.salt[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(base))
	b = append(b, kind...)
	b = append(b, make([]byte, kindSize-len(kind))...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

// parseHeader checks the beginning of a file. errFrame if it is damaged, ErrKind if it is something else.
func parseHeader(b []byte, kind string) (c codec, base int64, err error) {
	if !bytes.HasPrefix(b, []byte(magic)[:min(len(b), len(magic))]) {
		return c, 0, fmt.Errorf("%w: it does not begin with %q", ErrKind, magic)
	}
	if len(b) < headerSize || crc32.Checksum(b[:headerSize-4], castagnoli()) != binary.BigEndian.Uint32(b[headerSize-4:]) {
		return c, 0, errFrame
	}
	b = b[len(magic):]
	if v := binary.BigEndian.Uint32(b); v != version {
		return c, 0, fmt.Errorf("%w: format version %d, %d expected", ErrKind, v, version)
	}
	b = b[4:]
	c = codecOf([saltSize]byte(b[:saltSize]))
	b = b[saltSize:]
	base = int64(binary.BigEndian.Uint64(b))
	if k := string(bytes.TrimRight(b[8:8+kindSize], "\x00")); k != kind {
		return c, 0, fmt.Errorf("%w: it holds %q, %q expected", ErrKind, k, kind)
	}
	return c, base, nil
}

// seal fills in the header of a frame whose payload begins at frameHeaderSize.
func (c codec) seal(frame []byte) {
	copy(frame, c.marker())
	binary.BigEndian.PutUint32(frame[4:], uint32(len(frame)-frameHeaderSize))
	binary.BigEndian.PutUint32(frame[8:], c.checksum(frame[4:8], frame[frameHeaderSize:]))
}

func (c codec) checksum(length, payload []byte) uint32 {
	return crc32.Update(crc32.Update(c.seed, castagnoli(), length), castagnoli(), payload)
}

// payloadSize reads a frame header. errFrame if it is none, or its payload is longer than limit.
func (c codec) payloadSize(header []byte, limit int64) (int, error) {
	if !bytes.Equal(header[:4], c.marker()) {
		return 0, errFrame
	}
	n := binary.BigEndian.Uint32(header[4:])
	if n == 0 || n > maxPayload || int64(n) > limit {
		return 0, errFrame
	}
	return int(n), nil
}

// check verifies a payload against its frame header.
func (c codec) check(header, payload []byte) error {
	if c.checksum(header[4:8], payload) != binary.BigEndian.Uint32(header[8:]) {
		return errFrame
	}
	return nil
}

func recordSize(record []byte) int {
	n := 1
	for v := len(record); v >= 0x80; v >>= 7 {
		n++
	}
	return n + len(record)
}

func appendRecord(frame, record []byte) []byte {
	frame = binary.AppendUvarint(frame, uint64(len(record)))
	return append(frame, record...)
}

// records calls fn for every record of a payload, and returns how many there were.
func records(payload []byte, fn func(record []byte) error) (int, error) {
	count := 0
	for len(payload) > 0 {
		size, n := binary.Uvarint(payload)
		if n <= 0 || size > uint64(len(payload)-n) {
			return count, errRecord
		}
		payload = payload[n:]
		if err := fn(payload[:size:size]); err != nil {
			return count, err
		}
		count++
		payload = payload[size:]
	}
	return count, nil
}
