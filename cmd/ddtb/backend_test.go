// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ddtb/aaa"
	"ddtb/aaa/aaatest"
	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// fakeBroker records what it is asked and answers as it is told.
type fakeBroker struct {
	calls   []string
	request provision.Request
	err     error
	offered int
	offer   provision.Session // the last
	owned   []provision.Session
}

func (f *fakeBroker) Offer(_ context.Context, r provision.Request) (provision.Session, error) {
	f.calls = append(f.calls, "offer")
	f.request = r
	if f.err != nil {
		return provision.Session{}, f.err
	}
	f.offered++
	f.offer = provision.Session{
		ID: fmt.Sprintf("id%d", f.offered), Encap: r.Encap, Client: r.Client, Local: r.Local,
		Server: netip.MustParseAddr("2001:db8:f000::1"), Endpoint: netip.MustParseAddr("2001:db8:f000:1::7"),
		Prefix: netip.MustParsePrefix("2001:db8:1000:700::/56"), MTU: 1280, Keepalive: 30 * time.Second, Lifetime: time.Hour,
	}
	return f.offer, nil
}

func (f *fakeBroker) Session(id string) (provision.Session, bool) { return f.offer, f.offer.ID == id }

func (f *fakeBroker) Activate(_ context.Context, id string) error { return f.call("activate", id) }
func (f *fakeBroker) Reject(_ context.Context, id string) error   { return f.call("reject", id) }

func (f *fakeBroker) Release(_ context.Context, id string, cause aaa.Cause) error {
	return f.call("release", id+" "+cause.String())
}

func (f *fakeBroker) At(encap datapath.Encap, client, local netip.AddrPort) (provision.Session, bool) {
	for _, s := range f.owned {
		same := s.Client == client || encap == datapath.V6V4 && s.Client.Addr() == client.Addr()
		if s.Encap == encap && same && s.Local.Addr() == local.Addr() {
			return s, true
		}
	}
	return provision.Session{}, false
}

func (f *fakeBroker) Owned(string) []provision.Session { return f.owned }

func (f *fakeBroker) call(what, id string) error {
	f.calls = append(f.calls, what+" "+id)
	return f.err
}

var (
	testPeer = tsp.Peer{
		Local: netip.MustParseAddrPort("192.0.2.1:3653"), Remote: netip.MustParseAddrPort("198.51.100.9:40000"),
		Network: "udp", Version: "2.0.2",
	}
	testPolicy = policy{
		realm:      "ddtb",
		tunnels:    []tsp.TunnelType{tsp.V6UDPV4, tsp.V6V4},
		mechanisms: []sasl.Mechanism{sasl.DigestMD5, sasl.CramMD5, sasl.Plain},
		resolvers:  []netip.Addr{netip.MustParseAddr("2001:db8:53::53")},
	}
)

// TestBackendStatus holds the code that a client sees for each way things can go wrong.
func TestBackendStatus(t *testing.T) {
	for _, test := range []struct {
		err  error
		code tsp.Code
	}{
		{aaa.ErrUnknown, 300},
		{aaa.ErrRejected, 300},
		{aaa.ErrUnavailable, 530},
		{aaa.ErrThrottled, 530},
		{provision.ErrFull, 301},
		{provision.ErrDenied, 301},
		{provision.ErrClientAddress, 501},
		{provision.ErrAddressInUse, 506},
		{provision.ErrPrefixLength, 507},
		{provision.ErrInProgress, 521},
		{provision.ErrNotFound, 521},
		{provision.ErrAnonymousPrefix, 522},
		{provision.ErrBusy, 530},
		{context.DeadlineExceeded, 530},
		{errors.New("anything else"), 310},
		{datapath.ErrInvalid, 310},
	} {
		err := status(fmt.Errorf("what and which: %w", test.err))
		var got *tsp.StatusError
		if !errors.As(err, &got) || got.Code != test.code || !errors.Is(err, test.err) {
			t.Errorf("%v became %v, want code %d with the cause kept", test.err, err, test.code)
		}
	}
}

// plainOnly is a backend that knows nobody and could verify nothing but clear passwords.
type plainOnly struct{}

func (plainOnly) Mechanisms() []aaa.Mechanism { return []aaa.Mechanism{aaa.MechanismPlain} }

func (plainOnly) Authenticate(context.Context, aaa.Login) (aaa.Subscriber, error) {
	return aaa.Subscriber{}, aaa.ErrUnknown
}

func TestBackendCapability(t *testing.T) {
	fake := aaa.Chain{aaatest.NewFake("ddtb")}
	guests := append(slices.Clone(fake), aaa.Guests{})
	directory := aaa.Chain{fake[0], plainOnly{}, aaa.Guests{}}
	ipv6 := tsp.Peer{Local: netip.MustParseAddrPort("[2001:db8::1]:3653"), Remote: netip.MustParseAddrPort("[2001:db8::2]:40000")}
	only := func(mechanisms ...sasl.Mechanism) policy {
		p := testPolicy
		p.mechanisms = mechanisms
		return p
	}
	for _, test := range []struct {
		name       string
		auth       aaa.Chain
		policy     policy
		peer       tsp.Peer
		mechanisms []sasl.Mechanism
		tunnels    []tsp.TunnelType
	}{
		{"all", fake, testPolicy, testPeer, testPolicy.mechanisms, testPolicy.tunnels},
		{"policy decides the order", fake, only(sasl.Plain, sasl.DigestMD5), testPeer, []sasl.Mechanism{sasl.Plain, sasl.DigestMD5}, testPolicy.tunnels},
		{"policy without PLAIN", fake, only(sasl.DigestMD5), testPeer, []sasl.Mechanism{sasl.DigestMD5}, testPolicy.tunnels},
		{"anonymous where somebody takes it", guests, only(sasl.DigestMD5), testPeer, []sasl.Mechanism{sasl.DigestMD5, sasl.Anonymous}, testPolicy.tunnels},
		{"nothing that no backend verifies", aaa.Chain{aaa.Guests{}}, testPolicy, testPeer, []sasl.Mechanism{sasl.Anonymous}, testPolicy.tunnels},
		{"without a list, what one backend verifies", fake, only(), testPeer, testPolicy.mechanisms, testPolicy.tunnels},
		{"without a list, what each verifies", directory, only(), testPeer, []sasl.Mechanism{sasl.Plain, sasl.Anonymous}, testPolicy.tunnels},
		{"a list goes before that", directory, only(sasl.DigestMD5), testPeer, []sasl.Mechanism{sasl.DigestMD5, sasl.Anonymous}, testPolicy.tunnels},
		{"no IPv4 tunnels over IPv6", fake, testPolicy, ipv6, testPolicy.mechanisms, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := newBackend(test.auth, &fakeBroker{}, test.policy).Capability(test.peer)
			want := tsp.Capability{Realm: "ddtb", Mechanisms: test.mechanisms, Tunnels: test.tunnels}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestBackendRedirect: what the operator wrote goes before what the fleet says.
func TestBackendRedirect(t *testing.T) {
	peer := netip.MustParseAddr("192.0.2.2")
	b := newBackend(aaa.Chain{aaatest.NewFake("ddtb")}, &fakeBroker{}, testPolicy)
	var others []netip.Addr
	b.others = func() []netip.Addr { return others }
	if got := b.Capability(testPeer).Redirect; len(got) > 0 {
		t.Errorf("redirected to %v", got)
	}
	others = []netip.Addr{peer}
	if got, want := b.Capability(testPeer).Redirect, []tsp.Broker{{Addr: peer}}; !slices.Equal(got, want) {
		t.Errorf("redirected to %v, want %v", got, want)
	}
	p := testPolicy
	p.redirect = []tsp.Broker{{Name: "tb.example.net"}}
	b.follow(p)
	if got := b.Capability(testPeer).Redirect; !slices.Equal(got, p.redirect) {
		t.Errorf("redirected to %v, want %v", got, p.redirect)
	}
}

// TestBackendAuthenticate logs in by every mechanism with the credentials a client would make.
func TestBackendAuthenticate(t *testing.T) {
	auth := aaa.Chain{aaatest.NewFake("ddtb", aaatest.Account{Name: "alice", Password: "secret"}), aaa.Guests{}}
	digest, ok := aaatest.Login(aaa.MechanismDigestMD5, "alice", "ddtb", "secret").Credential.(aaa.Digest)
	if !ok {
		t.Fatal("no digest")
	}
	cram, ok := aaatest.Login(aaa.MechanismCramMD5, "alice", "ddtb", "secret").Credential.(aaa.Cram)
	if !ok {
		t.Fatal("no cram")
	}
	digestOf := func(response string) sasl.Credential {
		return sasl.DigestCredential{
			Username: digest.Username, Realm: digest.Realm, Nonce: digest.Nonce, CNonce: digest.CNonce, NC: digest.NC,
			QOP: digest.QOP, URI: digest.URI, Response: response, UTF8: digest.UTF8, AuthzID: digest.AuthzID,
		}
	}
	for _, test := range []struct {
		name       string
		credential sasl.Credential
		code       tsp.Code // 0: let in
		proof      bool
	}{
		{"plain", sasl.PlainCredential{Username: "alice", Password: "secret"}, 0, false},
		{"plain, for himself", sasl.PlainCredential{AuthzID: "alice", Username: "alice", Password: "secret"}, 0, false},
		{"plain, for another", sasl.PlainCredential{AuthzID: "bob", Username: "alice", Password: "secret"}, 300, false},
		{"plain, wrong", sasl.PlainCredential{Username: "alice", Password: "Secret"}, 300, false},
		{"plain, unknown", sasl.PlainCredential{Username: "bob", Password: "secret"}, 300, false},
		{"digest", digestOf(digest.Response), 0, true},
		{"digest, wrong", digestOf("00000000000000000000000000000000"), 300, false},
		{"cram", sasl.CramCredential{Username: "alice", Challenge: cram.Challenge, Response: cram.Response}, 0, false},
		{"anonymous", sasl.AnonymousCredential{}, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			session, proof, err := newBackend(auth, &fakeBroker{}, testPolicy).Authenticate(t.Context(), testPeer, test.credential)
			wantCode(t, err, test.code)
			if (session != nil) != (test.code == 0) || (proof != "") != test.proof {
				t.Errorf("session %v, proof %q", session, proof)
			}
		})
	}
}

// TestBackendForgeable: which logins anybody could have sent from the address of another.
func TestBackendForgeable(t *testing.T) {
	auth := aaa.Chain{aaatest.NewFake("ddtb", aaatest.Account{Name: "alice", Password: "secret"}), aaa.Guests{}}
	cram, ok := aaatest.Login(aaa.MechanismCramMD5, "alice", "ddtb", "secret").Credential.(aaa.Cram)
	if !ok {
		t.Fatal("no cram")
	}
	for _, test := range []struct {
		credential sasl.Credential
		network    string
		want       bool
	}{
		{sasl.PlainCredential{Username: "alice", Password: "secret"}, "udp", true},
		{sasl.PlainCredential{Username: "alice", Password: "secret"}, "tcp", false},
		{sasl.AnonymousCredential{}, "udp", true},
		{sasl.CramCredential{Username: "alice", Challenge: cram.Challenge, Response: cram.Response}, "udp", false},
	} {
		broker, peer := &fakeBroker{}, testPeer
		peer.Network = test.network
		session, _, err := newBackend(auth, broker, testPolicy).Authenticate(t.Context(), peer, test.credential)
		if err == nil {
			_, err = session.Create(t.Context(), tsp.Request{Type: tsp.V6V4})
		}
		if err != nil || broker.request.Forgeable != test.want {
			t.Errorf("%v over %s: forgeable %v, %v", test.credential, test.network, broker.request.Forgeable, err)
		}
	}
}

func wantCode(t *testing.T, err error, code tsp.Code) {
	t.Helper()
	var status *tsp.StatusError
	switch {
	case code == 0 && err != nil:
		t.Errorf("error %v, want none", err)
	case code != 0 && (!errors.As(err, &status) || status.Code != code):
		t.Errorf("error %v, want code %d", err, code)
	}
}

// newSession is a dialogue of alice.
func newSession(broker broker) *session {
	b := newBackend(aaa.Chain{aaatest.NewFake("ddtb")}, broker, testPolicy)
	return &session{backend: b, peer: testPeer, subscriber: aaa.Subscriber{Name: "alice"}}
}

func TestBackendCreate(t *testing.T) {
	fake := &fakeBroker{}
	s := newSession(fake)
	offer, err := s.Create(t.Context(), tsp.Request{Type: tsp.V6UDPV4, Router: true, PrefixLen: 56, Keepalive: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	wantRequest := provision.Request{
		Subscriber: s.subscriber, Encap: datapath.V6UDPV4, Client: testPeer.Remote, Local: testPeer.Local,
		Router: true, PrefixLen: 56, Keepalive: 20 * time.Second,
	}
	same := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	if diff := cmp.Diff(wantRequest, fake.request, same); diff != "" {
		t.Errorf("request: %s", diff)
	}
	wantOffer := tsp.Offer{
		Type: tsp.V6UDPV4, Lifetime: time.Hour, ServerIPv4: testPeer.Local.Addr(),
		ServerIPv6: netip.MustParseAddr("2001:db8:f000::1"), ClientIPv6: netip.MustParseAddr("2001:db8:f000:1::7"),
		Resolvers: testPolicy.resolvers, Keepalive: 30 * time.Second, KeepaliveTo: netip.MustParseAddr("2001:db8:f000::1"),
		Prefix: netip.MustParsePrefix("2001:db8:1000:700::/56"), MTU: 1280,
	}
	if diff := cmp.Diff(wantOffer, offer, same); diff != "" {
		t.Errorf("offer: %s", diff)
	}
	if _, err := s.Create(t.Context(), tsp.Request{Type: tsp.V6V4}); err != nil {
		t.Fatal(err)
	}
	if fake.request.Encap != datapath.V6V4 {
		t.Errorf("encapsulation %v for v6v4", fake.request.Encap)
	}
	if err := s.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Reject(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"offer", "reject id1", "offer", "activate id2"}; !slices.Equal(fake.calls, want) {
		t.Errorf("broker was asked %v, want %v", fake.calls, want)
	}
}

func TestBackendCreateErrors(t *testing.T) {
	if _, err := newSession(&fakeBroker{err: provision.ErrPrefixLength}).Create(t.Context(), tsp.Request{Type: tsp.V6V4}); err == nil {
		t.Error("no error")
	} else {
		wantCode(t, err, 507)
	}
	_, err := newSession(&fakeBroker{}).Create(t.Context(), tsp.Request{Type: tsp.V4V6})
	wantCode(t, err, 303)
	offer, err := newSession(&fakeBroker{}).Create(t.Context(), tsp.Request{Type: tsp.V6V4})
	if err != nil || offer.Keepalive != 0 {
		t.Errorf("keepalive %v told to a client that asked for none (%v)", offer.Keepalive, err)
	}
}

// TestBackendInfo: between create and accept, info is about what was offered; if that is gone, it is what accept would hear.
func TestBackendInfo(t *testing.T) {
	fake := &fakeBroker{owned: []provision.Session{{ID: "old", Encap: datapath.V6V4, Client: testPeer.Remote, Local: testPeer.Local,
		Subscriber: aaa.Subscriber{Name: "alice"}, Endpoint: netip.MustParseAddr("2001:db8:f000:1::6")}}}
	s := newSession(fake)
	offer, err := s.Create(t.Context(), tsp.Request{Type: tsp.V6UDPV4, Keepalive: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := s.Info(t.Context()); err != nil || info.Type != offer.Type || info.ClientIPv6 != offer.ClientIPv6 || info.Prefix != offer.Prefix {
		t.Errorf("info %+v, %v; offered was %+v", info, err, offer)
	}
	fake.offer = provision.Session{}
	_, err = s.Info(t.Context())
	wantCode(t, err, 521)
}

// TestBackendOwn: delete and info are about the tunnel of the client that asks, or the only one, never another's.
func TestBackendOwn(t *testing.T) {
	guest := aaa.Subscriber{Anonymous: true}
	tunnel := func(id string, encap datapath.Encap, client string, of aaa.Subscriber) provision.Session {
		return provision.Session{ID: id, Encap: encap, Client: netip.MustParseAddrPort(client), Local: testPeer.Local, Subscriber: of}
	}
	alice := aaa.Subscriber{Name: "alice"}
	elsewhere := tunnel("elsewhere", datapath.V6UDPV4, "198.51.100.10:40000", alice)
	neighbour := tunnel("neighbour", datapath.V6UDPV4, "198.51.100.9:40001", alice)
	here := tunnel("here", datapath.V6UDPV4, "198.51.100.9:40000", alice)
	direct := tunnel("direct", datapath.V6V4, "198.51.100.9:0", alice)
	guestHere := tunnel("guest", datapath.V6UDPV4, "198.51.100.9:40000", guest)
	for _, test := range []struct {
		name    string
		owned   []provision.Session
		as      aaa.Subscriber
		network string
		want    string // "": 500
	}{
		{"none", nil, alice, "udp", ""},
		{"the only one", []provision.Session{elsewhere}, alice, "udp", "elsewhere"},
		{"the one from here", []provision.Session{elsewhere, here}, alice, "udp", "here"},
		{"not by the port of a connection", []provision.Session{elsewhere, here}, alice, "tcp", ""},
		{"protocol 41 from here", []provision.Session{elsewhere, direct}, alice, "tcp", "direct"},
		{"none from here", []provision.Session{elsewhere, neighbour}, alice, "udp", ""},
		{"a guest's own", []provision.Session{guestHere}, guest, "udp", "guest"},
		{"a guest, who asks for a subscriber's", []provision.Session{here}, guest, "udp", ""},
		{"a guest from another port", []provision.Session{tunnel("other", datapath.V6UDPV4, "198.51.100.9:40001", guest)}, guest, "udp", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := &fakeBroker{owned: test.owned}
			s := newSession(fake)
			s.subscriber, s.peer.Network = test.as, test.network
			_, infoErr := s.Info(t.Context())
			deleteErr := s.Delete(t.Context())
			if test.want == "" {
				wantCode(t, infoErr, 500)
				wantCode(t, deleteErr, 500)
				return
			}
			if want := []string{"release " + test.want + " User-Request"}; infoErr != nil || deleteErr != nil || !slices.Equal(fake.calls, want) {
				t.Errorf("%v, %v, broker was asked %v, want %v", infoErr, deleteErr, fake.calls, want)
			}
		})
	}
}
