// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"net/netip"
	"testing"

	"ddtb/provision/datapath"
)

func TestAt(t *testing.T) {
	w := start(t, testConfig())
	udp := w.login(request("alice", client(1, 1)))
	direct := w.login(v6v4(request("bob", client(2, 1))))
	offer := w.offer(request("carol", client(3, 1)))
	for name, c := range map[string]struct {
		encap  datapath.Encap
		client netip.AddrPort
		local  netip.AddrPort
		want   string
	}{
		"over UDP":            {datapath.V6UDPV4, udp.Client, udp.Local, udp.ID},
		"another port":        {datapath.V6UDPV4, client(1, 2), udp.Local, ""},
		"another end of ours": {datapath.V6UDPV4, udp.Client, client(9, 1), ""},
		"another kind":        {datapath.V6V4, udp.Client, udp.Local, ""},
		"protocol 41":         {datapath.V6V4, client(2, 77), udp.Local, direct.ID},
		"mapped":              {datapath.V6V4, netip.AddrPortFrom(netip.AddrFrom16(client(2, 0).Addr().As16()), 0), udp.Local, direct.ID},
		"only offered":        {datapath.V6UDPV4, offer.Client, offer.Local, ""},
		"IPv6":                {datapath.V6UDPV4, netip.MustParseAddrPort("[2001:db8::1]:1"), udp.Local, ""},
	} {
		s, ok := w.At(c.encap, c.client, c.local)
		if ok != (c.want != "") || s.ID != c.want {
			t.Errorf("%s: found %q, %v, expected %q", name, s.ID, ok, c.want)
		}
	}
}
