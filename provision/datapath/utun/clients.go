// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"ddtb/provision/datapath"
	"ddtb/provision/datapath/space"
)

// clients are the client devices, one a tunnel, in layout Interface. In layout Shared there are none.
type clients struct {
	byID  map[uint32]*device
	names map[string]uint32 // tunnel of a device
}

func newClients() clients { return clients{byID: map[uint32]*device{}, names: map[string]uint32{}} }

// clientName is the name of the client device of an outer address: eight hexadecimal digits, "_", and the port, which is 0 for
// protocol 41.
func clientName(remote netip.AddrPort) string {
	address := remote.Addr().As4()
	return fmt.Sprintf("%s_%d", hex.EncodeToString(address[:]), remote.Port())
}

// isClientName tells whether a device's name is the one of an outer address, or that with a letter behind it.
func isClientName(name string, remote netip.AddrPort) bool {
	letter, ok := strings.CutPrefix(name, clientName(remote))
	return ok && (letter == "" || len(letter) == 1 && letter[0] >= 'b' && letter[0] <= 'z')
}

// free finds a name for the device of a tunnel. Two tunnels may have one outer address for a while, as when a NAT gives a port
// to somebody else: then a letter is put behind it.
func (c *clients) free(t datapath.Tunnel) (string, error) {
	base := clientName(t.Remote)
	for letter := 'a'; letter <= 'z'; letter++ {
		name := base
		if letter > 'a' {
			name += string(letter)
		}
		if _, taken := c.names[name]; !taken {
			return name, nil
		}
	}
	return "", fmt.Errorf("tunnel %d: 26 tunnels have the outer address %s", t.ID, t.Remote)
}

func (c *clients) note(id uint32, d *device) {
	c.byID[id], c.names[d.name] = d, id
}

func (c *clients) forget(id uint32) {
	if d := c.byID[id]; d != nil {
		delete(c.byID, id)
		if c.names[d.name] == id {
			delete(c.names, d.name)
		}
	}
}

// client gives the client device of a tunnel on its way into force, made if it is not there or the tunnel has another outer address
// now.
func (d *Driver) client(c *change) error {
	have := d.clients.byID[c.ID]
	if have != nil && isClientName(have.name, c.Remote) {
		c.client, c.link = have, have.index
		return nil
	}
	name, err := d.clients.free(c.Tunnel)
	if err != nil {
		return err
	}
	made, err := makeDevice(d.host, name, d.device.index)
	if err != nil {
		return fmt.Errorf("tunnel %d: device %s: %w", c.ID, name, err)
	}
	d.clients.forget(c.ID)
	d.clients.note(c.ID, made)
	c.client, c.before, c.made, c.link = made, have, true, made.index
	return nil
}

// dress gives a client device its address and its routes: the server's address with the client's as peer, the prefix and what
// else is routed to the client.
func (d *Driver) dress(c *device, t datapath.Tunnel) error {
	errs := []error{c.setAddress(d.host, d.config.Server, t.Endpoint)}
	r, wanted := d.router(), slices.Collect(t.Routes.All())
	if t.Prefix.IsValid() {
		wanted = append(wanted, t.Prefix)
	}
	there, err := space.Whole(func() ([]netlink.Route, error) { return d.host.Netlink.RouteList(c.link(), netlink.FAMILY_V6) })
	errs = append(errs, err)
	for _, route := range there {
		if route.Protocol == RouteProtocol && !slices.Contains(wanted, toPrefix(route.Dst)) {
			errs = append(errs, r.take(&route))
		}
	}
	for _, prefix := range wanted {
		errs = append(errs, r.put(r.route(prefix, c.index, clientMetric)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("tunnel %d: %w", t.ID, err)
	}
	return nil
}

// arrange puts the layout in force for tunnels that are there: each gets its device, or none has one any more. Client devices
// that belong to no tunnel are removed.
func (d *Driver) arrange(tunnels []state) error {
	devices, err := d.clientDevices()
	if err != nil {
		return err
	}
	d.clients = newClients()
	var moving []datapath.Tunnel
	var leaving []*device // still used by tunnels that get another or none
	for _, t := range tunnels {
		moving = append(moving, t.Tunnel)
		found := devices[t.link]
		delete(devices, t.link)
		switch {
		case found == nil:
		case d.options.Layout == Interface && isClientName(found.name, t.Remote):
			d.clients.note(t.ID, found)
		default:
			d.clients.names[found.name] = t.ID
			leaving = append(leaving, found)
		}
	}
	var errs []error
	for _, unused := range devices {
		errs = append(errs, unused.remove(d.host))
	}
	for batch := range batches(moving) {
		errs = append(errs, d.setBatch(batch))
	}
	for _, left := range leaving {
		delete(d.clients.names, left.name)
		errs = append(errs, left.remove(d.host))
	}
	return errors.Join(errs...)
}

// clientDevices are those of the shared device, by index.
func (d *Driver) clientDevices() (map[int]*device, error) {
	links, err := space.Whole(d.host.Netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	devices := map[int]*device{}
	for _, link := range links {
		if a := link.Attrs(); link.Type() == kind && a.ParentIndex == d.device.index {
			devices[a.Index] = &device{name: a.Name, index: a.Index}
		}
	}
	return devices, nil
}
