// SPDX-License-Identifier: GPL-2.0-or-later

package aaatest_test

import (
	"context"
	"errors"
	"testing"

	"ddtb/aaa"
	"ddtb/aaa/aaatest"
)

func TestFake(t *testing.T) {
	aaatest.Suite{
		Realm: "isp.example",
		Open: func(_ *testing.T, accounts ...aaatest.Account) aaa.Authenticator {
			return aaatest.NewFake("isp.example", accounts...)
		},
		Unknown: aaa.ErrUnknown,
	}.Run(t)
}

func TestFakeBefore(t *testing.T) {
	f := aaatest.NewFake("r", aaatest.Account{Name: "a", Password: "p"})
	f.Before = func(context.Context, aaa.Login) error { return aaa.ErrUnavailable }
	if _, err := f.Authenticate(t.Context(), aaatest.Login(aaa.MechanismPlain, "a", "r", "p")); !errors.Is(err, aaa.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

func TestRecorder(t *testing.T) {
	var r aaatest.Recorder
	got := make(chan aaa.Record)
	go func() {
		record, err := r.Wait(t.Context(), func(r aaa.Record) bool { return r.Status == aaa.StatusStop })
		if err != nil {
			t.Error(err)
		}
		got <- record
	}()
	for _, record := range []aaa.Record{{Session: "one", Status: aaa.StatusStart}, {Session: "two", Status: aaa.StatusStart}} {
		if err := r.Account(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	sour := errors.New("sour")
	r.Fail(sour)
	if err := r.Account(t.Context(), aaa.Record{Session: "lost"}); !errors.Is(err, sour) {
		t.Errorf("%v, want %v", err, sour)
	}
	r.Fail(nil)
	if err := r.Account(t.Context(), aaa.Record{Session: "one", Status: aaa.StatusStop}); err != nil {
		t.Fatal(err)
	}
	if record := <-got; record.Session != "one" {
		t.Errorf("waited for %+v", record)
	}
	if all, one := r.Records(), r.Session("one"); len(all) != 3 || len(one) != 2 || one[1].Status != aaa.StatusStop {
		t.Errorf("all %+v, of one %+v", all, one)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Wait(ctx, func(aaa.Record) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
