// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// BenchmarkXDP is the time the program takes for a packet of one tunnel, without driver and interface.
func BenchmarkXDP(b *testing.B) {
	r := newRig(b, rigConfig(), Options{NextHop: Fixed})
	tunnel := r.tunnel(7)
	r.set(tunnel)
	for name, frame := range map[string][]byte{
		"left":   ethernet(rigMAC, rigClient, unix.ETH_P_ARP, make([]byte, 50)),
		"forged": upFrame(tunnel, innerPacket(r.tunnel(8).Endpoint, rigHost, 24)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ResetTimer()
			_, duration, err := r.program.Benchmark(frame, b.N, nil)
			check(b, err)
			b.ReportMetric(float64(duration.Nanoseconds()), "ns/packet")
		})
	}
}

// openBench configures a driver with n tunnels' room in a namespace of its own.
func openBench(b *testing.B, n uint32) (*Driver, []datapath.Tunnel) {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("network namespaces need root")
	}
	dir := b.TempDir()
	check(b, unix.Mount("bpf", dir, "bpf", 0, ""))
	b.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	enterSpace(b)
	for _, name := range []string{"dpup", "dpcore"} {
		check(b, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500}, PeerName: name + "x"}))
	}
	check(b, os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0))
	d, err := New(Options{Mode: TC})
	check(b, err)
	config := rigConfig()
	config.Device, config.Uplinks, config.Cores, config.PinPath = "dptun", []string{"dpup"}, []string{"dpcore"}, filepath.Join(dir, "dp")
	config.Pools = []datapath.Pool{{Name: "bench", Size: n + 1, EndpointBase: netip.MustParseAddr("2001:db8:e::"), PrefixBase: netip.MustParseAddr("3fff::"), PrefixLen: 56}}
	check(b, d.Configure(b.Context(), config))
	b.Cleanup(func() { check(b, d.Close()) })
	r := rig{config: config, layout: d.table.layout}
	tunnels := make([]datapath.Tunnel, n)
	for i := range tunnels {
		tunnels[i] = r.tunnel(uint32(i + 1))
	}
	return d, tunnels
}

// BenchmarkDriver is what the broker asks of it, at several numbers of tunnels.
func BenchmarkDriver(b *testing.B) {
	for _, n := range []uint32{1000, 50_000, 1_000_000} {
		d, tunnels := openBench(b, n)
		check(b, d.Set(context.Background(), tunnels...))
		session := uint64(0)
		b.Run(fmt.Sprintf("set new session %d", n), func(b *testing.B) {
			for b.Loop() {
				session++
				for i := range tunnels {
					tunnels[i].Session = session
				}
				check(b, d.Set(context.Background(), tunnels...))
			}
		})
		b.Run(fmt.Sprintf("set again %d", n), func(b *testing.B) {
			for b.Loop() {
				check(b, d.Set(context.Background(), tunnels...))
			}
		})
		b.Run(fmt.Sprintf("all %d", n), func(b *testing.B) {
			for b.Loop() {
				seen := 0
				for _, err := range d.All(context.Background()) {
					check(b, err)
					seen++
				}
				if seen != len(tunnels) {
					b.Fatalf("%d of %d", seen, len(tunnels))
				}
			}
		})
		b.Run(fmt.Sprintf("set one again of %d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				check(b, d.Set(context.Background(), tunnels[0]))
			}
		})
		b.Run(fmt.Sprintf("delete 64 at once and set of %d", n), func(b *testing.B) {
			for b.Loop() {
				var all errgroup.Group
				for _, t := range tunnels[:64] {
					all.Go(func() error { _, err := d.Delete(context.Background(), t.ID); return err })
				}
				check(b, all.Wait())
				check(b, d.Set(context.Background(), tunnels[:64]...))
			}
		})
		b.Run(fmt.Sprintf("delete and set of %d", n), func(b *testing.B) {
			for b.Loop() {
				_, err := d.Delete(context.Background(), tunnels[0].ID)
				check(b, err)
				check(b, d.Set(context.Background(), tunnels[0]))
			}
		})
	}
}
