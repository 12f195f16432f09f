// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"net/netip"
	"strconv"
	"time"
)

// The text is exact, because clients in the field break on what any XML reader would take: no prolog, no comment, no
// self-closed element, attributes in double quotes, nothing but the value inside address and prefix, IPv6 addresses with all
// their digits, every line ended by CR LF, the last one too.

// appendStatus writes a status line.
func appendStatus(b []byte, code Code, text string) []byte {
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, ' ')
	b = append(b, text...)
	return append(b, "\r\n"...)
}

// append writes m behind b.
func (m *message) append(b []byte) []byte {
	b = append(b, "<tunnel action=\""...)
	b = append(b, m.action...)
	if m.tunnel != "" {
		b = append(b, "\" type=\""...)
		b = append(b, m.tunnel...)
	}
	if m.lifetime > 0 {
		b = append(b, "\" lifetime=\""...)
		b = strconv.AppendInt(b, int64((m.lifetime+time.Minute-1)/time.Minute), 10)
	}
	if m.mtu > 0 {
		b = append(b, "\" mtu=\""...)
		b = strconv.AppendInt(b, int64(m.mtu), 10)
	}
	b = append(b, "\">"...)
	if !m.server.empty() || !m.client.empty() {
		b = append(b, "\r\n"...)
		b = m.server.append(b, "server")
		b = m.client.append(b, "client")
	}
	return append(b, "</tunnel>\r\n"...)
}

func (s *side) empty() bool {
	return !s.ipv4.IsValid() && !s.ipv6.IsValid() && s.name == "" && len(s.resolvers) == 0 && !s.router && s.keepalive == 0
}

func (s *side) append(b []byte, name string) []byte {
	if s.empty() {
		return b
	}
	b = append(b, "  <"...)
	b = append(b, name...)
	b = append(b, ">\r\n"...)
	b = appendAddress(b, 4, Broker{Addr: s.ipv4})
	b = appendAddress(b, 4, Broker{Addr: s.ipv6})
	b = appendAddress(b, 4, Broker{Name: s.name})
	if len(s.resolvers) > 0 {
		b = append(b, "    <dns_server>\r\n"...)
		for _, addr := range s.resolvers {
			b = appendAddress(b, 6, Broker{Addr: addr})
		}
		b = append(b, "    </dns_server>\r\n"...)
	}
	if s.router {
		b = s.appendRouter(b)
	}
	if s.keepalive > 0 {
		b = append(b, "    <keepalive interval=\""...)
		b = strconv.AppendInt(b, int64((s.keepalive+time.Second-1)/time.Second), 10)
		b = append(b, "\">\r\n"...)
		b = appendAddress(b, 6, Broker{Addr: s.keepaliveTo})
		b = append(b, "    </keepalive>\r\n"...)
	}
	b = append(b, "  </"...)
	b = append(b, name...)
	return append(b, ">\r\n"...)
}

func (s *side) appendRouter(b []byte) []byte {
	b = append(b, "    <router>\r\n"...)
	if s.prefixLen > 0 {
		b = append(b, "      <prefix length=\""...)
		b = strconv.AppendInt(b, int64(s.prefixLen), 10)
		b = append(b, "\">"...)
		if s.prefix.IsValid() {
			b = append(b, s.prefix.StringExpanded()...)
		}
		b = append(b, "</prefix>\r\n"...)
	}
	if len(s.dns) > 0 {
		b = append(b, "      <dns_server>\r\n"...)
		for _, server := range s.dns {
			b = appendAddress(b, 8, server)
		}
		b = append(b, "      </dns_server>\r\n"...)
	}
	return append(b, "    </router>\r\n"...)
}

// appendAddress writes one indented line, none if there is no address.
func appendAddress(b []byte, indent int, address Broker) []byte {
	if !address.Addr.IsValid() && address.Name == "" {
		return b
	}
	b = append(b, "        "[:indent]...)
	b = appendAddressElement(b, address)
	return append(b, "\r\n"...)
}

func appendAddressElement(b []byte, address Broker) []byte {
	switch {
	case !address.Addr.IsValid():
		b = append(b, `<address type="dn">`...)
		b = appendEscaped(b, address.Name)
	case address.Addr.Unmap().Is4():
		b = append(b, `<address type="ipv4">`...)
		b = address.Addr.Unmap().AppendTo(b)
	default:
		b = append(b, `<address type="ipv6">`...)
		b = append(b, address.Addr.WithZone("").StringExpanded()...)
	}
	return append(b, "</address>"...)
}

// appendBrokers writes the list of RFC 5572 figure 9, of as many brokers as fit in room octets; none if not even the first does.
func appendBrokers(b []byte, brokers []Broker, room int) ([]byte, int) {
	const head, tail = `<tunnel action="list" type="broker">`, `</tunnel>`
	start, n := len(b), 0
	b = append(b, head...)
	for _, broker := range brokers[:min(len(brokers), maxBrokers)] {
		end := len(b)
		b = append(b, "<broker>"...)
		b = appendAddressElement(b, broker)
		b = append(b, "</broker>"...)
		if len(b)-start+len(tail) > room {
			b = b[:end]
			break
		}
		n++
	}
	if n == 0 {
		return b[:start], 0
	}
	return append(b, tail...), n
}

// offerMessage is the answer to create and info (RFC 5572 section 4.7.1).
func offerMessage(o Offer) message {
	m := message{action: actionInfo, tunnel: o.Type, lifetime: o.Lifetime, mtu: o.MTU}
	m.server = side{ipv4: o.ServerIPv4, ipv6: o.ServerIPv6}
	m.client = side{ipv4: o.ClientIPv4, ipv6: o.ClientIPv6, name: o.ClientName, resolvers: o.Resolvers}
	if o.Prefix.IsValid() {
		m.client.router, m.client.prefix, m.client.prefixLen, m.client.dns = true, o.Prefix.Masked().Addr(), o.Prefix.Bits(), o.DNS
	}
	if o.Keepalive > 0 {
		m.client.keepalive, m.client.keepaliveTo = o.Keepalive, o.KeepaliveTo
	}
	return m
}

// offer reads the answer to create and info.
func (m *message) offer() Offer {
	o := Offer{Type: m.tunnel, Lifetime: m.lifetime, MTU: m.mtu, ServerIPv4: m.server.ipv4, ServerIPv6: m.server.ipv6,
		ClientIPv4: m.client.ipv4, ClientIPv6: m.client.ipv6, ClientName: m.client.name, Resolvers: m.client.resolvers,
		Keepalive: m.client.keepalive, KeepaliveTo: m.client.keepaliveTo, DNS: m.client.dns}
	if m.client.prefix.IsValid() && m.client.prefixLen > 0 {
		o.Prefix = netip.PrefixFrom(m.client.prefix, m.client.prefixLen).Masked()
	}
	return o
}

// requestMessage is what a client asks with action create.
func requestMessage(r Request) message {
	m := message{action: actionCreate, tunnel: r.Type}
	m.client = side{keepalive: r.Keepalive, router: r.Router, prefixLen: r.PrefixLen, dns: r.DNS}
	if r.Stated.Is4() {
		m.client.ipv4 = r.Stated
	} else {
		m.client.ipv6 = r.Stated
	}
	return m
}

// request reads what a client asks. Type and NAT are still the client's words.
func (m *message) request() Request {
	return Request{Type: m.tunnel, Stated: m.client.ipv4, Keepalive: m.client.keepalive, Router: m.client.router,
		PrefixLen: m.client.prefixLen, DNS: m.client.dns}
}
