// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"crypto/hmac"
	"crypto/md5" // #nosec G501 -- RADIUS is built on MD5 (RFC 2865 section 3)
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"

	"layeh.com/radius"
)

const (
	headerLen = 20 // code, identifier, length, authenticator
	maxLen    = radius.MaxPacketLength

	attrMessageAuthenticator = 80 // RFC 3579 section 3.2
	messageAuthenticatorLen  = 18 // type, length, 16 octets of HMAC-MD5
)

// Policy says whether a reply to an Access-Request must carry a Message-Authenticator.
type Policy uint8

// The policies. Auto asks for it from the first reply on that had a valid one; FreeRADIUS sends it since 3.2.5.
const (
	Auto Policy = iota
	Require
	Accept
)

var policyNames = [...]string{Auto: "auto", Require: "yes", Accept: "no"}

// String gives the name a configuration uses.
func (p Policy) String() string { return policyNames[p] }

// UnmarshalText reads "auto", "yes" or "no".
func (p *Policy) UnmarshalText(text []byte) error {
	for i, name := range policyNames {
		if string(text) == name {
			*p = Policy(i)
			return nil
		}
	}
	return fmt.Errorf("%q: expected \"auto\", \"yes\" or \"no\"", text)
}

var (
	errShort         = errors.New("packet cut short")
	errAuthenticator = errors.New("its Response Authenticator is wrong (another secret?)")
	errNoMA          = errors.New("it has no Message-Authenticator, which message_authenticator asks for")
	errMA            = errors.New("its Message-Authenticator is wrong")
)

// trim returns the packet b begins with, by its own length field (RFC 2865 section 3: octets beyond are padding).
func trim(b []byte) ([]byte, error) {
	if len(b) < headerLen {
		return nil, errShort
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < headerLen || n > len(b) || n > maxLen {
		return nil, errShort
	}
	return b[:n], nil
}

// signer computes Message-Authenticators with one secret. It keeps the states of the keyed hash, which cost more than a packet's hash.
type signer struct{ states sync.Pool }

func newSigner(secret []byte) *signer {
	return &signer{states: sync.Pool{New: func() any { return hmac.New(md5.New, secret) }}}
}

// sign puts the Message-Authenticator of a packet whose first attribute it is. authenticator is what stands in the header's
// place while it is computed: the Request Authenticator of an Access-Request or of the request answered, zeros for a CoA.
func (s *signer) sign(wire, authenticator []byte) {
	sum := s.sum(wire, authenticator, headerLen)
	copy(wire[headerLen+2:], sum[:])
}

// valid tells whether the Message-Authenticator at offset is that of wire with another authenticator in its header.
func (s *signer) valid(wire, authenticator []byte, offset int) bool {
	sum := s.sum(wire, authenticator, offset)
	return hmac.Equal(sum[:], wire[offset+2:offset+messageAuthenticatorLen])
}

// sum computes the HMAC of wire with another authenticator in its header and zeros in the attribute at offset.
func (s *signer) sum(wire, authenticator []byte, offset int) (sum [md5.Size]byte) {
	h, ok := s.states.Get().(hash.Hash)
	if !ok {
		panic("radius: something else is among the states of a keyed hash")
	}
	defer s.states.Put(h)
	var zero [messageAuthenticatorLen - 2]byte
	h.Reset()
	h.Write(wire[:4])
	h.Write(authenticator)
	h.Write(wire[headerLen : offset+2])
	h.Write(zero[:])
	h.Write(wire[offset+messageAuthenticatorLen:])
	h.Sum(sum[:0])
	return sum
}

// findMA returns the offset of the Message-Authenticator in wire, or 0 if there is none. More than one, or one of another
// length, is an error, as are attributes that do not fit.
func findMA(wire []byte) (int, error) {
	found := 0
	for o := headerLen; o < len(wire); {
		if len(wire)-o < 2 || wire[o+1] < 2 || o+int(wire[o+1]) > len(wire) {
			return 0, errShort
		}
		if wire[o] == attrMessageAuthenticator {
			if wire[o+1] != messageAuthenticatorLen || found != 0 {
				return 0, errMA
			}
			found = o
		}
		o += int(wire[o+1])
	}
	return found, nil
}

// verifyReply checks a trimmed reply to request: both as they are on the wire. signed tells whether it had a valid
// Message-Authenticator.
func verifyReply(reply, request, secret []byte, s *signer, require bool) (signed bool, err error) {
	h := md5.New() // #nosec G401
	h.Write(reply[:4])
	h.Write(request[4:headerLen])
	h.Write(reply[headerLen:])
	h.Write(secret)
	var sum [md5.Size]byte
	if subtle.ConstantTimeCompare(h.Sum(sum[:0]), reply[4:headerLen]) != 1 {
		return false, errAuthenticator
	}
	offset, err := findMA(reply)
	switch {
	case err != nil:
		return false, err
	case offset == 0 && require:
		return false, errNoMA
	case offset == 0:
		return false, nil
	}
	if !s.valid(reply, request[4:headerLen], offset) {
		return false, errMA
	}
	return true, nil
}

// answers are the codes of replies by that of the request.
var answers = map[radius.Code][]radius.Code{
	radius.CodeAccessRequest:     {radius.CodeAccessAccept, radius.CodeAccessReject, radius.CodeAccessChallenge},
	radius.CodeAccountingRequest: {radius.CodeAccountingResponse},
	radius.CodeStatusServer:      {radius.CodeAccessAccept, radius.CodeAccountingResponse},
}

// mayAnswer tells whether a reply of one code can belong to a request of another (RFC 2865, 2866, 5997).
func mayAnswer(reply, request radius.Code) bool {
	return slices.Contains(answers[request], reply)
}
