// SPDX-License-Identifier: GPL-2.0-or-later

// Package logins runs many TSP logins over UDP at once, cheaply: a few goroutines drive thousands of dialogues, each with
// a source address of its own where the network allows that. Every dialogue is complete: version, DIGEST-MD5 with the
// server's proof verified, or PLAIN, create, accept, each with its retransmissions.
package logins

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ddtb/tsp/sasl"
)

// Errors of a login, wrapped with what and which.
var (
	// ErrRefused: the server answered with a status other than 200.
	ErrRefused = errors.New("refused")
	// ErrProtocol: the answer is not one that belongs here.
	ErrProtocol = errors.New("unexpected answer")
	// ErrTimeout: no answer after all retransmissions.
	ErrTimeout = errors.New("no answer")
)

// step is where a dialogue stands: what the client has said last.
//
//	version -> mechanism -> response -> poll -> create -> accept -> done
//
// PLAIN knows no challenge and no rspauth: its response is answered as the poll is, which it does without.
type step uint8

const (
	version   step = iota // VERSION, answered by CAPABILITY
	mechanism             // AUTHENTICATE, answered by the challenge
	response              // answered by rspauth
	poll                  // an empty message, answered by 200 (client fact 5)
	create                // answered by the offer
	accept                // answered by an empty message or 200 (client fact 4)
	done
)

const (
	headerLength  = 8         // RFC 5572 section 4.4.1.2
	marker        = 0xF << 28 // first nibble of every message
	firstSequence = 0xF0      // what clients in the field begin with (client fact 3)
	sequenceMask  = 1<<28 - 1 // 28 bits
)

// dialogue is the client's side of one login as a machine of messages: answers go in, messages come out. It knows no
// socket.
type dialogue struct {
	step     step
	sequence uint32
	name     sasl.Mechanism
	client   sasl.Client
	source   netip.Addr // what the client states as its own IPv4 address
	endpoint netip.Addr // what it was given

	message []byte    // last datagram, for retransmission
	started time.Time // of the login
	sent    time.Time // of message
	tries   int       // times message was sent
}

func newDialogue(name sasl.Mechanism, account Account, host string, source netip.Addr, random io.Reader) (*dialogue, error) {
	identity := sasl.Identity{User: account.User, Password: account.Password, Host: host}
	client, err := sasl.NewClient(name, identity, random)
	if err != nil {
		return nil, err
	}
	d := &dialogue{sequence: firstSequence, name: name, client: client, source: source}
	d.say([]byte("VERSION=2.0.2\r\n"))
	return d, nil
}

// say makes the next message.
func (d *dialogue) say(text []byte) {
	d.message = append(make([]byte, headerLength, headerLength+len(text)), text...)
	binary.BigEndian.PutUint32(d.message, marker|d.sequence)
	d.tries = 0
}

// stamp puts the client's clock into the message: a retransmission has the time of its own sending.
func (d *dialogue) stamp(now time.Time) []byte {
	binary.BigEndian.PutUint32(d.message[4:], uint32(now.UnixMilli()))
	d.sent = now
	d.tries++
	return d.message
}

// hear takes a datagram. It says whether there is something new to send; if not, the datagram was none of this step's
// (late, or not TSP) and nothing changed. When the login is complete, d.step is done and there is nothing to send.
func (d *dialogue) hear(datagram []byte) (bool, error) {
	if len(datagram) < headerLength || binary.BigEndian.Uint32(datagram) != marker|d.sequence {
		return false, nil
	}
	text, err := d.answer(datagram[headerLength:])
	if err != nil {
		return false, err
	}
	d.step++
	d.sequence = (d.sequence + 1) & sequenceMask
	if d.step == done {
		return false, nil
	}
	d.say(text)
	return true, nil
}

// answer makes of the server's answer what is to be said next.
func (d *dialogue) answer(text []byte) ([]byte, error) {
	switch d.step {
	case version:
		if !bytes.HasPrefix(text, []byte("CAPABILITY ")) || !bytes.Contains(text, []byte("AUTH="+d.name)) {
			return nil, unexpected(text)
		}
		return []byte("AUTHENTICATE " + d.name + "\r\n"), nil
	case mechanism, response:
		if d.step == response && d.name == sasl.Plain {
			next, err := d.permitted(text)
			if err == nil {
				d.step = poll
			}
			return next, err
		}
		if refused(text) {
			return nil, unexpected(text)
		}
		reply, err := d.client.Next(bytes.TrimRight(text, "\r\n"))
		if err != nil || d.step == response {
			return nil, err // after rspauth comes a poll, which is empty
		}
		return append(reply, "\r\n"...), nil
	case poll:
		return d.permitted(text)
	case create:
		return frame(acceptText), d.take(text)
	case accept:
		if len(text) != 0 && status(text) != "200" {
			return nil, unexpected(text)
		}
	case done:
	}
	return nil, nil
}

// permitted asks for the tunnel, if the login is said to be right.
func (d *dialogue) permitted(text []byte) ([]byte, error) {
	if !bytes.HasPrefix(text, []byte("200")) || !d.client.Done() {
		return nil, unexpected(text)
	}
	return frame(fmt.Sprintf(createText, d.source)), nil
}

const (
	createText = `<tunnel action="create" type="v6udpv4" proxy="no"><client><address type="ipv4">%s</address>` +
		`<keepalive interval="30"><address type="ipv6">::</address></keepalive></client></tunnel>` + "\r\n"
	acceptText = `<tunnel action="accept"></tunnel>` + "\r\n"
)

// frame puts a command's length before it (RFC 5572 section 4.4.3).
func frame(text string) []byte {
	return []byte("Content-length: " + strconv.Itoa(len(text)) + "\r\n" + text)
}

// take reads the client's address from an offer.
func (d *dialogue) take(text []byte) error {
	line, rest, _ := strings.Cut(string(text), "\r\n")
	length, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "Content-length:")))
	if err != nil || length != len(rest) || status(text) != "200" {
		return unexpected(text)
	}
	_, client, _ := strings.Cut(rest, "<client>")
	_, address, _ := strings.Cut(client, `<address type="ipv6">`)
	address, _, _ = strings.Cut(address, "<")
	if d.endpoint, err = netip.ParseAddr(address); err != nil {
		return fmt.Errorf("%w: offer without the client's IPv6 address", ErrProtocol)
	}
	return nil
}

// status is the code of a framed answer.
func status(text []byte) string {
	_, rest, _ := bytes.Cut(text, []byte("\r\n"))
	code, _, _ := bytes.Cut(rest, []byte(" "))
	return string(code)
}

// refused tells a status line from a token: codes have three or four digits and a blank behind them.
func refused(text []byte) bool {
	code, _, found := bytes.Cut(text, []byte(" "))
	_, err := strconv.Atoi(string(code))
	return found && err == nil
}

// unexpected says what was answered, in a few words that many answers share.
func unexpected(text []byte) error {
	if bytes.HasPrefix(text, []byte("Content-length:")) {
		_, text, _ = bytes.Cut(text, []byte("\r\n"))
	}
	line, _, _ := bytes.Cut(text, []byte("\r\n"))
	if refused(line) {
		return fmt.Errorf("%w: %.60s", ErrRefused, line)
	}
	return fmt.Errorf("%w: %.60q", ErrProtocol, line)
}
