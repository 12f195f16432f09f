// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Sizes on the wire, in octets.
const (
	headerLen = 8 // of the UDP header, RFC 5572 section 4.4.1.2
	// maxDatagram is the TSP data in one datagram: what clients have room for. A longer reply is split; the client polls for the
	// rest.
	maxDatagram = 4096
	// maxLine bounds VERSION, AUTHENTICATE and SASL lines. A DIGEST-MD5 response with every name at its longest stays below it.
	maxLine = 2048
	// maxBody bounds what a Content-length may announce to the server. Requests of clients in the field stay below 1000.
	maxBody = 4096
	// maxMessage is the most a server reads of one message.
	maxMessage = maxLengthLine + maxBody
	// maxReply bounds it for the client: a list of 50 brokers fits.
	maxReply = 16384
)

const (
	sequenceMask = 1<<28 - 1
	nibbleTSP    = 0xf
	nibbleIPv6   = 6
)

// header is what stands before the TSP data of a datagram. The server returns it unaltered.
type header struct {
	sequence  uint32 // 28 bits, grows by one with each new message of a client
	timestamp uint32 // the client's clock, milliseconds
}

// parseHeader splits a datagram; false if it is not TSP.
func parseHeader(b []byte) (h header, data []byte, ok bool) {
	if len(b) < headerLen || b[0]>>4 != nibbleTSP {
		return header{}, nil, false
	}
	h.sequence = binary.BigEndian.Uint32(b) & sequenceMask
	h.timestamp = binary.BigEndian.Uint32(b[4:])
	return h, b[headerLen:], true
}

// append writes the header behind b.
func (h header) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, nibbleTSP<<28|h.sequence&sequenceMask)
	return binary.BigEndian.AppendUint32(b, h.timestamp)
}

// older tells whether sequence a came before b, on the circle of 28 bits.
func older(a, b uint32) bool { return (b-a)&sequenceMask-1 < sequenceMask/2 }

// Framing errors. errShort: more octets are needed.
var (
	errShort = errors.New("message is shorter than its Content-length")
	errFrame = errors.New("no Content-length line")
)

const contentLength = "Content-length"

// parseFrame reads a command-phase message, "Content-length: N" CR LF and N octets (RFC 5572 section 4.4.3); rest is what
// follows them. N is at most limit. NUL octets and blanks before it are skipped: the line before may have ended in them.
func parseFrame(b []byte, limit int) (body, rest []byte, err error) {
	b = bytes.TrimLeft(b, "\x00\b\r\n \t")
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) > maxLengthLine {
			return nil, nil, errFrame
		}
		return nil, nil, errShort
	}
	n, err := parseLength(b[:end], limit)
	if err != nil {
		return nil, nil, err
	}
	if b = b[end+1:]; len(b) < n {
		return nil, nil, errShort
	}
	return b[:n], b[n:], nil
}

// maxLengthLine bounds the Content-length line.
const maxLengthLine = 64

// parseLength reads the N of a Content-length line.
func parseLength(line []byte, limit int) (int, error) {
	name, value, found := bytes.Cut(line, []byte{':'})
	if !found || len(line) > maxLengthLine || !bytes.EqualFold(bytes.TrimSpace(name), []byte(contentLength)) {
		return 0, errFrame
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%w: bad number", errFrame)
	}
	if n > uint64(limit) {
		return 0, fmt.Errorf("a Content-length of %d, want at most %d", n, limit)
	}
	return int(n), nil
}

// appendFrame writes body with its Content-length behind b.
func appendFrame(b, body []byte) []byte {
	b = slices.Grow(b, maxLengthLine+len(body))
	b = append(b, contentLength+": "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n"...)
	return append(b, body...)
}

// cutLine takes the first line off a stream. A line ends in LF, CR LF or, from one client, CR BS; false if it is not yet complete.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	for i, c := range b {
		if c == '\n' || c == '\b' && i > 0 && b[i-1] == '\r' {
			return b[:i], b[i+1:], true
		}
	}
	return nil, b, false
}

// trimEnd takes the line end off a message that came in one datagram, and the NUL some clients put behind it.
func trimEnd(b []byte) []byte {
	b = bytes.TrimRight(b, "\x00")
	if n := len(b); n > 0 && (b[n-1] == '\n' || b[n-1] == '\b') {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b
}
