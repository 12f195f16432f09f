// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"ddtb/aaa/radius/radiustest"
	"ddtb/provision"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// TestRootFullDisk: while the disk of the state directory takes no more, new sessions are refused and the old ones go on; once
// there is room again everything that was in force is billed, and nothing else.
func TestRootFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a file system of a test's own needs root")
	}
	server := radiustest.Start(t, radiusUsers+"\nbob\tCleartext-Password := \"builder\"\n")
	s := radiusSite(t, server)
	state := filepath.Join(s.dir, "state")
	if err := errors.Join(os.Mkdir(state, 0o700), unix.Mount("tmpfs", state, "tmpfs", 0, "size=4m")); err != nil {
		t.Fatal(err)
	}
	r := s.start(t)
	t.Cleanup(func() {
		if err := errors.Join(r.stop(), unix.Unmount(state, unix.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
	alice := tsp.Client{User: "alice", Password: "wonderland", Mechanisms: []sasl.Mechanism{sasl.Plain}}
	bob := tsp.Client{User: "bob", Password: "builder", Mechanisms: []sasl.Mechanism{sasl.Plain}}
	if _, err := s.login(t, "udp", alice, tsp.Request{Type: tsp.V6UDPV4}); err != nil {
		t.Fatal(err)
	}
	before := r.only(t)
	ids := []string{before.ID}

	ballast := filepath.Join(state, "ballast")
	fill(t, ballast)
	login := func() error {
		_, err := s.login(t, "udp", bob, tsp.Request{Type: tsp.V6UDPV4})
		if err == nil {
			ids = append(ids, r.broker.Owned("bob")[0].ID)
		}
		return err
	}
	refused := 0
	for range 100 { // there is room in the pages that the files have already
		if err := login(); err != nil {
			var status *tsp.StatusError
			if !errors.As(err, &status) || status.Code != tsp.StatusBusy && status.Code != tsp.StatusInProgress { // whose journal was full first
				t.Errorf("error %v, want 530 or 521", err)
			}
			if refused++; refused == 3 {
				break
			}
		}
	}
	if refused < 3 {
		t.Error("the disk is full and sessions begin")
	}
	if now, ok := r.broker.Session(before.ID); !ok || now.State != provision.Active {
		t.Errorf("session %+v, before the disk was full it was %+v", now, before)
	}
	for _, session := range r.sessions(t) {
		if !slices.Contains(ids, session.ID) {
			t.Errorf("session %+v, its client was refused", session)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	await(t, "a login", func() bool { return login() == nil })
	for _, user := range []string{"alice", "bob"} {
		if _, err := r.ctl.KickUser(t.Context(), user); err != nil {
			t.Error(err)
		}
	}
	for _, id := range ids {
		await(t, "the bill", func() bool { kinds, _ := billed(server, id); return slices.Equal(kinds, []string{"Start", "Stop"}) })
	}
	for _, record := range server.Records() {
		if id := record["Acct-Session-Id"]; id != "" && !slices.Contains(ids, id) {
			t.Errorf("session %s was billed, none of those that were in force", id)
		}
	}
}

// fill writes a file until the disk takes no more.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for size := 1 << 16; size > 0; {
		if _, err := file.Write(make([]byte, size)); err != nil {
			size /= 16
		}
	}
}
