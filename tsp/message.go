// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"time"
)

// action is the attribute of that name (RFC 5572 section 4.7.1).
type action string

const (
	actionCreate action = "create"
	actionDelete action = "delete"
	actionInfo   action = "info"
	actionAccept action = "accept"
	actionReject action = "reject"
	actionList   action = "list" // only in figure 9
)

// Bounds of what is read.
const (
	maxBrokers  = 50 // more is more than clients take
	maxDNS      = 16
	maxInterval = 24 * time.Hour
	maxMinutes  = 1 << 24
)

// defaultInterval is meant by a keepalive element without one; all examples of the RFC have it.
const defaultInterval = 30 * time.Second

// defaultLifetime is that of the RFC's DTD.
const defaultLifetime = 1440 * time.Minute

// message is one tunnel element (RFC 5572 section 4.7), as either side sends it.
//
// Clients in the field send much that the RFC's DTD does not have, and the RFC's own examples contradict it: what is not known
// here is skipped.
type message struct {
	action   action
	tunnel   TunnelType
	lifetime time.Duration // 0: no attribute
	mtu      int           // octets, 0: no attribute
	server   side
	client   side
	brokers  []Broker
}

// side is a client or server element.
type side struct {
	ipv4, ipv6  netip.Addr
	name        string       // address of type dn
	resolvers   []netip.Addr // dns_server directly below
	router      bool
	prefix      netip.Addr
	prefixLen   int      // bits, 0: none given
	dns         []Broker // router/dns_server
	keepalive   time.Duration
	keepaliveTo netip.Addr
}

// parseMessage reads a tunnel element. Errors are *StatusError: 501 and 502 for addresses, else 500.
func parseMessage(b []byte) (message, error) {
	root, err := parseXML(b)
	if err != nil {
		return message{}, badRequest(err)
	}
	if string(root.name) != "tunnel" {
		return message{}, badRequest(fmt.Errorf("element %.20q, want tunnel", root.name))
	}
	m := message{action: action(root.word("action")), tunnel: TunnelType(root.word("type"))}
	if m.lifetime, err = number(root.attr("lifetime"), "lifetime", maxMinutes, time.Minute); err != nil {
		return message{}, err
	}
	mtu, err := number(root.attr("mtu"), "mtu", 65535, 1)
	if err != nil {
		return message{}, err
	}
	m.mtu = int(mtu)
	for i := range root.children {
		if err := m.child(&root.children[i]); err != nil {
			return message{}, err
		}
	}
	return m, nil
}

func badRequest(err error) error { return &StatusError{Code: StatusBadRequest, Err: err} }

func (m *message) child(e *element) error {
	switch string(e.name) {
	case "client":
		return m.client.parse(e)
	case "server":
		return m.server.parse(e)
	case "broker": // several brokers of one address, or one of several
		for i := range e.children {
			if len(m.brokers) == maxBrokers {
				return nil
			}
			broker, ok, err := parseBroker(&e.children[i])
			if err != nil {
				return err
			}
			if ok {
				m.brokers = append(m.brokers, broker)
			}
		}
	}
	return nil
}

func (s *side) parse(e *element) (err error) {
	for i := range e.children {
		child := &e.children[i]
		switch string(child.name) {
		case "address":
			err = s.parseAddress(child)
		case "dns_server":
			err = s.parseResolvers(child)
		case "router":
			s.router = true
			err = s.parseRouter(child)
		case "keepalive":
			err = s.parseKeepalive(child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parseAddress takes what an address element says of the tunnel's end itself. A type that is not known is skipped.
func (s *side) parseAddress(e *element) error {
	broker, ok, err := parseBroker(e)
	switch {
	case err != nil || !ok:
		return err
	case broker.Name != "":
		s.name = broker.Name
	case broker.Addr.Is4():
		s.ipv4 = broker.Addr
	default:
		s.ipv6 = broker.Addr
	}
	return nil
}

func (s *side) parseResolvers(e *element) error {
	for i := range e.children {
		broker, ok, err := parseBroker(&e.children[i])
		if err != nil {
			return err
		}
		if ok && broker.Addr.IsValid() && len(s.resolvers) < maxDNS {
			s.resolvers = append(s.resolvers, broker.Addr)
		}
	}
	return nil
}

func (s *side) parseRouter(e *element) error {
	for i := range e.children {
		child := &e.children[i]
		switch string(child.name) {
		case "prefix":
			if err := s.parsePrefix(child); err != nil {
				return err
			}
		case "dns_server":
			for j := range child.children {
				broker, ok, err := parseBroker(&child.children[j])
				if err != nil {
					return err
				}
				if ok && len(s.dns) < maxDNS {
					s.dns = append(s.dns, broker)
				}
			}
		}
	}
	return nil
}

func (s *side) parsePrefix(e *element) error {
	length, err := number(e.attr("length"), "prefix length", 128, 1)
	if err != nil {
		return err
	}
	s.prefixLen = int(length)
	if len(e.text) == 0 {
		return nil
	}
	text, _, _ := bytes.Cut(e.text, []byte{'/'})
	if s.prefix, err = netip.ParseAddr(string(text)); err != nil || !s.prefix.Is6() || s.prefix.Is4In6() || s.prefix.Zone() != "" {
		return &StatusError{Code: StatusBadIPv6, Err: fmt.Errorf("prefix %.50q is not IPv6", e.text)}
	}
	return nil
}

// parseKeepalive reads what the other side would like; a wish beyond all bounds is the largest there is, for the server decides.
func (s *side) parseKeepalive(e *element) (err error) {
	if s.keepalive, err = number(e.attr("interval"), "keepalive interval", math.MaxUint32, time.Second); err != nil {
		return err
	}
	s.keepalive = min(s.keepalive, maxInterval)
	if s.keepalive == 0 {
		s.keepalive = defaultInterval
	}
	for i := range e.children {
		broker, ok, err := parseBroker(&e.children[i])
		if err != nil {
			return err
		}
		if ok && broker.Addr.Is6() {
			s.keepaliveTo = broker.Addr
		}
	}
	return nil
}

// parseBroker reads any address element; ok is false if it is none or its type is not known.
func parseBroker(e *element) (b Broker, ok bool, err error) {
	if string(e.name) != "address" || len(e.text) == 0 {
		return Broker{}, false, nil
	}
	switch e.word("type") {
	case "ipv4":
		if b.Addr, err = netip.ParseAddr(string(e.text)); err != nil || !b.Addr.Is4() {
			return Broker{}, false, &StatusError{Code: StatusBadIPv4, Err: fmt.Errorf("address %.50q is not IPv4", e.text)}
		}
	case "ipv6":
		if b.Addr, err = netip.ParseAddr(string(e.text)); err != nil || !b.Addr.Is6() || b.Addr.Is4In6() || b.Addr.Zone() != "" {
			return Broker{}, false, &StatusError{Code: StatusBadIPv6, Err: fmt.Errorf("address %.50q is not IPv6", e.text)}
		}
	case "dn":
		if b.Name = string(e.text); !hostname(b.Name) {
			return Broker{}, false, badRequest(fmt.Errorf("%.50q is not a domain name", b.Name))
		}
	default:
		return Broker{}, false, nil
	}
	return b, true, nil
}

// hostname tells whether s can be a domain name.
func hostname(s string) bool {
	for _, c := range []byte(s) {
		if c != '-' && c != '.' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= 253
}

// number reads an attribute that counts unit, 0 if it is missing or empty.
func number(value []byte, what string, most uint64, unit time.Duration) (time.Duration, error) {
	value = bytes.TrimSpace(value)
	if len(value) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(value), 10, 32)
	if err != nil || n > most {
		return 0, badRequest(fmt.Errorf("%s %.20q, want 0 to %d", what, value, most))
	}
	return time.Duration(n) * unit, nil
}

// parseStatus reads the status line and gives what follows it. The code is as on the wire, with the 1000 if a list follows.
func parseStatus(b []byte) (code int, text string, rest []byte, err error) {
	line, rest, _ := bytes.Cut(b, []byte{'\n'})
	line = bytes.TrimRight(line, "\r\x00 ")
	digits, words, _ := bytes.Cut(line, []byte{' '})
	if len(digits) < 3 || len(digits) > 4 {
		return 0, "", nil, errStatus
	}
	n, err := strconv.ParseUint(string(digits), 10, 16)
	if err != nil || n < 100 || n > 1999 || len(words) > 200 || !utf8Printable(words) {
		return 0, "", nil, errStatus
	}
	return int(n), string(words), rest, nil
}

var errStatus = errors.New("no status line")

// utf8Printable: fit for a log line.
func utf8Printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
