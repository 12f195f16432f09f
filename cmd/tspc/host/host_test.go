// SPDX-License-Identifier: GPL-2.0-or-later

package host

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

// memory is a kernel of changes.
type memory struct {
	t     *testing.T
	there []change
	fails kind // Do of this kind fails
	stuck kind // Undo of this kind fails
	steps []string
	// journal must list what is there at any time.
	journal string
}

func (m *memory) Link(name string, mtu int) error {
	m.steps = append(m.steps, "link "+name)
	return nil
}

func (m *memory) Look(c change) (string, bool, error) {
	return "old of " + string(c.Kind), slices.Contains(m.there, c), nil
}

func (m *memory) Do(c change) error {
	if b, err := os.ReadFile(m.journal); err != nil || !strings.Contains(string(b), string(c.Kind)) {
		m.t.Errorf("%v is made before it is in the journal", c)
	}
	switch {
	case c.Kind == m.fails:
		return errors.New("broken")
	case slices.Contains(m.there, c):
		return fs.ErrExist
	}
	m.there = append(m.there, c)
	m.steps = append(m.steps, "do "+c.String())
	return nil
}

func (m *memory) Undo(c change, old string) error {
	if c.Kind == m.stuck {
		return errors.New("stuck")
	}
	if old != "old of "+string(c.Kind) {
		m.t.Errorf("undo of %v with %q", c, old)
	}
	m.there = slices.DeleteFunc(m.there, func(have change) bool { return have == c })
	m.steps = append(m.steps, "undo "+c.String())
	return nil
}

// newMemory makes a Host over a memory.
func newMemory(t *testing.T) (*Host, *memory) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tun.journal")
	m := &memory{t: t, journal: path}
	return &Host{kernel: m, log: zerolog.Nop(), journal: journal(path)}, m
}

func (m *memory) take() []string {
	steps := m.steps
	m.steps = nil
	return steps
}

func TestApplyMakesTheDifference(t *testing.T) {
	h, m := newMemory(t)
	if err := h.Apply(asHost()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"link tun", "do address 2001:db8::2/128 on tun", "do route 2001:db8::1/128 into tun", "do route ::/0 into tun",
	}, m.take()); diff != "" {
		t.Fatalf("first (-want +got):\n%s", diff)
	}

	if err := h.Apply(asHost()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"link tun"}, m.take()); diff != "" {
		t.Fatalf("again (-want +got):\n%s", diff)
	}

	moved := asRouter()
	moved.Default = netip.Prefix{}
	if err := h.Apply(moved); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"undo route ::/0 into tun", "link tun", "do unreachable route 2001:db8:1::/48",
		"do address 2001:db8:1::1/64 on lan0", "do address 2001:db8:1:1::1/64 on lan1", "do IPv6 forwarding",
	}, m.take()); diff != "" {
		t.Fatalf("change (-want +got):\n%s", diff)
	}

	if err := h.Clear(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"undo IPv6 forwarding", "undo address 2001:db8:1:1::1/64 on lan1", "undo address 2001:db8:1::1/64 on lan0",
		"undo unreachable route 2001:db8:1::/48", "undo route 2001:db8::1/128 into tun", "undo address 2001:db8::2/128 on tun",
	}, m.take()); diff != "" {
		t.Fatalf("clear (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(string(h.journal)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the journal is still there: %v", err)
	}
}

func TestApplyRepairs(t *testing.T) {
	h, m := newMemory(t)
	if err := h.Apply(asHost()); err != nil {
		t.Fatal(err)
	}
	m.there = m.there[:1] // somebody flushed the routes
	m.take()
	if err := h.Apply(asHost()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"link tun", "do route 2001:db8::1/128 into tun", "do route ::/0 into tun"}, m.take()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatWasThereStays(t *testing.T) {
	h, m := newMemory(t)
	m.there = []change{{Kind: kindForwarding}}
	if err := h.Apply(asRouter()); err != nil {
		t.Fatal(err)
	}
	if err := h.Clear(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]change{{Kind: kindForwarding}}, m.there, cmp.Comparer(func(a, b change) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFailureOnTheWayIsUndone(t *testing.T) {
	h, m := newMemory(t)
	m.fails = kindForwarding
	if err := h.Apply(asRouter()); err == nil || !strings.Contains(err.Error(), "IPv6 forwarding: broken") {
		t.Fatalf("%v", err)
	}
	if err := h.Clear(); err != nil {
		t.Fatal(err)
	}
	if len(m.there) != 0 {
		t.Errorf("left: %v", texts(m.there))
	}
}

// TestStuckStaysInTheJournal: what cannot be taken back now is tried again, and the rest goes.
func TestStuckStaysInTheJournal(t *testing.T) {
	h, m := newMemory(t)
	if err := h.Apply(asRouter()); err != nil {
		t.Fatal(err)
	}
	m.stuck = kindForwarding
	if err := h.Clear(); err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff([]string{"IPv6 forwarding"}, texts(m.there)); diff != "" {
		t.Fatalf("left (-want +got):\n%s", diff)
	}
	m.stuck = ""
	if err := h.recover(); err != nil {
		t.Fatal(err)
	}
	if len(m.there) != 0 {
		t.Errorf("left: %v", texts(m.there))
	}
}

// TestRecover: whenever a process is killed, its successor takes everything back.
func TestRecover(t *testing.T) {
	for killed := range len(plan(asRouter())) {
		h, m := newMemory(t)
		if err := h.Apply(asRouter()); err != nil {
			t.Fatal(err)
		}
		// Killed between journal and kernel: the journal lists one more than there is.
		m.there = m.there[:killed]
		if err := h.journal.write(h.made[:killed+1]); err != nil {
			t.Fatal(err)
		}
		successor := &Host{kernel: m, log: zerolog.Nop(), journal: h.journal}
		if err := successor.recover(); err != nil {
			t.Fatal(err)
		}
		if len(m.there) != 0 {
			t.Errorf("killed after %d: left %v", killed, texts(m.there))
		}
		if _, err := os.Stat(string(h.journal)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("killed after %d: the journal is still there", killed)
		}
	}
}

func TestDamagedJournal(t *testing.T) {
	h, _ := newMemory(t)
	if err := os.WriteFile(string(h.journal), []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.recover(); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v", err)
	}
}

func TestOneProcessAnInterface(t *testing.T) {
	folder := t.TempDir()
	first, err := Open(folder, "tun", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(folder, "tun", zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "in use by another") {
		t.Errorf("second: %v", err)
	}
	other, err := Open(folder, "tun2", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []*Host{first, other} {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	again, err := Open(folder, "tun", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(folder + "/*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
