// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// masquerade makes a NAT router of the kernel at the other end of the second uplink, with a client behind it.
func (e *Env) masquerade(t *testing.T) *station {
	t.Helper()
	homeMAC, insideMAC := net.HardwareAddr{2, 0xdb, 0, 0, 1, 1}, net.HardwareAddr{2, 0xdb, 0, 0, 1, 2}
	home := newSpace(t)
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "in0", HardwareAddr: insideMAC, MTU: 1500}, PeerName: "eth0", PeerHardwareAddr: homeMAC,
		PeerNamespace: netlink.NsFd(home.handle),
	}
	nl := e.nat.nl
	must(t, nl.LinkAdd(veth))
	inside, err := nl.LinkByName("in0")
	must(t, err)
	outside, err := nl.LinkByName("out0")
	must(t, err)
	peer, err := home.nl.LinkByName("eth0")
	must(t, err)
	must(t,
		nl.LinkSetUp(inside), home.nl.LinkSetUp(peer),
		nl.AddrAdd(inside, &netlink.Addr{IPNet: toIPNet(netip.PrefixFrom(natInsideIPv4, 24))}),
		nl.AddrAdd(outside, &netlink.Addr{IPNet: toIPNet(netip.PrefixFrom(natIPv4, 24))}),
		nl.NeighSet(&netlink.Neigh{LinkIndex: inside.Attrs().Index, IP: natClientIPv4.AsSlice(), HardwareAddr: homeMAC, State: netlink.NUD_PERMANENT}),
		nl.NeighSet(&netlink.Neigh{LinkIndex: outside.Attrs().Index, IP: secondIPv4.AsSlice(), HardwareAddr: secondMAC, State: netlink.NUD_PERMANENT}),
	)
	carries(t, e.nat, "in0")
	carries(t, home, "eth0")
	e.nat.do(func() {
		must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
		nft := exec.Command("nft", "-f", "-")
		nft.Stdin = strings.NewReader(`table ip nat {
			chain out {
				type nat hook postrouting priority srcnat
				oifname "out0" meta l4proto udp masquerade to :50000-50999
			}
		}`)
		if out, err := nft.CombinedOutput(); err != nil {
			t.Fatalf("nft: %v: %s", err, out)
		}
	})
	return newStation(t, home, "eth0", homeMAC, insideMAC)
}

// nat has a client behind a NAT log in and use its tunnel, until the NAT gives it another port.
func nat(t *testing.T, e *Env) {
	home := e.masquerade(t)
	tunnel := e.tunnel(0, datapath.V6UDPV4)
	inside := func(port uint16, payload []byte) []byte {
		return ip4{from: natClientIPv4, to: secondIPv4, ttl: 64, protocol: unix.IPPROTO_UDP, payload: udp(port, 3653, payload)}.bytes()
	}
	home.send(unix.ETH_P_IP, inside(4000, []byte("\xf0\x00\x00\xf0\x00\x00\x00\x01")))
	_, mapped := e.daemon(t)
	if mapped.Addr() != natIPv4 || mapped.Port() < 50000 {
		t.Fatalf("the NAT made %s of it", mapped)
	}
	tunnel.Local, tunnel.Remote = secondEnd, mapped
	e.set(t, tunnel)

	up := datagram(tunnel.Endpoint, coreHost, "from behind the NAT")
	home.send(unix.ETH_P_IP, inside(4000, up.bytes()))
	e.atCore(t, up)
	request := ping(tunnel.Endpoint, tunnelServer, make([]byte, 16))
	home.send(unix.ETH_P_IP, inside(4000, request.bytes()))
	down := datagram(coreHost, tunnel.Prefix.Addr().Next(), "to behind the NAT")
	e.fromCore(down)
	arrived := map[string]bool{}
	for end := time.Now().Add(patience); len(arrived) < 2; {
		f, ok := home.receive(time.Until(end))
		if !ok {
			t.Fatalf("arrived: %v; counted: %+v; dropped: %v", arrived, e.state(t, tunnel.ID).Counters, e.drops(t))
		}
		outer, err := parse4(f.payload)
		if err != nil || outer.to != natClientIPv4 || outer.from != secondIPv4 || be.Uint16(outer.payload[2:]) != 4000 {
			continue
		}
		p, err := parse6(outer.payload[udpHeader:])
		if err == nil && isReply(p, request) {
			arrived["reply"] = true
		}
		if err == nil && same(p, down) {
			arrived["packet"] = true
		}
	}
	drop := e.refused(t, datapath.OuterSource, func() { home.send(unix.ETH_P_IP, inside(4001, up.bytes())) })
	if drop.Remote.Addr() != natIPv4 || drop.Remote == mapped || drop.Tunnel != tunnel.ID {
		t.Errorf("the offender is %s of tunnel %d, another port of %s of tunnel %d expected", drop.Remote, drop.Tunnel, natIPv4, tunnel.ID)
	}
}

// flap takes the wire away and back, at the far end and at the server.
func flap(t *testing.T, e *Env) {
	defer e.explain(t)
	tunnel := e.tunnel(0, datapath.V6UDPV4)
	e.set(t, tunnel)
	far, err := e.wire.nl.LinkByName("client0")
	must(t, err)
	near, err := e.server.nl.LinkByName(uplinkDevice)
	must(t, err)
	check := func(what string) {
		t.Helper()
		up, down := datagram(tunnel.Endpoint, coreHost, what), datagram(coreHost, tunnel.Endpoint, what)
		e.fromClient(tunnel, up)
		e.atCore(t, up)
		e.fromCore(down)
		e.atClient(t, tunnel, down)
	}
	check("before")
	must(t, e.wire.nl.LinkSetDown(far), e.wire.nl.LinkSetUp(far))
	e.linked(t)
	check("after the far end was down")
	must(t, e.server.nl.LinkSetDown(near), e.server.nl.LinkSetUp(near))
	e.readdress(t) // a host's network configuration does that
	e.linked(t)
	check("after the uplink was down")
}

// linked awaits that the first wire carries frames again, and opens the stations.
func (e *Env) linked(t *testing.T) {
	t.Helper()
	carries(t, e.server, uplinkDevice)
	carries(t, e.wire, "client0")
	e.reopen(t)
}
