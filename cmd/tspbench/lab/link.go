// SPDX-License-Identifier: GPL-2.0-or-later

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// End is one end of a veth pair: a device with its Ethernet and IP addresses.
type End struct {
	Space     *Space
	Name      string // at most 15 octets
	MAC       net.HardwareAddr
	Addresses []netip.Prefix
}

// Join makes a veth pair between two namespaces (or within one), both ends up. Each end knows the other's addresses as
// permanent neighbours, so that no measurement waits for one.
func Join(a, b End) error {
	pair := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: a.Name, HardwareAddr: a.MAC, Namespace: netlink.NsFd(a.Space.network)},
		PeerName:         b.Name,
		PeerHardwareAddr: b.MAC,
		PeerNamespace:    netlink.NsFd(b.Space.network),
	}
	if err := a.Space.Netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("veth pair %s, %s: %w", a.Name, b.Name, err)
	}
	if err := errors.Join(a.up(), b.up()); err != nil {
		return err
	}
	return errors.Join(a.address(b), b.address(a))
}

func (e End) up() error {
	device, err := e.Space.Netlink.LinkByName(e.Name)
	if err != nil {
		return fmt.Errorf("find %s: %w", e.Name, err)
	}
	if err := e.Space.Netlink.LinkSetUp(device); err != nil {
		return fmt.Errorf("bring up %s: %w", e.Name, err)
	}
	// NAPI on both ends: without it a veth does not take frames that XDP redirects to it.
	return e.Space.Offload(e.Name, map[Feature]bool{GRO: true})
}

func (e End) address(peer End) error {
	var errs []error
	for _, address := range e.Addresses {
		errs = append(errs, e.Space.AddAddress(e.Name, address))
	}
	for _, address := range peer.Addresses {
		errs = append(errs, e.Space.AddNeighbour(e.Name, address.Addr(), peer.MAC))
	}
	return errors.Join(errs...)
}

// Index gives the ifindex of a device.
func (s *Space) Index(device string) (int, error) {
	found, err := s.Netlink.LinkByName(device)
	if err != nil {
		return 0, fmt.Errorf("find %s in %s: %w", device, s.Name, err)
	}
	return found.Attrs().Index, nil
}

// AddAddress gives a device that is up an address, without duplicate address detection, and waits until packets to it
// are taken.
func (s *Space) AddAddress(device string, address netip.Prefix) error {
	found, err := s.Netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", device, s.Name, err)
	}
	entry := &netlink.Addr{IPNet: IPNet(address)}
	if address.Addr().Is6() {
		entry.Flags = unix.IFA_F_NODAD
	}
	if err := s.Netlink.AddrReplace(found, entry); err != nil {
		return fmt.Errorf("address %s on %s: %w", address, device, err)
	}
	return s.awaitLocal(address.Addr())
}

// awaitLocal waits until the kernel has a local route for an address: for IPv6 it makes that some time after the address.
func (s *Space) awaitLocal(address netip.Addr) error {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		routes, err := s.Netlink.RouteGet(address.AsSlice())
		if err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
	}
	return fmt.Errorf("address %s in %s does not come into force", address, s.Name)
}

// AddNeighbour makes a permanent neighbour entry.
func (s *Space) AddNeighbour(device string, address netip.Addr, mac net.HardwareAddr) error {
	index, err := s.Index(device)
	if err != nil {
		return err
	}
	entry := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: address.AsSlice(), HardwareAddr: mac}
	if err := s.Netlink.NeighSet(entry); err != nil {
		return fmt.Errorf("neighbour %s on %s: %w", address, device, err)
	}
	return nil
}

// Route is one route to add.
type Route struct {
	To     netip.Prefix
	Via    netip.Addr // gateway, if valid
	Device string     // if not ""
	Source netip.Addr // preferred source, if valid
	Local  bool       // every address of To is the namespace's own
	Table  int        // 0: main
}

// AddRoute adds a route.
func (s *Space) AddRoute(route Route) error {
	entry := &netlink.Route{Dst: IPNet(route.To), Table: route.Table}
	if route.Via.IsValid() {
		entry.Gw = route.Via.AsSlice()
	}
	if route.Source.IsValid() {
		entry.Src = route.Source.AsSlice()
	}
	if route.Device != "" {
		index, err := s.Index(route.Device)
		if err != nil {
			return err
		}
		entry.LinkIndex = index
	}
	if route.Local {
		entry.Type, entry.Scope, entry.Table = unix.RTN_LOCAL, netlink.SCOPE_HOST, unix.RT_TABLE_LOCAL
	}
	if err := s.Netlink.RouteAdd(entry); err != nil {
		return fmt.Errorf("route %s in %s: %w", route.To, s.Name, err)
	}
	return nil
}

// Feature is an offload of a device, by the number that turns it on and off (linux/ethtool.h).
type Feature uint32

// The offloads that matter to a measurement over veth.
const (
	TxChecksum Feature = 0x17 // ETHTOOL_STXCSUM
	TSO        Feature = 0x1f // ETHTOOL_STSO
	GSO        Feature = 0x24 // ETHTOOL_SGSO
	GRO        Feature = 0x2c // ETHTOOL_SGRO
)

// Offload turns offloads of a device on or off.
func (s *Space) Offload(device string, features map[Feature]bool) error {
	return s.Do(func() error {
		socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		defer func() { _ = unix.Close(socket) }()
		for feature, on := range features {
			if err := setFeature(socket, device, feature, on); err != nil {
				return fmt.Errorf("ethtool %#x on %s: %w", uint32(feature), device, err)
			}
		}
		return nil
	})
}

// setFeature is the SIOCETHTOOL ioctl with a struct ethtool_value.
func setFeature(socket int, device string, feature Feature, on bool) error {
	value := struct{ command, data uint32 }{command: uint32(feature)}
	if on {
		value.data = 1
	}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	if len(device) >= len(request.name) {
		return os.ErrInvalid
	}
	copy(request.name[:], device)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}

// IPNet is a prefix as netlink wants it.
func IPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Listens says whether a TCP socket over IPv6 listens on a port in the namespace.
func (s *Space) Listens(port uint16) (bool, error) {
	var found bool
	err := s.Do(func() error {
		table, err := os.ReadFile("/proc/thread-self/net/tcp6")
		if err != nil {
			return fmt.Errorf("sockets of %s: %w", s.Name, err)
		}
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line) // number, local address:port, remote, state
			found = found || len(fields) > 3 && fields[3] == "0A" && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port))
		}
		return nil
	})
	return found, err
}
