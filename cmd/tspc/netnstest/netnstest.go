// SPDX-License-Identifier: GPL-2.0-or-later

// Package netnstest gives root tests a network namespace of their own.
package netnstest

import (
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Enter puts the test's goroutine into a new network namespace until the test ends; without root it skips the test. For
// each name there is a cable in it with the ends name and name-peer, which are down and do no duplicate address detection.
// Goroutines the test starts are not in the namespace, but sockets and interfaces made in it stay there.
func Enter(t *testing.T, names ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	own, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Set(before); err != nil {
			t.Error(err) // the thread is not unlocked: it ends with the goroutine
		} else {
			runtime.UnlockOSThread()
		}
		_ = own.Close()
		_ = before.Close()
	})
	for _, name := range names {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = name
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: name + "-peer"}); err != nil {
			t.Fatal(err)
		}
		for _, end := range []string{name, name + "-peer"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+end+"/accept_dad", []byte("0"), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Up sets interfaces up.
func Up(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := netlink.LinkSetUp(Link(t, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// Link finds an interface.
func Link(t *testing.T, name string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("interface %s: %v", name, err)
	}
	return link
}

// Address gives an interface an address with its prefix length.
func Address(t *testing.T, name, address string) {
	t.Helper()
	parsed, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(Link(t, name), parsed); err != nil {
		t.Fatal(err)
	}
}
