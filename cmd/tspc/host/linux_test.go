// SPDX-License-Identifier: GPL-2.0-or-later

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ddtb/cmd/tspc/netnstest"
)

// TestForwarding runs over a folder that looks like /proc/sys/net/ipv6/conf.
func TestForwarding(t *testing.T) {
	conf := func(values map[string]string) linux {
		l := newLinux(t.TempDir())
		for name, value := range values {
			if err := os.MkdirAll(filepath.Join(l.conf, name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(l.conf, name, "forwarding"), []byte(value+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return l
	}
	if _, present, err := conf(map[string]string{"all": "1", "eth0": "1"}).Look(change{Kind: kindForwarding}); err != nil || !present {
		t.Errorf("on before: present %v, %v", present, err)
	}
	l := conf(map[string]string{"all": "0", "default": "0", "eth0": "0", "wg0": "1"})
	old, present, err := l.Look(change{Kind: kindForwarding})
	if err != nil || present || old != "wg0" {
		t.Fatalf("old %q, present %v, %v", old, present, err)
	}
	if err := l.Undo(change{Kind: kindForwarding}, "wg0 gone0"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"all": "0", "wg0": "1"} {
		if got, err := readSetting(l.conf + "/" + name + "/forwarding"); err != nil || got[:1] != want {
			t.Errorf("%s: %q, %v, want %s", name, got, err, want)
		}
	}
}

// namespace puts the test into a new network namespace with the interfaces tun, which is down, and lan0 and lan1.
func namespace(t *testing.T) {
	t.Helper()
	netnstest.Enter(t, "tun", "lan0", "lan1")
	netnstest.Up(t, "tun-peer", "lan0", "lan0-peer", "lan1", "lan1-peer")
}

// snapshot lists addresses and routes of the namespace except those every kernel makes itself, and the forwarding
// settings.
func snapshot(t *testing.T) []string {
	t.Helper()
	var out []string
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if !a.IP.IsLinkLocalUnicast() {
			link, err := netlink.LinkByIndex(a.LinkIndex)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%v %s", a.IPNet, link.Attrs().Name))
		}
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Protocol != unix.RTPROT_KERNEL {
			out = append(out, fmt.Sprintf("%v proto %d type %d metric %d src %v", r.Dst, r.Protocol, r.Type, r.Priority, r.Src))
		}
	}
	paths, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/forwarding")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		value, err := readSetting(path)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.TrimPrefix(path, "/proc/sys/net/ipv6/conf/")+" "+value)
	}
	slices.Sort(out)
	return out
}

func TestRootApplyAndRecover(t *testing.T) {
	namespace(t)
	if err := writeSetting("/proc/sys/net/ipv6/conf/lan1/forwarding", "1"); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t)
	folder := t.TempDir()
	h, err := Open(folder, "tun", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	state := asRouter()
	state.Resolv, state.Resolvers = folder+"/resolv", []netip.Addr{netip.MustParseAddr("2001:db8::53")}
	for range 2 { // the second time nothing is to be done
		if err := h.Apply(state); err != nil {
			t.Fatal(err)
		}
	}
	var added []string
	for _, line := range snapshot(t) {
		if !slices.Contains(before, line) && !strings.Contains(line, "forwarding") {
			added = append(added, line)
		}
	}
	if diff := cmp.Diff([]string{
		"2001:db8:1:1::1/64 lan1",
		"2001:db8:1::/48 proto 203 type 7 metric 1073741824 src <nil>",
		"2001:db8:1::1/64 lan0",
		"2001:db8::1/128 proto 203 type 1 metric 1024 src 2001:db8::2",
		"2001:db8::2/128 tun",
		"::/0 proto 203 type 1 metric 2048 src 2001:db8::2",
	}, added); diff != "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	if value, err := readSetting("/proc/sys/net/ipv6/conf/lan0/forwarding"); err != nil || value != "1" {
		t.Errorf("forwarding of lan0: %q, %v", value, err)
	}
	if link, err := netlink.LinkByName("tun"); err != nil || link.Attrs().MTU != 1280 {
		t.Errorf("tun: %v, %v", link, err)
	}

	// Killed: the successor finds the journal, and somebody removed an address meanwhile.
	_ = h.lock.Close()
	if err := netlink.LinkDel(netnstest.Link(t, "lan0")); err != nil {
		t.Fatal(err)
	}
	successor, err := Open(folder, "tun", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := successor.Close(); err != nil {
		t.Error(err)
	}
	want := slices.DeleteFunc(before, func(line string) bool { return strings.Contains(line, "lan0") })
	if diff := cmp.Diff(want, snapshot(t)); diff != "" {
		t.Errorf("after recovery (-want +got):\n%s", diff)
	}
	if left, _ := filepath.Glob(folder + "/*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestRootEachKindIsUndone: also when what is to be undone is gone.
func TestRootErrors(t *testing.T) {
	namespace(t)
	l := newLinux("/proc/sys")
	for _, c := range plan(asRouter()) {
		if c.Kind == kindForwarding {
			continue
		}
		if err := l.Undo(c, ""); err != nil {
			t.Errorf("undo of %v that is not there: %v", c, err)
		}
	}
	gone := change{Kind: kindAddress, Interface: "nowhere", Prefix: netip.MustParsePrefix("2001:db8::1/64")}
	var noLink netlink.LinkNotFoundError
	if _, _, err := l.Look(gone); !errors.As(err, &noLink) || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("missing interface: %v", err)
	}
	if err := l.Undo(gone, ""); err != nil {
		t.Errorf("undo on a missing interface: %v", err)
	}
	if err := l.Link("tun", 1280); err != nil {
		t.Fatal(err)
	}
	route := change{Kind: kindRoute, Interface: "tun", Prefix: netip.MustParsePrefix("::/0"), Metric: 7}
	if err := l.Do(route); err != nil {
		t.Fatal(err)
	}
	if err := l.Do(route); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "metric 7") {
		t.Errorf("route twice: %v", err)
	}
	// A route somebody else made is not ours to delete.
	foreign := &netlink.Route{Dst: ipNet(netip.MustParsePrefix("2001:db8:9::/48")), Protocol: unix.RTPROT_STATIC, LinkIndex: 1}
	if lo, err := netlink.LinkByName("lo"); err != nil || netlink.LinkSetUp(lo) != nil || netlink.RouteAdd(foreign) != nil {
		t.Fatal("foreign route")
	}
	if err := l.Undo(change{Kind: kindUnreachable, Prefix: netip.MustParsePrefix("2001:db8:9::/48")}, ""); err != nil {
		t.Error(err)
	}
	if !slices.ContainsFunc(snapshot(t), func(s string) bool { return strings.HasPrefix(s, "2001:db8:9::/48 proto 4 ") }) {
		t.Error("a foreign route was deleted")
	}
}

// TestRootSit: a kernel with the device makes it; one without says so in the agreed way.
func TestRootSit(t *testing.T) {
	namespace(t)
	if err := netlink.LinkDel(netnstest.Link(t, "tun")); err != nil {
		t.Fatal(err)
	}
	h, err := Open(t.TempDir(), "tun", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	state := asHost()
	state.Sit = Sit{Local: netip.MustParseAddr("192.0.2.2"), Remote: netip.MustParseAddr("192.0.2.1")}
	err = h.Apply(state)
	if errors.Is(err, errors.ErrUnsupported) {
		if len(h.made) != 0 {
			t.Errorf("made: %v", h.made)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("tun")
	if err != nil || link.Type() != "sit" {
		t.Fatalf("%v, %v", link, err)
	}
	if err := h.Clear(); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName("tun"); err == nil {
		t.Error("the sit interface is still there")
	}
}

func TestRootPathAndWatch(t *testing.T) {
	namespace(t)
	server := netip.MustParseAddr("192.0.2.1")
	if path, err := PathTo(server); err == nil {
		t.Fatalf("path %v without a route", path)
	}
	changed, stop, err := Watch(zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	netnstest.Address(t, "lan0", "198.51.100.2/24")
	<-changed
	if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: []byte{198, 51, 100, 1}}); err != nil {
		t.Fatal(err)
	}
	<-changed
	path, err := PathTo(server)
	if err != nil {
		t.Fatal(err)
	}
	want := Path{Interface: netnstest.Link(t, "lan0").Attrs().Index, Source: netip.MustParseAddr("198.51.100.2"), Gateway: netip.MustParseAddr("198.51.100.1")}
	if path != want {
		t.Errorf("%v, want %v", path, want)
	}
	if !path.Through("lan0") || path.Through("lan1") {
		t.Error("the path leads through lan0 alone")
	}
	stop()
}
