// SPDX-License-Identifier: GPL-2.0-or-later

package logins

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"ddtb/tsp/sasl"
)

// FuzzHear throws what a server may send at a dialogue in each of its steps. Whatever it is, the dialogue either stands
// still, fails, or goes on by one step with something to say.
func FuzzHear(f *testing.F) {
	for _, text := range []string{
		"CAPABILITY TUNNEL=V6UDPV4 AUTH=DIGEST-MD5\r\n",
		"cmVhbG09InRlc3QiLG5vbmNlPSIxIixxb3A9ImF1dGgiLGFsZ29yaXRobT1tZDUtc2VzcyxjaGFyc2V0PXV0Zi04\r\n",
		"cnNwYXV0aD0wMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMA==\r\n",
		"200 Success\r\n", "300 Authentication failed\r\n", "1200 Redirection\r\n", "",
		string(framed("200 Success\r\n" + offer(netip.MustParseAddrPort("127.0.0.1:1")))),
		"Content-length: 99999999999999999999\r\n200 Success\r\n",
	} {
		for s := range done {
			f.Add(uint8(s), []byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, at uint8, text []byte) {
		d, err := newDialogue(sasl.DigestMD5, Account{"user", "secret"}, "test", netip.MustParseAddr("192.0.2.1"), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		before := step(at) % done
		d.step = before
		datagram := binary.BigEndian.AppendUint32(nil, marker|firstSequence)
		datagram = append(append(datagram, 0, 0, 0, 0), text...)
		more, err := d.hear(datagram)
		switch {
		case err != nil && (more || d.step != before):
			t.Errorf("step %d: failed with %v and went on", before, err)
		case err == nil && d.step != before+1:
			t.Errorf("step %d: went to %d", before, d.step)
		case more != (err == nil && d.step != done):
			t.Errorf("step %d: something to say: %v, at step %d with %v", before, more, d.step, err)
		case more && binary.BigEndian.Uint32(d.message) != marker|firstSequence+1:
			t.Errorf("step %d: next message does not bear the next sequence: %x", before, d.message[:4])
		}
	})
}

// TestHearOther: a datagram that answers another message, or is none, changes nothing.
func TestHearOther(t *testing.T) {
	for _, datagram := range [][]byte{nil, {0xF0}, {0xF0, 0, 0, 0xEF, 0, 0, 0, 0}, {0x60, 0, 0, 0xF0, 0, 0, 0, 0}} {
		d, err := newDialogue(sasl.DigestMD5, Account{"user", "secret"}, "test", netip.MustParseAddr("192.0.2.1"), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if more, err := d.hear(datagram); more || err != nil || d.step != version {
			t.Errorf("%x: more %v, error %v, step %d", datagram, more, err, d.step)
		}
	}
}

// TestRefused tells a status from a token, which may begin with digits too.
func TestRefused(t *testing.T) {
	for text, want := range map[string]bool{"300 Authentication failed\r\n": true, "1200 Redirection\r\n": true, "MTIz\r\n": false, "": false} {
		if got := refused([]byte(text)); got != want {
			t.Errorf("refused(%q) = %v, want %v", text, got, want)
		}
	}
	if err := unexpected([]byte("Content-length: 18\r\n530 Server busy\r\n")); !errors.Is(err, ErrRefused) || err.Error() != "refused: 530 Server busy" {
		t.Errorf("framed refusal: %v", err)
	}
}
