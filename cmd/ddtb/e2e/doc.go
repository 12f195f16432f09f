// SPDX-License-Identifier: GPL-2.0-or-later

// Package e2e raises a small Internet in network namespaces and runs the real programs in it. The tests of this folder
// and the demo below it are written with it.
//
//	lan ── natted ── router ──┐
//	       (NAT)  masquerades ├── internet ── server ── beyond
//	       open ──────────────┘   (IPv4 only)  (ddtb)    (IPv6 only)
//
// "natted" and "open" run tspc; "lan" is a computer behind natted's second interface, which has IPv6 only if natted
// is a router for a delegated prefix; "beyond" is any host of the IPv6 Internet. The Internet knows no IPv6: whatever
// passes between a client and beyond went through a tunnel.
//
// Nothing is left in the root namespace: links are made inside the namespaces, children die with this process, the
// eBPF file system with the daemon's pins is a mount of its own, and whatever a killed predecessor left under the same
// prefix is removed first.
package e2e
