// SPDX-License-Identifier: GPL-2.0-or-later

package aaa_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/aaa/aaatest"
)

// backend answers always the same.
type backend struct {
	mechanisms []aaa.Mechanism
	name       string
	err        error
	asked      *int
}

func (b backend) Mechanisms() []aaa.Mechanism { return b.mechanisms }

func (b backend) Authenticate(context.Context, aaa.Login) (aaa.Subscriber, error) {
	*b.asked++
	if b.err != nil {
		return aaa.Subscriber{}, fmt.Errorf("%s: %w", b.name, b.err)
	}
	return aaa.Subscriber{Backend: b.name}, nil
}

func TestChain(t *testing.T) {
	plain := []aaa.Mechanism{aaa.MechanismPlain}
	both := []aaa.Mechanism{aaa.MechanismDigestMD5, aaa.MechanismPlain}
	for _, tc := range []struct {
		name   string
		first  error
		second error
		m      aaa.Mechanism
		want   string // backend that let in
		err    error
		asked  int
	}{
		{"the first knows", nil, nil, aaa.MechanismPlain, "first", nil, 1},
		{"unknown goes on", aaa.ErrUnknown, nil, aaa.MechanismPlain, "second", nil, 2},
		{"rejected stops", aaa.ErrRejected, nil, aaa.MechanismPlain, "", aaa.ErrRejected, 1},
		{"unavailable stops", aaa.ErrUnavailable, nil, aaa.MechanismPlain, "", aaa.ErrUnavailable, 1},
		{"throttled stops", aaa.ErrThrottled, nil, aaa.MechanismPlain, "", aaa.ErrThrottled, 1},
		{"a stranger's error stops", errors.ErrUnsupported, nil, aaa.MechanismPlain, "", errors.ErrUnsupported, 1},
		{"nobody knows", aaa.ErrUnknown, aaa.ErrUnknown, aaa.MechanismPlain, "", aaa.ErrUnknown, 2},
		{"only the second verifies it", aaa.ErrRejected, nil, aaa.MechanismDigestMD5, "second", nil, 1},
		{"nobody verifies it", nil, nil, aaa.MechanismCramMD5, "", aaa.ErrUnknown, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked := 0
			chain := aaa.Chain{backend{plain, "first", tc.first, &asked}, backend{both, "second", tc.second, &asked}}
			got, err := chain.Authenticate(t.Context(), aaatest.Login(tc.m, "u", "r", "p"))
			if got.Backend != tc.want || !errors.Is(err, tc.err) || err != nil && tc.err == nil || asked != tc.asked {
				t.Errorf("backend %q, error %v, %d asked; want %q, %v, %d", got.Backend, err, asked, tc.want, tc.err, tc.asked)
			}
		})
	}
}

func TestChainMechanisms(t *testing.T) {
	chain := aaa.Chain{backend{mechanisms: []aaa.Mechanism{aaa.MechanismPlain}}, aaa.Guests{}, aaatest.NewFake("r")}
	want := []aaa.Mechanism{aaa.MechanismDigestMD5, aaa.MechanismCramMD5, aaa.MechanismPlain, aaa.MechanismAnonymous}
	if got := chain.Mechanisms(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := (aaa.Chain{}).Mechanisms(); len(got) != 0 {
		t.Errorf("the empty chain verifies %v", got)
	}
	if _, err := (aaa.Chain{}).Authenticate(t.Context(), aaatest.Login(aaa.MechanismPlain, "u", "r", "p")); !errors.Is(err, aaa.ErrUnknown) {
		t.Errorf("the empty chain: %v", err)
	}
}

func TestGuests(t *testing.T) {
	g := aaa.Guests{Subscriber: aaa.Subscriber{Pool: "guests", SessionTimeout: time.Hour, Name: "not this"}}
	got, err := g.Authenticate(t.Context(), aaatest.Login(aaa.MechanismAnonymous, "", "", ""))
	if err != nil || !got.Anonymous || got.Name != "anonymous" || got.Pool != "guests" || got.SessionTimeout != time.Hour {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := g.Authenticate(t.Context(), aaatest.Login(aaa.MechanismPlain, "u", "r", "p")); !errors.Is(err, aaa.ErrUnknown) {
		t.Errorf("%v, want ErrUnknown", err)
	}
}

func TestAccountants(t *testing.T) {
	record := aaa.Record{
		Status: aaa.StatusStop, Session: "s1", Subscriber: aaa.Subscriber{Name: "alice"}, Time: time.Unix(1000, 0), TunnelID: 7,
		Encap: "v6udpv4", Client: aaatest.Client, Endpoint: netip.MustParseAddr("2001:db8::7"), Prefix: netip.MustParsePrefix("2001:db8:7::/48"),
		SessionTime: time.Minute, Octets: aaa.Traffic{Input: 1, Output: 2}, Packets: aaa.Traffic{Input: 3, Output: 4}, Cause: aaa.CauseLostCarrier,
	}
	if err := (aaa.Discard{}).Account(t.Context(), record); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	if err := (aaa.LogAccountant{Logger: zerolog.New(&out)}).Account(t.Context(), record); err != nil {
		t.Error(err)
	}
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"status": "Stop", "session": "s1", "user": "alice", "tunnel": 7.0, "encap": "v6udpv4", "client": "192.0.2.10:40000",
		"endpoint": "2001:db8::7", "prefix": "2001:db8:7::/48", "duration": 60000.0, "octets_in": 1.0, "octets_out": 2.0,
		"packets_in": 3.0, "packets_out": 4.0, "cause": "Lost-Carrier",
	} {
		if line[key] != want {
			t.Errorf("%s: %v, want %v", key, line[key], want)
		}
	}
	out.Reset()
	_ = aaa.LogAccountant{Logger: zerolog.New(&out)}.Account(t.Context(), aaa.Record{Status: aaa.StatusOn, Time: time.Unix(1000, 0)})
	if got := out.String(); !strings.Contains(got, "Accounting-On") || strings.Contains(got, "client") {
		t.Errorf("of no session: %s", got)
	}
}

// TestChainShared: what is offered to everybody has to fit everybody's account, wherever that is.
func TestChainShared(t *testing.T) {
	with := func(m ...aaa.Mechanism) aaa.Authenticator { return backend{mechanisms: m} }
	all := with(aaa.MechanismDigestMD5, aaa.MechanismCramMD5, aaa.MechanismPlain)
	for _, tc := range []struct {
		name  string
		chain aaa.Chain
		want  []aaa.Mechanism
	}{
		{"nobody", nil, nil},
		{"one", aaa.Chain{all}, all.Mechanisms()},
		{"one can less", aaa.Chain{all, with(aaa.MechanismPlain)}, []aaa.Mechanism{aaa.MechanismPlain}},
		{"strongest first", aaa.Chain{all, with(aaa.MechanismPlain, aaa.MechanismDigestMD5)}, []aaa.Mechanism{aaa.MechanismDigestMD5, aaa.MechanismPlain}},
		{"nothing in common", aaa.Chain{with(aaa.MechanismCramMD5), with(aaa.MechanismPlain)}, nil},
		{"guests have no account", aaa.Chain{all, aaa.Guests{}}, all.Mechanisms()},
		{"a backend with accounts that lets guests in", aaa.Chain{with(aaa.MechanismPlain, aaa.MechanismAnonymous)}, []aaa.Mechanism{aaa.MechanismPlain}},
	} {
		if got := tc.chain.Shared(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}
