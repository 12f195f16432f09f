// SPDX-License-Identifier: GPL-2.0-or-later

package dialogue

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"ddtb/cmd/tspc/agent"
	"ddtb/tsp"
	"ddtb/tsp/tsptest"
)

func TestResolve(t *testing.T) {
	names := map[string][]netip.Addr{"a.example": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.2")}}
	d := &Dialer{Log: zerolog.Nop(), Lookup: func(_ context.Context, network, host string) ([]netip.Addr, error) {
		if network != "ip4" {
			t.Errorf("lookup in %q", network)
		}
		if names[host] == nil {
			return nil, errors.New("server misbehaving")
		}
		return names[host], nil
	}}
	both := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3653"), netip.MustParseAddrPort("192.0.2.2:3653")}
	name := agent.Server{Host: "a.example", Port: agent.DefaultPort}
	resolve := func(s agent.Server, want []netip.AddrPort) {
		t.Helper()
		got, err := d.Resolve(t.Context(), s)
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" || (err == nil) != (want != nil) {
			t.Errorf("%v: %v\n%s", s, err, diff)
		}
	}
	resolve(agent.Server{Host: "192.0.2.7", Port: 4000}, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:4000")})
	resolve(agent.Server{Host: "2001:db8::1", Port: 4000}, nil)
	resolve(name, both)
	delete(names, "a.example") // the resolver went with the tunnel
	resolve(name, both)
	resolve(agent.Server{Host: "b.example", Port: agent.DefaultPort}, nil)
	for n := range 10 * maxKnown { // names out of redirections do not fill the memory
		host := fmt.Sprintf("%d.example", n)
		names[host] = []netip.Addr{both[0].Addr()}
		resolve(agent.Server{Host: host, Port: agent.DefaultPort}, both[:1])
	}
	if len(d.known) > maxKnown {
		t.Errorf("%d names are remembered", len(d.known))
	}
}

// dial gets a Session of a server on loopback.
func dial(t *testing.T, d *Dialer, s *tsptest.Server) (agent.Session, error) {
	t.Helper()
	return d.Dial(t.Context(), s.Addr)
}

func newDialer(kind tsp.TunnelType, network string) *Dialer {
	return &Dialer{
		Client:  tsp.Client{User: tsptest.User, Password: tsptest.Password},
		Network: network, Request: tsp.Request{Type: kind}, Log: zerolog.Nop(),
	}
}

// TestDialAndDelete: a tunnel is had and given back, on the tunnel's own socket if it has one.
func TestDialAndDelete(t *testing.T) {
	for _, test := range []struct {
		network string
		kind    tsp.TunnelType
	}{{"udp4", tsp.V6UDPV4}, {"", tsp.V6UDPV4}} {
		backend := tsptest.NewBackend()
		s := tsptest.NewServer(t, tsp.ServerConfig{Backend: backend})
		session, err := dial(t, newDialer(test.kind, test.network), s)
		if err != nil {
			t.Fatal(err)
		}
		tunnel, ok := backend.Tunnels()[tsptest.User]
		if !ok || session.Info().Offer.ClientIPv6 != tunnel.Offer.ClientIPv6 || session.Info().Server != s.Addr {
			t.Fatalf("tunnel %+v, session %+v", tunnel, session.Info())
		}
		if local := session.Socket().LocalAddr().String(); local != tunnel.Peer.Remote.String() {
			t.Errorf("socket %v, tunnel to %v", local, tunnel.Peer.Remote)
		}
		if err := session.Delete(t.Context()); err != nil {
			t.Error(err)
		}
		if err := session.Close(); err != nil {
			t.Error(err)
		}
		if left := backend.Tunnels(); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// TestUnusableOfferIsRejected: the server does not keep a tunnel nobody uses.
func TestUnusableOfferIsRejected(t *testing.T) {
	backend := tsptest.NewBackend()
	backend.Endpoint = netip.MustParseAddr("fe80::1")
	s := tsptest.NewServer(t, tsp.ServerConfig{Backend: backend})
	if _, err := dial(t, newDialer(tsp.V6UDPV4, "udp4"), s); !errors.Is(err, ErrOffer) {
		t.Fatalf("%v, want %v", err, ErrOffer)
	}
	if backend.Offers() != 0 || len(backend.Tunnels()) != 0 {
		t.Errorf("%d offers, %d tunnels", backend.Offers(), len(backend.Tunnels()))
	}
}

func TestRefusalIsAStatus(t *testing.T) {
	s := tsptest.NewServer(t, tsp.ServerConfig{Backend: tsptest.NewBackend()})
	d := newDialer(tsp.V6UDPV4, "udp4")
	d.Client.Password = "wrong"
	var status *tsp.StatusError
	if _, err := dial(t, d, s); !errors.As(err, &status) || status.Code != tsp.StatusAuthFailed {
		t.Fatalf("%v, want %d", err, tsp.StatusAuthFailed)
	}
}

// TestDialEnds: a server that stops answering in the middle does not hold us for ever.
func TestDialEnds(t *testing.T) {
	backend := tsptest.NewBackend()
	backend.Fail = func(ctx context.Context, call, _ string) error {
		if call == "create" {
			<-ctx.Done()
		}
		return nil
	}
	s := tsptest.NewServer(t, tsp.ServerConfig{Backend: backend})
	d := newDialer(tsp.V6UDPV4, "udp4")
	d.Client.MinRTO, d.Client.MaxRTO, d.Client.Tries = 10*time.Millisecond, 20*time.Millisecond, 3
	if _, err := dial(t, d, s); !errors.Is(err, tsp.ErrTimeout) {
		t.Fatalf("%v, want %v", err, tsp.ErrTimeout)
	}
}
