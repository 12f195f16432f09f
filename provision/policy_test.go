// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/provision/datapath"
)

func TestSessionPolicy(t *testing.T) {
	config := testConfig()
	config.Sessions = Sessions{Limit: 2}
	w := start(t, config)
	one := w.login(request("alice", client(1, 1)))
	w.clock.advance(time.Second)
	two := w.login(request("alice", client(2, 2)))
	w.clock.advance(time.Second)
	if one.Endpoint == two.Endpoint || one.Owner != "alice" || two.Owner != "alice#2" {
		t.Errorf("sessions are %+v and %+v", one, two)
	}
	if owned := w.Owned("alice"); len(owned) != 2 || owned[0].ID != one.ID {
		t.Errorf("alice has %+v", owned)
	}
	w.send(one, 1)
	w.sweepAfter(time.Second) // the second one is the longest silent now
	three := w.login(request("alice", client(3, 3)))
	w.stopped(two, aaa.CausePortPreempted)
	if three.Endpoint != two.Endpoint {
		t.Errorf("the third session has endpoint %v, that of the second was %v", three.Endpoint, two.Endpoint)
	}
	w.forwards(one)
	if err := w.Release(t.Context(), one.ID, aaa.CauseUserRequest); err != nil {
		t.Fatal(err)
	}
	if four := w.login(request("alice", client(4, 4))); four.Endpoint != one.Endpoint {
		t.Errorf("the fourth session has endpoint %v, that of the free slot was %v", four.Endpoint, one.Endpoint)
	}
	if again := w.login(request("alice", client(3, 3))); again.Endpoint != three.Endpoint {
		t.Error("a login from the same outer address did not take its own slot")
	}

	r := request("bob", client(5, 5)) // the backend's word goes before ours
	r.Subscriber.SessionLimit = 1
	b := w.login(r)
	r.Client = client(6, 6)
	w.login(r)
	w.stopped(b, aaa.CausePortPreempted)
}

func TestDenyPolicy(t *testing.T) {
	config := testConfig()
	config.Sessions = Sessions{Deny: true}
	w := start(t, config)
	offer := w.offer(request("alice", client(1, 1)))
	_, err := w.Offer(t.Context(), request("alice", client(2, 2)))
	fails(t, err, ErrInProgress)
	if err := w.Activate(t.Context(), offer.ID); err != nil {
		t.Fatal(err)
	}
	_, err = w.Offer(t.Context(), request("alice", client(2, 2)))
	fails(t, err, ErrDenied)
	w.forwards(w.session(offer.ID))
	same := w.login(request("alice", client(1, 1))) // the same socket: the client began again
	w.clock.advance(2 * time.Minute)                // silent, and not yet swept
	w.login(request("alice", client(2, 2)))
	w.stopped(same, aaa.CausePortPreempted)
}

func TestOwnerOfSlots(t *testing.T) {
	seen := make(map[string]string)
	for _, name := range []string{"a", "a#", "a#2", "a##", "a##2", "a###2", "#", "#2", "##"} {
		for slot := 1; slot <= 12; slot++ {
			owner, who := Owner(name, slot), name+" slot "+string(rune('0'+slot))
			if other, ok := seen[owner]; ok {
				t.Errorf("%s and %s are both %q", who, other, owner)
			}
			seen[owner] = who
		}
	}
	if other, ok := seen[anonymousOwner(sid{})]; ok {
		t.Errorf("anonymous and %s are the same", other)
	}
}

func TestAdmission(t *testing.T) {
	config := testConfig()
	config.MaxSessions, config.MaxNegotiating = 4, 2
	w := start(t, config)
	one := w.offer(request("a", client(1, 1)))
	_, err := w.Offer(t.Context(), anonymous(client(9, 1))) // half of the room is none of theirs
	fails(t, err, ErrBusy)
	two := w.offer(request("b", client(2, 1)))
	_, err = w.Offer(t.Context(), request("c", client(3, 1)))
	fails(t, err, ErrBusy)
	for _, s := range []Session{one, two} {
		if err := w.Activate(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
	}
	w.login(request("c", client(3, 1)))
	w.login(request("d", client(4, 1)))
	_, err = w.Offer(t.Context(), request("e", client(5, 1)))
	fails(t, err, ErrFull)
	_, err = w.Offer(t.Context(), anonymous(client(5, 1)))
	fails(t, err, ErrFull)
	w.login(request("a", client(6, 1))) // takes the place of his own
	w.stopped(one, aaa.CausePortPreempted)
	if status := w.Status(); status.Logins != 5 || status.Refused != 4 || status.Active[datapath.V6UDPV4] != 4 {
		t.Errorf("status is %+v", status)
	}
}

func TestFullPool(t *testing.T) {
	config := testConfig()
	config.AnonymousPerAddress = 1000
	w := start(t, config)
	for n := range 255 {
		w.login(anonymous(client(1, uint16(n+1))))
	}
	_, err := w.Offer(t.Context(), anonymous(client(1, 999)))
	fails(t, err, ErrFull)
}

func TestAnonymous(t *testing.T) {
	config := testConfig()
	config.AnonymousPerAddress = 2
	w := start(t, config)
	one := w.login(anonymous(client(1, 1)))
	w.login(anonymous(client(1, 2)))
	if one.Pool != "guest" || one.Prefix.IsValid() || !one.Subscriber.Anonymous {
		t.Errorf("session is %+v", one)
	}
	_, err := w.Offer(t.Context(), anonymous(client(1, 3)))
	fails(t, err, ErrDenied)
	w.login(anonymous(client(2, 1)))
	r := anonymous(client(3, 1))
	r.Router = true
	_, err = w.Offer(t.Context(), r)
	fails(t, err, ErrAnonymousPrefix)
	if err := w.Release(t.Context(), one.ID, aaa.CauseUserRequest); err != nil {
		t.Fatal(err)
	}
	w.stopped(one, aaa.CauseUserRequest)
	w.login(anonymous(client(1, 3)))
}

func TestKeepaliveAndLifetime(t *testing.T) {
	w := start(t, testConfig())
	for _, c := range []struct{ asked, told time.Duration }{
		{0, 30 * time.Second}, {time.Second, 10 * time.Second}, {time.Minute, time.Minute}, {time.Hour, 5 * time.Minute},
	} {
		r := request("alice", client(1, 1))
		r.Keepalive = c.asked
		if s := w.offer(r); s.Keepalive != c.told || s.Lifetime != 7*24*time.Hour {
			t.Errorf("asked for %v: %+v", c.asked, s)
		}
	}
	r := request("alice", client(1, 1))
	r.Subscriber.SessionTimeout = time.Hour
	if s := w.offer(r); s.Lifetime != time.Hour {
		t.Errorf("lifetime is %v", s.Lifetime)
	}
}

// A subscriber whose last request is still being worked on is told so when he cannot wait any longer.
func TestBusySubscriber(t *testing.T) {
	w := start(t, testConfig())
	if err := w.locks.lock(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.Offer(ctx, request("alice", client(1, 1)))
	fails(t, err, ErrInProgress)
	w.login(request("bob", client(2, 1)))
	w.locks.unlock("alice")
	w.login(request("alice", client(1, 1)))
}
