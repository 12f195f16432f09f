// SPDX-License-Identifier: GPL-2.0-or-later

package tsptest

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// Case is a tsp.Backend to be tested, with a subscriber it knows.
type Case struct {
	Backend  tsp.Backend
	User     string
	Password string
	Peer     tsp.Peer // who is to log in; its Network is "udp"
}

// TestBackend is the suite every tsp.Backend passes. newCase makes one in which the subscriber has no tunnel.
func TestBackend(t *testing.T, newCase func(t *testing.T) Case) {
	for name, test := range map[string]func(*testing.T, Case){
		"capability":         testCapability,
		"right passwords":    testRightPasswords,
		"wrong passwords":    testWrongPasswords,
		"create and accept":  testAccept,
		"info before accept": testInfoBeforeAccept,
		"reject":             testReject,
		"nothing offered":    testNothingOffered,
		"create again":       testCreateAgain,
		"delete":             testDelete,
	} {
		t.Run(name, func(t *testing.T) { test(t, newCase(t)) })
	}
}

func contextOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func testCapability(t *testing.T, c Case) {
	capability := c.Backend.Capability(c.Peer)
	if len(capability.Tunnels) == 0 || len(capability.Mechanisms) == 0 {
		t.Errorf("nothing is offered: %+v", capability)
	}
	for _, tunnel := range capability.Tunnels {
		if tunnel == tsp.V6AnyV4 {
			t.Error("v6anyv4 is not a concrete type")
		}
	}
	if slices.Contains(capability.Mechanisms, sasl.DigestMD5) {
		if err := sasl.ValidateRealm(capability.Realm); err != nil {
			t.Error(err)
		}
	}
}

// credential collects what a client with a password sends.
func credential(t *testing.T, c Case, mechanism sasl.Mechanism, password string) (sasl.Credential, sasl.Client) {
	t.Helper()
	server, err := sasl.NewServer(mechanism, c.Backend.Capability(c.Peer).Realm, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	client, err := sasl.NewClient(mechanism, sasl.Identity{User: c.User, Password: password, Host: "test"}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	challenge, collected := server.Start()
	for collected == nil {
		response, err := client.Next(challenge)
		if err != nil {
			t.Fatal(err)
		}
		if challenge, collected, err = server.Next(response); err != nil {
			t.Fatal(err)
		}
	}
	return collected, client
}

// login logs the subscriber in.
func login(t *testing.T, c Case) tsp.Session {
	t.Helper()
	offered := c.Backend.Capability(c.Peer).Mechanisms
	i := slices.IndexFunc(offered, func(m sasl.Mechanism) bool { return m != sasl.Anonymous })
	if i < 0 {
		t.Fatalf("no mechanism but %v", offered)
	}
	collected, _ := credential(t, c, offered[i], c.Password)
	s, _, err := c.Backend.Authenticate(contextOf(t), c.Peer, collected)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testRightPasswords(t *testing.T, c Case) {
	for _, mechanism := range c.Backend.Capability(c.Peer).Mechanisms {
		collected, client := credential(t, c, mechanism, c.Password)
		s, proof, err := c.Backend.Authenticate(contextOf(t), c.Peer, collected)
		if err != nil || s == nil {
			t.Errorf("%s: %v", mechanism, err)
			continue
		}
		if mechanism != sasl.DigestMD5 {
			continue
		}
		server, err := sasl.NewServer(mechanism, c.Backend.Capability(c.Peer).Realm, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Next(server.Success(proof)); err != nil || !client.Done() {
			t.Errorf("the client does not believe the proof %q: %v", proof, err)
		}
	}
}

func testWrongPasswords(t *testing.T, c Case) {
	for _, mechanism := range c.Backend.Capability(c.Peer).Mechanisms {
		if mechanism == sasl.Anonymous {
			continue
		}
		collected, _ := credential(t, c, mechanism, "not "+c.Password)
		s, _, err := c.Backend.Authenticate(contextOf(t), c.Peer, collected)
		refused(t, string(mechanism), err, tsp.StatusAuthFailed)
		if s != nil {
			t.Errorf("%s: a session all the same", mechanism)
		}
		stranger := c
		stranger.User = "nobody-of-that-name"
		collected, _ = credential(t, stranger, mechanism, c.Password)
		_, _, err = c.Backend.Authenticate(contextOf(t), c.Peer, collected)
		refused(t, string(mechanism)+", unknown name", err, tsp.StatusAuthFailed)
	}
}

// refused checks an error's code; 0 is any.
func refused(t *testing.T, what string, err error, code tsp.Code) {
	t.Helper()
	status := new(tsp.StatusError)
	if !errors.As(err, &status) || code != 0 && status.Code != code {
		t.Errorf("%s: %v, want status %d", what, err, code)
	}
}

// request is one the case's peer could make.
func request(c Case) tsp.Request {
	return tsp.Request{Type: c.Backend.Capability(c.Peer).Tunnels[0], Stated: c.Peer.Remote.Addr(), Keepalive: 30 * time.Second}
}

// create gets an offer and checks that it can be sent.
func create(t *testing.T, c Case, s tsp.Session) tsp.Offer {
	t.Helper()
	offer, err := s.Create(contextOf(t), request(c))
	if err != nil {
		t.Fatal(err)
	}
	if offer.Type != request(c).Type || !offer.ServerIPv6.Is6() || !offer.ClientIPv6.Is6() || offer.ServerIPv6 == offer.ClientIPv6 {
		t.Errorf("offer %+v", offer)
	}
	if offer.Prefix.IsValid() {
		t.Errorf("a prefix nobody asked for: %v", offer.Prefix)
	}
	return offer
}

func testAccept(t *testing.T, c Case) {
	s := login(t, c)
	offer := create(t, c, s)
	if err := s.Accept(contextOf(t)); err != nil {
		t.Fatal(err)
	}
	info, err := login(t, c).Info(contextOf(t))
	if err != nil || info.ClientIPv6 != offer.ClientIPv6 || info.Type != offer.Type {
		t.Errorf("the tunnel is %+v, offered was %+v: %v", info, offer, err)
	}
}

// testInfoBeforeAccept: also when the subscriber has a tunnel in force, which the one that is offered would take the place of.
func testInfoBeforeAccept(t *testing.T, c Case) {
	for _, before := range []string{"without a tunnel", "with one"} {
		s := login(t, c)
		offer := create(t, c, s)
		if info, err := s.Info(contextOf(t)); err != nil || info.ClientIPv6 != offer.ClientIPv6 || info.Type != offer.Type {
			t.Errorf("%s: info is %+v, offered was %+v: %v", before, info, offer, err)
		}
		if err := s.Accept(contextOf(t)); err != nil {
			t.Error(err)
		}
	}
}

func testReject(t *testing.T, c Case) {
	s := login(t, c)
	create(t, c, s)
	if err := s.Reject(contextOf(t)); err != nil {
		t.Fatal(err)
	}
	refused(t, "accept after reject", s.Accept(contextOf(t)), 0)
	_, err := s.Info(contextOf(t))
	refused(t, "info after reject", err, 0)
}

func testNothingOffered(t *testing.T, c Case) {
	s := login(t, c)
	refused(t, "accept", s.Accept(contextOf(t)), 0)
	refused(t, "delete", s.Delete(contextOf(t)), 0)
	_, err := s.Info(contextOf(t))
	refused(t, "info", err, 0)
}

func testCreateAgain(t *testing.T, c Case) {
	s := login(t, c)
	first := create(t, c, s)
	if second := create(t, c, s); second.ClientIPv6 != first.ClientIPv6 {
		t.Errorf("another address the second time: %v, was %v", second.ClientIPv6, first.ClientIPv6)
	}
	if err := s.Accept(contextOf(t)); err != nil {
		t.Error(err)
	}
	again := login(t, c) // the subscriber comes back
	if third := create(t, c, again); third.ClientIPv6 != first.ClientIPv6 {
		t.Errorf("another address after coming back: %v, was %v", third.ClientIPv6, first.ClientIPv6)
	}
	if err := again.Accept(contextOf(t)); err != nil {
		t.Error(err)
	}
}

func testDelete(t *testing.T, c Case) {
	s := login(t, c)
	create(t, c, s)
	if err := s.Accept(contextOf(t)); err != nil {
		t.Fatal(err)
	}
	s = login(t, c)
	if err := s.Delete(contextOf(t)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Info(contextOf(t))
	refused(t, "info after delete", err, 0)
}
