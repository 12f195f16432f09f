// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// dialogues are recordings of clients by other authors, kept with the protocol.
const dialogues = "../../../tsp/testdata/dialogues"

// message is one datagram or segment of a recorded dialogue.
type message struct {
	network    string // "udp" or "tcp"
	fromClient bool
	bytes      []byte
}

var messageHead = regexp.MustCompile(`^#\d+ t= *[\d.]+s (C>S|S>C) (UDP|TCP) `)

// readDialogue reads the signalling of a recording: a head line a message, then lines of offset, hexadecimal and text.
// Tunnelled packets and what the recording says was ignored are left out.
func readDialogue(t *testing.T, name string) []message {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dialogues, name))
	must(t, err)
	var messages []message
	within := false
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			head := messageHead.FindStringSubmatch(line)
			if within = head != nil; within {
				messages = append(messages, message{network: strings.ToLower(head[2]), fromClient: head[1] == "C>S"})
			}
			continue
		}
		if row := strings.SplitN(line, "|", 2)[0]; within && len(row) > 8 {
			octets, err := hex.DecodeString(strings.Join(strings.Fields(row[8:]), ""))
			must(t, err)
			last := &messages[len(messages)-1]
			last.bytes = append(last.bytes, octets...)
		}
	}
	if len(messages) < 6 {
		t.Fatalf("%s: %d messages found in the recording", name, len(messages))
	}
	return messages
}

// told is what a client learns from the reply to create.
type told struct {
	endpoint, server netip.Addr
	prefix           string
}

var (
	clientElement = regexp.MustCompile(`(?s)<client>.*?<address type="ipv6">([0-9a-f:]{39})</address>`)
	keepaliveTo   = regexp.MustCompile(`(?s)<keepalive interval="\d+">\s*<address type="ipv6">([0-9a-f:]{39})</address>`)
	prefixElement = regexp.MustCompile(`<prefix length="\d+">([0-9a-f:]{39})</prefix>`)
)

// replay sends what the recorded client sent, each time after the server answered as in the recording, and gives what
// the server told of the tunnel. The socket is left open: it carries the tunnel.
func replay(socket net.Conn, messages []message) (told, error) {
	var tunnel told
	for i, m := range messages {
		if m.fromClient {
			if _, err := socket.Write(m.bytes); err != nil {
				return told{}, fmt.Errorf("message %d: %w", i+1, err)
			}
			continue
		}
		reply, err := readReply(socket)
		if err != nil {
			return told{}, fmt.Errorf("message %d: %w", i+1, err)
		}
		if err := compare(m, reply); err != nil {
			return told{}, fmt.Errorf("message %d: %w", i+1, err)
		}
		if address := clientElement.FindSubmatch(reply); address != nil {
			tunnel.endpoint = netip.MustParseAddr(string(address[1]))
		}
		if address := keepaliveTo.FindSubmatch(reply); address != nil {
			tunnel.server = netip.MustParseAddr(string(address[1]))
		}
		if prefix := prefixElement.FindSubmatch(reply); prefix != nil {
			tunnel.prefix = string(prefix[1])
		}
	}
	return tunnel, nil
}

func readReply(socket net.Conn) ([]byte, error) {
	if err := socket.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	buffer := make([]byte, 4096)
	n, err := socket.Read(buffer)
	return buffer[:n], err
}

// compare holds a reply against the recorded one by what a client looks at: the header, the status line or the
// capability, and the length.
func compare(recorded message, reply []byte) error {
	want, got := recorded.bytes, reply
	if recorded.network == "udp" {
		if len(got) < 8 || !bytes.Equal(got[:8], want[:8]) {
			return fmt.Errorf("reply %q does not start with the header %x", got, want[:8])
		}
		want, got = want[8:], got[8:]
	}
	if bytes.HasPrefix(want, []byte("CAPABILITY ")) {
		if !bytes.HasPrefix(got, []byte("CAPABILITY TUNNEL=")) || !bytes.HasSuffix(got, []byte("\r\n")) {
			return fmt.Errorf("reply %q is no capability line", got)
		}
		return nil
	}
	if len(want) == 0 && len(got) == 0 {
		return nil
	}
	if bytes.HasPrefix(got, []byte("Content-length: ")) {
		head, body, _ := bytes.Cut(got, []byte("\r\n"))
		if length := fmt.Sprintf("Content-length: %d", len(body)); string(head) != length {
			return fmt.Errorf("reply says %q where %q follow", head, length)
		}
		got = body
	}
	if !bytes.HasPrefix(got, []byte("200 ")) {
		return errors.New("reply is not a success: " + string(got))
	}
	return nil
}
