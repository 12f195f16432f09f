// SPDX-License-Identifier: GPL-2.0-or-later

package datapath

// The reasons for which a packet is dropped.
const (
	Malformed     Reason = "malformed"      // lengths or versions that contradict each other
	InnerSource   Reason = "inner_source"   // from a client: the inner source is no tunnel's, or not of the tunnel it came through
	NoTunnel      Reason = "no_tunnel"      // from a client: the tunnel of its inner source is not in force
	OuterSource   Reason = "outer_source"   // from a client: not from the tunnel's recorded address and port; a forgery, or a NAT that changed its mind
	Encapsulation Reason = "encapsulation"  // from a client: not the tunnel's encapsulation
	LinkLocal     Reason = "link_local"     // from a client: router solicitations, MLD and the like from fe80:: or ::; harmless
	Martian       Reason = "martian"        // from a client: to a multicast, link-local, loopback or unspecified address
	IllegalECN    Reason = "illegal_ecn"    // from a client: congestion marked on a packet that cannot tell (RFC 6040 section 4.2)
	NativeSource  Reason = "native_source"  // not from a tunnel, but with the source address of one
	NoDestination Reason = "no_destination" // to a client: no tunnel in force has the address
	TooBig        Reason = "too_big"        // to a client: above the MTU, and the Packet Too Big budget is spent
	NoRoute       Reason = "no_route"       // to a client: no IPv4 route to his outer address
	Failed        Reason = "failed"         // the kernel refused to change or to take a packet
	RateExceeded  Reason = "rate"           // above the tunnel's rate, in either direction
)

// Unattended is a reason that only utun has: a client's message that came while no daemon was there.
const Unattended Reason = "unattended"

// Reasons are those that every driver has, in the order in which drivers number them.
func Reasons() []Reason {
	return []Reason{
		Malformed, InnerSource, NoTunnel, OuterSource, Encapsulation, LinkLocal, Martian, IllegalECN,
		NativeSource, NoDestination, TooBig, NoRoute, Failed, RateExceeded,
	}
}
