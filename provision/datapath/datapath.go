// SPDX-License-Identifier: GPL-2.0-or-later

// Package datapath is the face of what moves packets: the model every driver holds, and the interface it is driven by.
//
// One device carries all tunnels. Drivers: utun (the kernel module kmod/), xdp (eBPF, stock kernels) and, for tests and load
// figures, Null. datapathtest holds the suite every driver passes.
package datapath

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"syscall"
	"time"
)

// Errors of a Datapath, wrapped with what and which.
var (
	ErrNotFound     = errors.New("no such tunnel")
	ErrNotSupported = errors.New("not supported by this kernel")
	ErrInvalid      = errors.New("invalid tunnel") // it contradicts the Config: id out of range, address family, ...
)

// Datapath forwards the packets of a set of tunnels. It is told the wanted state, not steps: the same call again changes
// nothing. All methods may be called at once by several goroutines.
type Datapath interface {
	// Configure puts local endpoints, pools and server address in force. Tunnels found in the kernel from an earlier
	// process stay in force and keep their counters; those a changed Config no longer has room for are removed.
	Configure(ctx context.Context, config Config) error
	// Set adds tunnels or changes those with the same id. Counters start at zero when Session differs, else go on. Of a
	// tunnel of which only MTU or Rate change no packet is lost.
	// All of a batch that is valid is in force when it returns; the error joins those that are not.
	Set(ctx context.Context, tunnels ...Tunnel) error
	// Delete stops a tunnel and returns its last counters, exact to the packet; ErrNotFound if there is none.
	Delete(ctx context.Context, id uint32) (Counters, error)
	// All yields every tunnel in force. An error ends it.
	All(ctx context.Context) iter.Seq2[State, error]
	// Close lets go of the kernel and leaves the tunnels in force.
	Close() error
}

// Resumer is what a Datapath has besides whose counters outlive a Delete: a tunnel that is set again with the same Session
// goes on counting where it was, also in the next process, unless the id had another Session in between, the Config changed
// or the host went down. So a process that is killed behind a Delete loses no count.
type Resumer interface {
	// Resumes does nothing.
	Resumes()
}

// DropReporter is what a Datapath has besides that tells why packets were dropped.
type DropReporter interface {
	// Drops returns one entry a Reason that ever occurred.
	Drops(ctx context.Context) ([]Drop, error)
}

// TunnelDropReporter is what a Datapath has besides that tells it of each tunnel.
type TunnelDropReporter interface {
	// TunnelDrops yields, in no order, what was dropped of the packets of single tunnels: those that claimed to be from
	// one or were for one. A tunnel's counts start at zero with each new session, and stay when it has ended; of what is
	// counted this instant some may be missing. An error ends it.
	TunnelDrops(ctx context.Context) iter.Seq2[TunnelDrop, error]
}

// TunnelDrop is a reason's count of one tunnel, never 0. A driver may let it come round at 2^32.
type TunnelDrop struct {
	Tunnel  uint32
	Reason  Reason
	Packets uint64
}

// Injector is what a Datapath has besides that takes packets its fast path left to the ordinary sockets (reassembled
// fragments, outer IP options).
type Injector interface {
	// Inject checks an inner packet like the fast path would and forwards it through the stack. It never blocks; a packet
	// that is refused is counted.
	Inject(encap Encap, local, remote netip.AddrPort, packet []byte)
}

// Attacher is what a Datapath has besides that takes the packets of tunnels out of the daemon's own UDP sockets, before they come
// to them.
type Attacher interface {
	// Attach hands over a UDP socket with SO_REUSEPORT set, before it is bound to one of Config.Local, or to its port, so that
	// no packet of a tunnel comes to it, and again after, so that the kernel's own may go that stood for it. It is let go when
	// the socket is closed; tunnels go on without it.
	Attach(socket syscall.RawConn) error
}

// Encap is an encapsulation.
type Encap uint8

// The encapsulations.
const (
	V6UDPV4 Encap = iota + 1 // IPv6 in UDP in IPv4 (RFC 5572 section 4.5.2)
	V6V4                     // IPv6 in IPv4, protocol 41 (RFC 4213)
)

// String gives the TSP name.
func (e Encap) String() string {
	switch e {
	case V6UDPV4:
		return "v6udpv4"
	case V6V4:
		return "v6v4"
	}
	return "unknown"
}

// Overhead is what an encapsulation adds to a packet, in octets.
func (e Encap) Overhead() int {
	if e == V6V4 {
		return 20
	}
	return 28
}

// Config is what all tunnels share.
type Config struct {
	Device  string           // name of the virtual device, "ddtb0"
	Uplinks []string         // interfaces on which encapsulated packets arrive
	Cores   []string         // interfaces on which native IPv6 packets for the tunnels arrive; may be the same
	Local   []netip.AddrPort // IPv4 addresses and UDP port of this server's tunnel ends
	Server  netip.Addr       // IPv6 address of this server inside the tunnels, target of keepalives
	Pools   []Pool
	MTU     int    // of the device: the largest inner packet, octets
	PinPath string // directory below bpffs that keeps the state between processes; drivers without one ignore it
}

// Pool is a range of tunnel ids whose inner addresses follow from the id (lease.Pool with what the datapath needs).
// Tunnel First+i has the endpoint EndpointBase+i and the prefix PrefixBase + i << (128-PrefixLen).
type Pool struct {
	Name         string
	First        uint32 // tunnel id of index 0
	Size         uint32 // indices
	EndpointBase netip.Addr
	PrefixBase   netip.Addr
	PrefixLen    int // of one delegated prefix, 0: the pool delegates none
}

// Tunnel is the wanted state of one tunnel.
type Tunnel struct {
	ID       uint32
	Session  uint64 // changes with each new session of this id: counters start over
	Encap    Encap
	Local    netip.AddrPort // IPv4; port 0 for V6V4
	Remote   netip.AddrPort // IPv4; port 0 for V6V4
	Endpoint netip.Addr     // inner address of the client
	Prefix   netip.Prefix   // delegated prefix, invalid if none; may lie outside the pool (static)
	Routes   Prefixes       // further prefixes of the client, at most MaxRoutes, all outside the pools (RFC 3162 section 2.5)
	MTU      int            // largest inner packet, octets; 0: Config.MTU
	Rate     Rate
}

// Rate bounds the traffic of a tunnel in each direction, in bits of inner packets a second; 0 is no bound.
type Rate struct {
	Rx uint64 // from the client
	Tx uint64 // to the client
}

// Burst is how many octets of inner packets may pass at once, after a pause, at a rate that is not 0: those of a tenth of
// a second, which TCP needs over the usual distances, but 32 KiB at least, or there would be no train of segments at low rates.
// A driver lets a packet pass that finds any credit left, whatever its length, and takes its length from what comes next.
func Burst(rate uint64) uint64 { return max(rate/8/10, 32<<10) }

// Counters of one tunnel, of inner packets.
type Counters struct {
	RxPackets, RxBytes uint64 // from the client
	TxPackets, TxBytes uint64 // to the client
}

// State is a tunnel in force.
type State struct {
	Tunnel
	Counters
	LastSeen time.Time // last valid packet from the client; when the tunnel was set if there was none
}

// Reason says why packets were dropped. The names are those of metrics and of ddtbctl.
type Reason string

// Drop is a reason's count and its last offender.
type Drop struct {
	Reason  Reason
	Packets uint64
	Tunnel  uint32         // the tunnel whose inner source it claimed, 0 if none
	Remote  netip.AddrPort // outer source of the last one, if known
	Inner   netip.Addr     // inner source of the last one, if known
	Last    time.Time
}
