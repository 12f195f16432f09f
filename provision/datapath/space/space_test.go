// SPDX-License-Identifier: GPL-2.0-or-later

package space

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// apart opens a namespace that nothing else is in.
func apart(t *testing.T) *Space {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	outside, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	inside, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	s, err := Open()
	if err := errors.Join(err, netns.Set(outside)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestRootApart: whatever is asked of a Space is its namespace's, from whichever thread.
func TestRootApart(t *testing.T) {
	here, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	const name = "ipv6/conf/lo/mtu" // each namespace has its own
	before, err := here.Sysctl(name)
	if err != nil {
		t.Fatal(err)
	}
	there := apart(t)
	if err := there.SetSysctl(name, 4321); err != nil {
		t.Fatal(err)
	}
	if value, err := there.Sysctl(name); value != 4321 || err != nil {
		t.Errorf("Sysctl: %d, %v, want 4321", value, err)
	}
	if value, err := here.Sysctl(name); value != before || err != nil {
		t.Errorf("Sysctl outside: %d, %v, want %d as before", value, err, before)
	}
	if links, err := Whole(there.Netlink.LinkList); err != nil || len(links) == 0 || links[0].Attrs().Name != "lo" {
		t.Errorf("LinkList: %v, %v, want a new namespace's", links, err)
	}
	sour := errors.New("sour")
	if err := there.Do(func() error { return sour }); !errors.Is(err, sour) {
		t.Errorf("Do: %v, want what its function said", err)
	}
}

func TestRootForwards(t *testing.T) {
	s := apart(t)
	for value, want := range []string{"sysctl -w net.ipv6.conf.all.forwarding=1", ""} {
		if err := s.SetSysctl("ipv6/conf/all/forwarding", value); err != nil {
			t.Fatal(err)
		}
		switch err := s.Forwards(); {
		case want == "" && err != nil:
			t.Errorf("forwarding is %d: %v", value, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("forwarding is %d: %v, want %q in it", value, err, want)
		}
	}
}

func TestWhole(t *testing.T) {
	for interrupted, want := range map[int]error{0: nil, 3: nil, 1000: netlink.ErrDumpInterrupted} {
		calls := 0
		_, err := Whole(func() ([]int, error) {
			if calls++; calls <= interrupted {
				return nil, netlink.ErrDumpInterrupted
			}
			return []int{1}, nil
		})
		if !errors.Is(err, want) {
			t.Errorf("interrupted %d times: %v, want %v", interrupted, err, want)
		}
	}
}
