// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// site is a namespace with an uplink and a core interface, for the thread of one test.
type site struct {
	*testing.T
	config datapath.Config
}

// newSite leaves the test on a thread in a namespace of its own.
func newSite(t *testing.T) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	enterSpace(t)
	s := &site{T: t, config: rigConfig()}
	s.config.Device, s.config.Uplinks, s.config.Cores = "dptun", []string{"dpup"}, []string{"dpcore"}
	for _, name := range []string{"dpup", "dpcore"} {
		check(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500}, PeerName: name + "x"}))
		s.sysctl("ipv6/conf/"+name+"x/disable_ipv6", "1") // the far end is no host of this namespace's
		for _, end := range []string{name, name + "x"} {
			check(t, netlink.LinkSetUp(s.link(end)))
		}
	}
	s.sysctl("ipv6/conf/all/forwarding", "1")
	dir := t.TempDir()
	check(t, unix.Mount("bpf", dir, "bpf", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	s.config.PinPath = filepath.Join(dir, "dp")
	return s
}

// enterSpace leaves the test on a thread in a new network namespace.
func enterSpace(tb testing.TB) {
	tb.Helper()
	runtime.LockOSThread()
	outside, err := netns.Get()
	check(tb, err)
	inside, err := netns.New()
	check(tb, err)
	tb.Cleanup(func() {
		check(tb, netns.Set(outside))
		check(tb, errors.Join(inside.Close(), outside.Close()))
		runtime.UnlockOSThread()
	})
}

func (s *site) link(name string) netlink.Link {
	s.Helper()
	l, err := netlink.LinkByName(name)
	check(s, err)
	return l
}

func (s *site) sysctl(name, value string) {
	s.Helper()
	check(s, os.WriteFile("/proc/sys/net/"+name, []byte(value), 0))
}

// open configures a driver.
func (s *site) open(options Options) *Driver {
	s.Helper()
	options.Logger = zerolog.New(zerolog.NewTestWriter(s)).Level(zerolog.InfoLevel)
	d, err := New(options)
	check(s, err)
	s.Cleanup(func() { check(s, d.Close()) })
	check(s, d.Configure(s.Context(), s.config))
	return d
}

// awaits a condition.
func (s *site) await(what string, condition func() bool) {
	s.Helper()
	for end := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("not within 10 s: %s", what)
		}
	}
}

// TestRootRemove: nothing is left of a driver, in whatever mode it was.
func TestRootRemove(t *testing.T) {
	for _, mode := range []Mode{Native, Generic, TC} {
		for _, old := range []bool{false, true} {
			s := newSite(t)
			d, err := New(Options{Mode: mode})
			check(t, err)
			d.quirks.old = old
			check(t, d.Configure(t.Context(), s.config))
			tunnel := (&rig{config: s.config, layout: d.table.layout}).tunnel(5)
			tunnel.Prefix = netip.MustParsePrefix("2001:db8:f00::/48")
			check(t, d.Set(t.Context(), tunnel))
			check(t, d.Close())
			check(t, Remove(t.Context(), s.config, zerolog.Nop()))
			for _, name := range s.config.Uplinks {
				l := s.link(name)
				if x := l.Attrs().Xdp; x != nil && x.Attached {
					t.Errorf("%s: XDP is still attached to %s", mode, name)
				}
				for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
					if filters, err := netlink.FilterList(l, parent); err == nil && len(filters) > 0 {
						t.Errorf("%s: filters of %s: %v", mode, name, filters)
					}
				}
			}
			if _, err := netlink.LinkByName(s.config.Device); !errors.As(err, &netlink.LinkNotFoundError{}) {
				t.Errorf("%s: the device: %v", mode, err)
			}
			routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Protocol: RouteProtocol}, netlink.RT_FILTER_PROTOCOL)
			if err != nil || len(routes) > 0 {
				t.Errorf("%s: routes: %v, %v", mode, routes, err)
			}
			if _, err := os.Stat(s.config.PinPath); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: pins: %v", mode, err)
			}
			check(t, Remove(t.Context(), s.config, zerolog.Nop()))
		}
	}
}

// TestRootRefused: what a Config asks for and the host has not.
func TestRootRefused(t *testing.T) {
	s := newSite(t)
	d, err := New(Options{Mode: TC})
	check(t, err)
	defer d.Close()
	refused := func(name string, change func(*datapath.Config)) {
		t.Helper()
		config := s.config
		change(&config)
		if err := d.Configure(t.Context(), config); err == nil {
			t.Errorf("%s: is taken", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	refused("no such interface", func(c *datapath.Config) { c.Uplinks = []string{"dpnone"} })
	refused("no Ethernet interface", func(c *datapath.Config) { c.Cores = []string{"lo"} })
	refused("no uplink", func(c *datapath.Config) { c.Uplinks = nil })
	refused("no core", func(c *datapath.Config) { c.Cores = nil })
	refused("no device name", func(c *datapath.Config) { c.Device = "" })
	refused("device is another", func(c *datapath.Config) { c.Device = "dpcore" })
	refused("mtu does not fit", func(c *datapath.Config) { c.MTU = 1481 })
	refused("pin path relative", func(c *datapath.Config) { c.PinPath = "dp" })
	refused("pin path elsewhere", func(c *datapath.Config) { c.PinPath = t.TempDir() + "/dp" })
	refused("pool too large", func(c *datapath.Config) {
		c.Pools = []datapath.Pool{{Name: "large", Size: maxSize + 1, EndpointBase: netip.MustParseAddr("2001:db8:e::")}}
	})
	refused("too many local ends", func(c *datapath.Config) {
		for n := range uint16(maxLocal) {
			c.Local = append(c.Local[:len(c.Local):len(c.Local)], netip.AddrPortFrom(rigLocal.Addr(), 4000+n))
		}
	})
	s.sysctl("ipv6/conf/all/forwarding", "0")
	refused("no router", func(*datapath.Config) {})
	s.sysctl("ipv6/conf/all/forwarding", "1")
	check(t, d.Configure(t.Context(), s.config))
	other, err := New(Options{Mode: TC})
	check(t, err)
	defer other.Close()
	if err := other.Configure(t.Context(), s.config); err == nil {
		t.Error("two processes may have one device")
	}
}

// TestRootProbe: what is required is there, and what is missing is told.
func TestRootProbe(t *testing.T) {
	s := newSite(t)
	for _, check := range Probe(s.config) {
		if check.Required && !check.OK {
			t.Errorf("%+v", check)
		}
	}
	s.config.Uplinks = []string{"dpnone"}
	s.sysctl("ipv6/conf/all/forwarding", "0")
	var missing []string
	for _, check := range Probe(s.config) {
		if check.Required && !check.OK {
			missing = append(missing, check.Name)
		}
	}
	if diff := cmp.Diff([]string{"IPv6 forwarding", "interfaces"}, missing); diff != "" {
		t.Error(diff)
	}
}
