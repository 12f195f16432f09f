// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"ddtb/tsp/sasl"
)

// Errors of a Client besides *StatusError, wrapped with what and which.
var (
	// ErrTimeout: no answer after all retransmissions, or none in time.
	ErrTimeout = errors.New("no answer from the server")
	// ErrMechanism: the server offers none of the mechanisms the Client would use.
	ErrMechanism = errors.New("no acceptable authentication mechanism")
	// ErrProtocol: the server sent what is not TSP, or not what belongs here.
	ErrProtocol = errors.New("unexpected message from the server")
)

// Client is how a subscriber talks to servers. The zero value with User and Password is ready; a Client is not changed
// by use and may run many dialogues at once.
type Client struct {
	User     string
	Password string
	// Mechanisms are those that may be used, best first. nil means any that protects or carries the password: DIGEST-MD5,
	// CRAM-MD5, PLAIN, the first the server offers; what it refuses is never tried again with a weaker one. ANONYMOUS is
	// used only if it is named here.
	Mechanisms []sasl.Mechanism

	MinRTO time.Duration // first and least retransmission timeout over UDP: 2 s
	MaxRTO time.Duration // largest: 30 s
	Tries  int           // times a UDP message is sent at most: 5 (60 s); VERSION, while TCP can be tried instead: 3, MinRTO apart

	Dialer net.Dialer       // how sockets are opened
	Log    zerolog.Logger   // the zero value is silent
	Now    func() time.Time // nil: time.Now
	Rand   io.Reader        // nil: crypto/rand.Reader
}

// Port is where TSP servers listen, UDP and TCP (RFC 5572 section 7).
const Port = 3653

// withDefaults fills in what is zero.
func (c *Client) withDefaults() Client {
	d := *c
	fill(&d.MinRTO, 2*time.Second)
	fill(&d.MaxRTO, 30*time.Second)
	fill(&d.Tries, 5)
	if d.Mechanisms == nil {
		d.Mechanisms = []sasl.Mechanism{sasl.DigestMD5, sasl.CramMD5, sasl.Plain}
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Rand == nil {
		d.Rand = rand.Reader
	}
	return d
}

// Dial opens a dialogue with a server: "host", "host:port", an address with or without port (3653). network is "udp",
// "tcp", either with 4 or 6 behind it, or "" for UDP and, if that is dead, TCP. Of a host with several addresses each is tried, IPv4
// first. It tells the version, falling back on 302, and learns the server's Capability; a server that redirects at once gives
// a *StatusError with Brokers.
func (c *Client) Dial(ctx context.Context, network, server string) (*Conn, error) {
	client := c.withDefaults()
	host, port, err := splitServer(server)
	if err != nil {
		return nil, err
	}
	networks := []string{network}
	if network == "" {
		networks = []string{"udp", "tcp"}
	}
	var failed error
	for i, network := range networks {
		addresses, err := client.resolve(ctx, network, host)
		if err != nil {
			return nil, err
		}
		for _, address := range addresses {
			to := netip.AddrPortFrom(address, port)
			conn, err := client.open(ctx, network, to, server, i < len(networks)-1)
			if err == nil {
				return conn, nil
			}
			failed = errors.Join(failed, fmt.Errorf("%s %v: %w", network, to, err))
			var status *StatusError
			if errors.As(err, &status) || ctx.Err() != nil {
				return nil, failed // the server has spoken, another way will not change its mind
			}
		}
	}
	return nil, failed
}

// splitServer reads what a user calls a server.
func splitServer(server string) (host string, port uint16, err error) {
	bare := server
	if strings.HasPrefix(server, "[") && strings.HasSuffix(server, "]") {
		bare = server[1 : len(server)-1]
	}
	if addr, err := netip.ParseAddr(bare); err == nil {
		return addr.String(), Port, nil
	}
	host, service, found := strings.Cut(server, ":")
	if strings.HasPrefix(server, "[") {
		host, service, err = net.SplitHostPort(server)
		found = true
	}
	if err != nil || host == "" || strings.Contains(service, ":") {
		return "", 0, fmt.Errorf("server %q, want a name or an address, and a port if need be", server)
	}
	if !found {
		return host, Port, nil
	}
	n, err := strconv.ParseUint(service, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("server %q: port %q, want 1 to 65535", server, service)
	}
	return host, uint16(n), nil
}

// resolve gives the addresses of a host that network can reach, IPv4 first, since that is what tunnels run over.
func (c *Client) resolve(ctx context.Context, network, host string) ([]netip.Addr, error) {
	family := "ip" + strings.TrimLeft(network, "udtcp")
	if family != "ip" && family != "ip4" && family != "ip6" {
		return nil, fmt.Errorf("network %q, want udp, tcp, udp4, tcp4, udp6, tcp6 or nothing", network)
	}
	resolver := c.Dialer.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	found, err := resolver.LookupNetIP(ctx, family, host)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", host, err)
	}
	var v4, v6 []netip.Addr
	for _, addr := range found {
		if addr = addr.Unmap(); addr.Is4() {
			v4 = append(v4, addr)
		} else {
			v6 = append(v6, addr)
		}
	}
	return append(v4, v6...), nil
}

// open dials one address and starts the dialogue. A stream is closed by a server that does not know the version, so that each needs
// its own.
func (c *Client) open(ctx context.Context, network string, to netip.AddrPort, server string, otherWay bool) (*Conn, error) {
	for i := 0; ; i++ {
		socket, err := c.Dialer.DialContext(ctx, network, to.String())
		if err != nil {
			return nil, err
		}
		conn, err := c.newConn(socket, server)
		if err != nil {
			return nil, err
		}
		if udp, ok := conn.transport.(*udpTransport); ok {
			if otherWay {
				udp.probe = 3
			}
			return conn, conn.start(ctx, versions[:])
		}
		err = conn.start(ctx, versions[i:i+1])
		if !badVersion(err) || i == len(versions)-1 {
			if err != nil {
				return nil, err
			}
			return conn, nil
		}
	}
}

// badVersion tells whether another version is worth trying.
func badVersion(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == StatusBadVersion && len(status.Brokers) == 0
}

// Start is Dial over a connected socket of the caller's: datagrams if its remote address is a UDP one, else a stream.
// The Conn closes it unless Detach is called, also when Start fails. A UDP socket may be used for one dialogue after the other.
func (c *Client) Start(ctx context.Context, socket net.Conn) (*Conn, error) {
	client := c.withDefaults()
	conn, err := client.newConn(socket, socket.RemoteAddr().String())
	if err != nil {
		return nil, err
	}
	if err := conn.start(ctx, versions[:]); err != nil {
		return nil, err
	}
	return conn, nil
}
