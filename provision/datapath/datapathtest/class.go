// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// The ECN codepoints (RFC 3168 section 5).
const (
	notECT = iota
	ect1
	ect0
	ce
)

// merged is the ECN field after decapsulation by inner and outer field (RFC 6040 section 4.2, figure 4); -1: dropped.
var merged = [4][4]int{
	notECT: {notECT: notECT, ect0: notECT, ect1: notECT, ce: -1},
	ect0:   {notECT: ect0, ect0: ect0, ect1: ect1, ce: ce},
	ect1:   {notECT: ect1, ect0: ect1, ect1: ect1, ce: ce},
	ce:     {notECT: ce, ect0: ce, ect1: ce, ce: ce},
}

// class looks at the differentiated services and ECN fields, both ways.
func class(t *testing.T, e *Env) {
	const dscp = 46 << 2
	for _, encap := range encaps {
		tunnel := e.tunnel(0, encap)
		e.set(t, tunnel)
		for inner := range merged {
			for outer, want := range merged[inner] {
				t.Run(fmt.Sprintf("%s decapsulate %02b in %02b", encap, inner, outer), func(t *testing.T) {
					up := datagram(tunnel.Endpoint, coreHost, fmt.Sprintf("%s %d %d", encap, inner, outer))
					up.class = dscp | byte(inner)
					p := wrap(tunnel, up.bytes())
					p.tos = 12<<2 | byte(outer)
					if want < 0 {
						e.refused(t, datapath.IllegalECN, func() { e.client.send(unix.ETH_P_IP, p.bytes()) })
						e.quiet(t)
						return
					}
					e.client.send(unix.ETH_P_IP, p.bytes())
					if got := e.atCore(t, up); got.class != dscp|byte(want) {
						t.Errorf("traffic class %08b, %08b expected", got.class, dscp|want)
					}
				})
			}
			t.Run(fmt.Sprintf("%s encapsulate %02b", encap, inner), func(t *testing.T) {
				down := datagram(coreHost, tunnel.Endpoint, fmt.Sprintf("%s %d", encap, inner))
				down.class = dscp | byte(inner)
				e.fromCore(down)
				got := e.atClient(t, tunnel, down)
				if got.inner.class != down.class || got.outer.tos != down.class {
					t.Errorf("traffic class %08b in %08b, both %08b expected", got.inner.class, got.outer.tos, down.class)
				}
			})
		}
	}
}
