// SPDX-License-Identifier: GPL-2.0-or-later

package main

// tolerated is the share of lost packets that is not worth telling.
const tolerated = 0.01

// figures reports what the lanes measured.
func (p *packetsRun) figures() {
	for _, l := range p.lanes {
		name := l.name
		if l.baseline() {
			name = l.kind + "." + map[bool]string{true: "up", false: "down"}[l.up]
		}
		if lost := median(l.lost); lost > tolerated {
			p.report.progress("packets: %s lost %.1f %% of its packets, which are in the cost of the others", name, 100*lost)
		}
		cost := median(l.cost)
		p.report.add(name+".ns", cost, "ns/packet", goal{})
		p.report.add(name+".pps", median(l.rate), "packets/s", goal{})
		if l.baseline() {
			continue
		}
		row := l.kind + map[bool]string{true: ".decap", false: ".encap"}[l.up]
		plain, vxlan := l.ratio(p.find("plain", l.up)), l.ratio(p.find("vxlan", l.up))
		p.report.add(name+".vs_plain", plain, "x", plainGoal(l.kind, l.tunnels))
		p.report.add(name+".vs_vxlan", vxlan, "x", vxlanGoal(l.kind))
		p.report.growth.set(row+".ns", int(l.tunnels), cost)
		p.report.growth.set(row+".vs_plain", int(l.tunnels), plain)
		p.report.growth.set(row+".vs_vxlan", int(l.tunnels), vxlan)
	}
}

func (l *namedLane) baseline() bool { return l.kind == "plain" || l.kind == "vxlan" }

func (p *packetsRun) find(kind string, up bool) *lane {
	for _, l := range p.lanes {
		if l.kind == kind && l.up == up {
			return &l.lane
		}
	}
	panic("packets: no lane " + kind)
}

// plainGoal is how many times cheaper than plain IPv6 forwarding a packet is meant to be.
func plainGoal(kind string, tunnels uint) goal {
	switch {
	case kind == fixedHop && tunnels == 1:
		return goal{2.4, atLeast}
	case kind == fixedHop && tunnels >= 50_000:
		return goal{1.4, atLeast}
	case kind == fibLookup && tunnels >= 1_000_000:
		return goal{0.95, atLeast}
	}
	return goal{}
}

// vxlanGoal is the same against kernel VXLAN, at any number of tunnels.
func vxlanGoal(kind string) goal {
	if kind == fixedHop {
		return goal{2, atLeast}
	}
	return goal{}
}
