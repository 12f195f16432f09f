// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Host is one machine of the small Internet: a network namespace and a thread that lives in it.
type Host struct {
	Name      string // "natted"
	Namespace string // with the prefix, "ee-natted", as `ip netns` shows it

	starts chan start
	closed chan struct{}
	handle netns.NsHandle
	links  *netlink.Handle
}

// start asks the host's thread to start a process.
type start struct {
	cmd  *exec.Cmd
	done chan error
}

// newHost makes the namespace and brings its loopback up.
func newHost(prefix, name string) (*Host, error) {
	host := &Host{Name: name, Namespace: prefix + "-" + name, starts: make(chan start), closed: make(chan struct{})}
	ready := make(chan error)
	go host.live(ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("namespace %s: %w", host.Namespace, err)
	}
	links, err := netlink.NewHandleAt(host.handle, unix.NETLINK_ROUTE)
	if err != nil {
		host.close()
		return nil, fmt.Errorf("namespace %s: %w", host.Namespace, err)
	}
	host.links = links
	// Addresses are ours alone here: without duplicate detection they can be used at once.
	err = host.Sysctl("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
	if err == nil {
		err = host.Up("lo")
	}
	if err != nil {
		host.close()
		return nil, err
	}
	return host, nil
}

// live makes the namespace and starts in it the processes it is told to. The thread is never given back to the runtime,
// since it is in another namespace than the rest, and it lives as long as the host, since children are to die with the
// host (Pdeathsig is about the thread that started them, not about its process).
func (h *Host) live(ready chan<- error) {
	runtime.LockOSThread()
	handle, err := netns.NewNamed(h.Namespace)
	h.handle = handle
	ready <- err
	if err != nil {
		return
	}
	for {
		select {
		case start := <-h.starts:
			start.done <- start.cmd.Start()
		case <-h.closed:
			return
		}
	}
}

// errClosed: the host is gone.
var errClosed = errors.New("the namespace is removed")

// start starts a process that dies with the host, and that an interrupt at the terminal does not reach.
func (h *Host) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	done := make(chan error, 1)
	select {
	case h.starts <- start{cmd, done}:
		return <-done
	case <-h.closed:
		return fmt.Errorf("%s: %w", h.Name, errClosed)
	}
}

// Do runs f in the host's namespace, on a thread of its own that ends with f: sockets that f opens are the host's.
func (h *Host) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this function
		if err := netns.Set(h.handle); err != nil {
			done <- fmt.Errorf("%s: enter the namespace: %w", h.Name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// close removes the namespace. Processes must have ended before.
func (h *Host) close() {
	close(h.closed)
	if h.links != nil {
		h.links.Close()
	}
	// Nothing can be done about a failure here, and the next run with this prefix removes what is left.
	_ = netns.DeleteNamed(h.Namespace)
	_ = h.handle.Close()
}

// Sysctl sets "net.ipv6.conf.all.forwarding=1" and the like.
func (h *Host) Sysctl(settings ...string) error {
	return h.Do(func() error {
		for _, setting := range settings {
			key, value, _ := strings.Cut(setting, "=")
			file := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
			if err := os.WriteFile(file, []byte(value), 0); err != nil {
				return fmt.Errorf("%s: sysctl %s: %w", h.Name, setting, err)
			}
		}
		return nil
	})
}

// Connect lays a cable between an interface of h and one of peer, and brings both ends up.
func (h *Host) Connect(device string, peer *Host, peerDevice string) error {
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: device},
		PeerName:      peerDevice,
		PeerNamespace: netlink.NsFd(peer.handle),
	}
	if err := h.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("%s: link %s: %w", h.Name, device, err)
	}
	for _, end := range []struct {
		host   *Host
		device string
	}{{h, device}, {peer, peerDevice}} {
		if err := end.host.likeWire(end.device); err != nil {
			return err
		}
		if err := end.host.Up(end.device); err != nil {
			return err
		}
	}
	return nil
}

// likeWire makes a virtual cable behave as a real one: what goes over it is packets of the MTU with their checksums
// filled in. Without it two namespaces pass each other unfinished packets, which XDP cannot forward.
func (h *Host) likeWire(device string) error {
	_, err := h.Run(context.Background(), "ethtool", "-K", device, "tx", "off", "tso", "off", "gro", "on")
	return err
}

// Up brings an interface up.
func (h *Host) Up(device string) error {
	link, err := h.links.LinkByName(device)
	if err == nil {
		err = h.links.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("%s: link %s up: %w", h.Name, device, err)
	}
	return nil
}

// Down takes an interface down.
func (h *Host) Down(device string) error {
	link, err := h.links.LinkByName(device)
	if err == nil {
		err = h.links.LinkSetDown(link)
	}
	if err != nil {
		return fmt.Errorf("%s: link %s down: %w", h.Name, device, err)
	}
	return nil
}

// Address gives an interface an address with its prefix length, "192.0.2.1/24".
func (h *Host) Address(device, address string) error {
	link, err := h.links.LinkByName(device)
	if err != nil {
		return fmt.Errorf("%s: link %s: %w", h.Name, device, err)
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return fmt.Errorf("%s: address %s: %w", h.Name, address, err)
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.links.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("%s: address %s on %s: %w", h.Name, address, device, err)
	}
	return nil
}

// Route sends what goes to a prefix ("0.0.0.0/0", "::/0") to a gateway.
func (h *Host) Route(prefix, gateway string) error {
	_, destination, err := net.ParseCIDR(prefix)
	if err == nil {
		err = h.links.RouteAdd(&netlink.Route{Dst: destination, Gw: net.ParseIP(gateway)})
	}
	if err != nil {
		return fmt.Errorf("%s: route %s via %s: %w", h.Name, prefix, gateway, err)
	}
	return nil
}

// Addresses lists the addresses an interface has, link-local ones left out; none if there is no such interface.
func (h *Host) Addresses(device string) ([]netip.Prefix, error) {
	link, err := h.links.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("%s: link %s: %w", h.Name, device, err)
	}
	list, err := h.links.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("%s: addresses of %s: %w", h.Name, device, err)
	}
	var prefixes []netip.Prefix
	for _, addr := range list {
		prefix, err := netip.ParsePrefix(addr.IPNet.String())
		if err != nil {
			return nil, fmt.Errorf("%s: address %s: %w", h.Name, addr.IPNet, err)
		}
		if !prefix.Addr().IsLinkLocalUnicast() {
			prefixes = append(prefixes, prefix)
		}
	}
	return prefixes, nil
}
