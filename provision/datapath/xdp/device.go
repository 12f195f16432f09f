// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
	"ddtb/provision/datapath/space"
)

// addrGenModeNone keeps the kernel from giving a device a link-local address of its own (IN6_ADDR_GEN_MODE_NONE): it has
// no neighbours, and without such an address the stack sends no redirects from one tunnel to another.
const addrGenModeNone = 1

// device is the virtual device, a TUN. The kernel routes to it what is for the tunnels, and what is from them comes in by
// it. It is persistent: without a process that holds it, it has no carrier and forwards all the same.
type device struct {
	name  string
	index int
	fd    int // packets written here come in by the device; -1 if not held
}

// openDevice makes the device or takes it over, with its MTU and the sysctls it needs.
func openDevice(h *host, config datapath.Config, log zerolog.Logger) (*device, error) {
	d := &device{name: config.Device, fd: -1}
	if err := h.Do(d.attach); err != nil {
		return nil, fmt.Errorf("device %s: %w", d.name, err)
	}
	if err := d.configure(h, config.MTU); err != nil {
		return nil, errors.Join(fmt.Errorf("device %s: %w", d.name, err), d.close())
	}
	log.Debug().Str("device", d.name).Str("show", "ip -d link show dev "+d.name).Msg("device is there")
	return d, nil
}

// attach opens /dev/net/tun in the namespace of the thread.
func (d *device) attach() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(d.name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if errors.Is(err, unix.EBUSY) {
		err = errors.New("another process holds it")
	} else if errors.Is(err, unix.EINVAL) {
		err = errors.New("there is an interface of that name which is not a TUN device; remove or rename it")
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	}
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	d.fd = fd
	return nil
}

func (d *device) configure(h *host, mtu int) error {
	link, err := h.Netlink.LinkByName(d.name)
	if err != nil {
		return err
	}
	d.index = link.Attrs().Index
	for _, setting := range []struct {
		name  string
		value int
	}{
		{"ipv6/conf/" + d.name + "/disable_ipv6", 0},
		{"ipv6/conf/" + d.name + "/forwarding", 1},
		{"ipv6/conf/" + d.name + "/accept_ra", 0},
		{"ipv6/conf/" + d.name + "/ignore_routes_with_linkdown", 0},
		{"ipv4/conf/" + d.name + "/forwarding", 1}, // bpf_fib_lookup asks the interface it is told
	} {
		if err := h.SetSysctl(setting.name, setting.value); err != nil {
			return err
		}
	}
	if err := h.Netlink.LinkSetIP6AddrGenMode(link, addrGenModeNone); err != nil {
		return fmt.Errorf("no link-local address: %w", err)
	}
	if link.Attrs().MTU != mtu {
		if err := h.Netlink.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("mtu %d: %w", mtu, err)
		}
	}
	if err := h.Netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return nil
}

// close lets go of the device; it stays.
func (d *device) close() error {
	if d.fd < 0 {
		return nil
	}
	fd := d.fd
	d.fd = -1
	return unix.Close(fd)
}

// write has a packet come in by the device. It does not block.
func (d *device) write(packet []byte) error {
	_, err := unix.Write(d.fd, packet)
	return err
}

// setAddress gives the device the server's address and no other.
func (d *device) setAddress(h *host, server netip.Addr, log zerolog.Logger) error {
	link, err := h.Netlink.LinkByIndex(d.index)
	if err != nil {
		return err
	}
	there, err := space.Whole(func() ([]netlink.Addr, error) { return h.Netlink.AddrList(link, netlink.FAMILY_V6) })
	if err != nil {
		return fmt.Errorf("device %s: list addresses: %w", d.name, err)
	}
	found := false
	for _, a := range there {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && addr == server {
			found = true
			continue
		}
		if err := h.Netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("device %s: delete address %s: %w", d.name, a.IPNet, err)
		}
	}
	if found {
		return nil
	}
	address := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(server, 128)), Flags: unix.IFA_F_NODAD}
	if err := h.Netlink.AddrAdd(link, address); err != nil {
		return fmt.Errorf("device %s: add address %s: %w", d.name, server, err)
	}
	log.Debug().Stringer("address", server).Str("show", "ip -6 addr show dev "+d.name).Msg("address added")
	return nil
}
