// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
)

// sid is a session's id: 96 random bits. Ten thousand million sessions share one with a probability of 10^-9.
type sid [12]byte

func newID(random io.Reader) (sid, error) {
	var id sid
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return sid{}, fmt.Errorf("session id: %w", err)
	}
	return id, nil
}

// parseID reads what String wrote.
func parseID(text string) (id sid, ok bool) {
	if len(text) != hex.EncodedLen(len(id)) {
		return sid{}, false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return id, err == nil && id.String() == text
}

// String is the id as it stands in records, leases and logs: 24 hexadecimal digits.
func (id sid) String() string { return hex.EncodeToString(id[:]) }

// tunnel is the id as the datapath knows it, and the key of the broker's own index.
func (id sid) tunnel() uint64 { return binary.BigEndian.Uint64(id[:]) }
