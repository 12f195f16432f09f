// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"ddtb/cmd/tspbench/pktgen"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// TestTunnelArithmetic holds our tunnels against the pool's arithmetic, which the driver goes by.
func TestTunnelArithmetic(t *testing.T) {
	config := datapathConfig(1_000_000)
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	pool := lease.Pool(config.Pools[0])
	for _, n := range []uint32{0, 1, 15, 16, 49_999, 999_999} {
		for _, encap := range []datapath.Encap{datapath.V6UDPV4, datapath.V6V4} {
			tunnel := tunnelAt(encap, n)
			index := tunnelIndex(n)
			if tunnel.ID != pool.ID(index) || tunnel.Endpoint != pool.Endpoint(index) || tunnel.Prefix != pool.Prefix(index) {
				t.Errorf("tunnel %d: %+v does not fit its pool", n, tunnel)
			}
			if err := config.Check(tunnel); err != nil {
				t.Errorf("tunnel %d: %v", n, err)
			}
		}
	}
}

// TestTunnelOuter: no two tunnels share an outer address and port.
func TestTunnelOuter(t *testing.T) {
	for _, encap := range []datapath.Encap{datapath.V6UDPV4, datapath.V6V4} {
		seen := map[netip.AddrPort]bool{}
		for n := range uint32(100_000) {
			outer := tunnelOuter(encap, n)
			if seen[outer] || !clientNet.Contains(outer.Addr()) {
				t.Fatalf("%v tunnel %d: outer address %v twice or outside %v", encap, n, outer, clientNet)
			}
			seen[outer] = true
		}
	}
}

// TestTraffic reads the frames where the generator will write and the sinks will look.
func TestTraffic(t *testing.T) {
	for _, encap := range []datapath.Encap{datapath.V6UDPV4, datapath.V6V4} {
		for _, prefix := range []bool{false, true} {
			tunnel := tunnelAt(encap, 0)
			up, down := tunnelUp(encap, 10, prefix), tunnelDown(10, prefix)
			for _, side := range []struct {
				traffic traffic
				address int // offset of the tunnel's inner address
				mark    int // offset of the UDP destination port
			}{
				{up, ethernetHeader + encap.Overhead() + 8, markTunnel(encap)},
				{down, ethernetHeader + 24, markNative},
			} {
				frame := side.traffic.frame
				inner := netip.AddrFrom16([16]byte(frame[side.address : side.address+16]))
				if prefix && !tunnel.Prefix.Contains(inner) || !prefix && inner != tunnel.Endpoint {
					t.Errorf("%v: inner address %v is not of %+v", encap, inner, tunnel)
				}
				want := side.address
				if !prefix {
					want += 8
				}
				if got := side.traffic.tunnels.Inner; got != want {
					t.Errorf("%v: the generator changes octet %d, want %d", encap, got, want)
				}
				if port := binary.BigEndian.Uint16(frame[side.mark:]); port != markPort {
					t.Errorf("%v: port %d at octet %d, want %d", encap, port, side.mark, markPort)
				}
				if len(frame) < pktgen.MinFrame || len(frame) > pktgen.MaxFrame {
					t.Errorf("%v: frame of %d octets", encap, len(frame))
				}
			}
			if sum := checksum(up.frame[ethernetHeader : ethernetHeader+ipv4Header]); sum != 0 {
				t.Errorf("%v: IPv4 header does not sum up: %#x", encap, sum)
			}
		}
	}
	if port := binary.BigEndian.Uint16(vxlanUp().frame[markVXLAN:]); port != markPort {
		t.Errorf("VXLAN: port %d, want %d", port, markPort)
	}
}
