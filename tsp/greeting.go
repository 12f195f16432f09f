// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"bytes"
	"slices"

	"ddtb/tsp/sasl"
)

// Requests before the login are told apart by how they start, in upper case as in the RFC or not.
var (
	versionRequest      = []byte("VERSION")
	authenticateRequest = []byte("AUTHENTICATE")
	echoRequest         = []byte("ECHO REQUEST")
)

// versions this package speaks, as a client tries them. They do not differ in what is sent.
var versions = [...]string{"2.0.2", "2.0.1", "2.0.0"}

// noLimit is the room of a reply that nobody can misuse: on a stream the peer is who it says.
const noLimit = 1 << 20

// cutVerb takes the word off that a request starts with.
func cutVerb(line, verb []byte) (rest []byte, ok bool) {
	if len(line) < len(verb) || !bytes.EqualFold(line[:len(verb)], verb) {
		return nil, false
	}
	return line[len(verb):], true
}

// cutVersion gives what follows "VERSION=".
func cutVersion(line []byte) (said []byte, ok bool) {
	if line, ok = cutVerb(line, versionRequest); !ok {
		return nil, false
	}
	return bytes.CutPrefix(bytes.TrimLeft(line, " \t"), []byte{'='})
}

// greeting answers VERSION and ECHO REQUEST, for which nothing is kept. The reply is written behind dst and at most room
// octets long; it is empty if it does not fit. end: the client is turned away. ok is false for any other message.
func (s *Server) greeting(dst []byte, peer *Peer, line []byte, room int) (reply []byte, end, ok bool) {
	start := len(dst)
	if said, ok := cutVersion(line); ok {
		dst, end = s.version(dst, peer, said, room)
	} else if _, ok := cutVerb(line, echoRequest); ok {
		s.metrics.requests.echo.Inc()
		dst = s.status(dst, StatusSuccess)
	} else {
		return dst, false, false
	}
	return s.fit(dst, start, room), end, true
}

// fit drops a reply that is larger than a stranger may make us send.
func (s *Server) fit(reply []byte, start, room int) []byte {
	if len(reply)-start > room {
		s.metrics.drops.size.Inc()
		return reply[:start]
	}
	return reply
}

// version answers VERSION=x.y.z (RFC 5572 section 4.4.2).
func (s *Server) version(dst []byte, peer *Peer, said []byte, room int) (reply []byte, end bool) {
	s.metrics.requests.version.Inc()
	if peer.Version = knownVersion(said); peer.Version == "" {
		s.refused(peer, nil, StatusBadVersion).Bytes("version", trimEnd(said[:min(len(said), 20)])).Msg("client speaks none of our versions")
		return s.status(dst, StatusBadVersion), true
	}
	capability := s.backend.Capability(*peer)
	if len(capability.Redirect) > 0 {
		if list, n := s.list(dst, StatusSuccess, capability.Redirect, room); n > 0 {
			return list, true
		} // else the answer to create has room for it
	}
	if s.draining.Load() {
		return s.status(dst, StatusBusy), true
	}
	return appendCapability(dst, capability), false
}

// knownVersion gives the version a client said, "" unless it is one of those this package speaks.
func knownVersion(said []byte) string {
	said = bytes.Trim(said, "\x00\b\r\n\t ")
	for _, version := range versions {
		if string(said) == version {
			return version
		}
	}
	return ""
}

// appendCapability writes the CAPABILITY line: upper case, one blank apart, concrete types only (RFC 5572 section 4.4.2).
func appendCapability(b []byte, c Capability) []byte {
	b = append(b, "CAPABILITY"...)
	if slices.Contains(c.Tunnels, V6V4) {
		b = append(b, " TUNNEL=V6V4"...)
	}
	if slices.Contains(c.Tunnels, V6UDPV4) {
		b = append(b, " TUNNEL=V6UDPV4"...)
	}
	for _, mechanism := range c.Mechanisms {
		b = append(b, " AUTH="...)
		b = append(b, mechanism...)
	}
	return append(b, "\r\n"...)
}

// parseAuthenticate reads the mechanism of an AUTHENTICATE line, however it ends: CR LF, CR BS, a NUL behind it. ok is false if it is no such
// line; the mechanism is "" if it is none there is.
func parseAuthenticate(line []byte) (mechanism sasl.Mechanism, ok bool) {
	name, ok := cutVerb(line, authenticateRequest)
	if !ok || len(name) == 0 || name[0] != ' ' {
		return "", false
	}
	name = bytes.Trim(name, " \t\r\n\b\x00")
	for _, known := range []sasl.Mechanism{sasl.Anonymous, sasl.Plain, sasl.DigestMD5, sasl.CramMD5} {
		if len(name) == len(known) && bytes.EqualFold(name, []byte(known)) {
			return known, true
		}
	}
	return "", true
}

// notOffered answers an AUTHENTICATE with a mechanism that is not offered.
func (s *Server) notOffered(dst []byte, peer *Peer, line []byte) []byte {
	s.refused(peer, nil, StatusAuthFailed).Bytes("request", trimEnd(line[:min(len(line), 40)])).Msg("mechanism is not offered")
	return s.status(dst, StatusAuthFailed)
}

// status writes a status line and counts it.
func (s *Server) status(dst []byte, code Code) []byte {
	s.metrics.reply(code)
	return appendStatus(dst, code, code.String())
}

// list writes a status line with 1000 added and as many brokers as fit in room (RFC 5572 section 4.7.4 and appendix B); n is how many, with
// 0 nothing was written. Where room is short so is the text.
func (s *Server) list(dst []byte, code Code, brokers []Broker, room int) (list []byte, n int) {
	text := code.String()
	if code == StatusSuccess {
		text = "Redirection"
		if room < maxReply {
			text = "OK"
		}
	}
	start := len(dst)
	list = appendStatus(dst, code+brokerListFollows, text)
	if list, n = appendBrokers(list, brokers, room-(len(list)-start)); n == 0 {
		return dst, 0
	}
	if len(list)-start+len("\r\n") <= room {
		list = append(list, "\r\n"...)
	}
	s.metrics.reply(code + brokerListFollows)
	return list, n
}
