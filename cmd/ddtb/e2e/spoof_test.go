// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"ddtb/provision/control"
)

// Nobody speaks in another's name: forged inner sources, forged outer sources, and packets with a tunnel's source that
// come in no tunnel at all do not pass, and each is counted.
func TestRootSpoofing(t *testing.T) {
	isp := serve(t, nil)
	_, victim := subscribe(t, isp, isp.Natted, "alice", "")
	tunnel, mine := foreign(t, isp.Open, readDialogue(t, "udp-anonymous-host.hex"))
	stranger := dial(t, isp.Open, "udp", netip.AddrPortFrom(ServerIPv4, 3653).String())
	proto41 := dial(t, isp.Open, "ip4:41", ServerIPv4.String())

	var listener *net.UDPConn
	must(t, isp.Beyond.Do(func() (err error) {
		listener, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(BeyondIPv6, 7000)))
		return err
	}))
	defer listener.Close()
	target := listener.LocalAddr().(*net.UDPAddr).AddrPort()

	outside := netip.MustParseAddr("2001:db8:dead::1")
	for _, c := range []struct {
		name   string
		socket net.Conn
		source netip.Addr
	}{
		{"another's endpoint in my tunnel", tunnel, victim},
		{"another's prefix in my tunnel", tunnel, Prefixes.Addr().Next()},
		{"a foreign address in my tunnel", tunnel, outside},
		{"the server's address in my tunnel", tunnel, TunnelIPv6},
		{"my endpoint from another port", stranger, mine.endpoint},
		{"another's endpoint from a stranger", stranger, victim},
		{"another's endpoint in protocol 41", proto41, victim},
		{"my endpoint in protocol 41", proto41, mine.endpoint},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := drops(t, isp)
			_, err := c.socket.Write(udpPacket(netip.AddrPortFrom(c.source, 7001), target, []byte(c.name)))
			must(t, err)
			must(t, Await(patience, func() error {
				if now := drops(t, isp); now <= before {
					return fmt.Errorf("%d drops counted, %d before", now, before)
				}
				return nil
			}))
		})
	}

	// What is honest passes, and it is the first that does.
	_, err := tunnel.Write(udpPacket(netip.AddrPortFrom(mine.endpoint, 7001), target, []byte("honest")))
	must(t, err)
	must(t, listener.SetReadDeadline(time.Now().Add(patience)))
	buffer := make([]byte, 2048)
	n, from, err := listener.ReadFromUDPAddrPort(buffer)
	must(t, err)
	if string(buffer[:n]) != "honest" || from.Addr() != mine.endpoint {
		t.Errorf("%q came through from %s", buffer[:n], from)
	}
}

// drops counts the packets dropped for whatever reason.
func drops(t *testing.T, isp *ISP) uint64 {
	t.Helper()
	list, err := List[control.Drop](isp, "drop", "list")
	must(t, err)
	var packets uint64
	for _, drop := range list {
		packets += drop.Packets
	}
	return packets
}
