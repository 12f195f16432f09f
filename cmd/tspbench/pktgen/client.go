// SPDX-License-Identifier: GPL-2.0-or-later

package pktgen

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// ClientConfig is a subscriber's end of a v6udpv4 tunnel (RFC 5572 section 4.5.2).
type ClientConfig struct {
	Device  int  // ifindex of a virtual Ethernet device: what goes out there goes into the tunnel
	Ingress bool // Device is the far end of a veth pair: what comes in there goes into the tunnel, segmented
	Uplink  int  // ifindex on which the tunnel's packets leave and arrive
	Local   netip.AddrPort
	Server  netip.AddrPort
	MAC     net.HardwareAddr // of the uplink
	Gateway net.HardwareAddr // the next hop's
}

// Client is a tunnel end in force.
type Client struct {
	links   [2]link.Link
	objects [2]*ebpf.Collection
}

// NewClient puts a tunnel end in force, in the namespace of the calling thread. It needs Linux 6.6.
func NewClient(config ClientConfig) (*Client, error) {
	variables := map[string]any{
		"client_local":       address4(config.Local.Addr()),
		"client_remote":      address4(config.Server.Addr()),
		"client_port":        network16(config.Local.Port()),
		"client_server_port": network16(config.Server.Port()),
		"client_uplink":      uint32(config.Uplink),
		"client_mac":         hardware(config.MAC),
		"client_gateway_mac": hardware(config.Gateway),
	}
	into := ebpf.AttachTCXEgress
	if config.Ingress {
		into = ebpf.AttachTCXIngress
	}
	hooks := [2]struct {
		program string
		device  int
		at      ebpf.AttachType
	}{
		{"client_out", config.Device, into},
		{"client_in", config.Uplink, ebpf.AttachTCXIngress},
	}
	client := &Client{}
	for i, hook := range hooks {
		var err error
		if client.objects[i], err = load(hook.program, variables, nil); err != nil {
			_ = client.Close()
			return nil, fmt.Errorf("load tunnel client: %w", err)
		}
		if client.links[i], err = attachTC(client.objects[i].Programs[hook.program], hook.device, hook.at); err != nil {
			_ = client.Close()
			return nil, fmt.Errorf("attach tunnel client: %w", err)
		}
	}
	return client, nil
}

// Close detaches the tunnel end.
func (c *Client) Close() error {
	err := closeAll(c.links[:]...)
	for _, objects := range c.objects {
		if objects != nil {
			objects.Close()
		}
	}
	return err
}

// The programs compare and write what stands on the wire, so their constants hold the octets in network order.

func network16(value uint16) uint16 {
	var octets [2]byte
	binary.BigEndian.PutUint16(octets[:], value)
	return binary.NativeEndian.Uint16(octets[:])
}

func address4(address netip.Addr) uint32 {
	octets := address.As4()
	return binary.NativeEndian.Uint32(octets[:])
}

func hardware(mac net.HardwareAddr) uint64 {
	var octets [8]byte
	copy(octets[:], mac)
	return binary.NativeEndian.Uint64(octets[:])
}
