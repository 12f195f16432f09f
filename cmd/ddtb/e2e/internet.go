// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The addresses of the small Internet (RFC 5737, RFC 3849).
var (
	ServerIPv4 = netip.MustParseAddr("198.51.100.1") // the tunnel server, on its uplink
	OpenIPv4   = netip.MustParseAddr("203.0.113.10") // the client without NAT
	RouterIPv4 = netip.MustParseAddr("192.0.2.77")   // the outside of the NAT
	NattedIPv4 = netip.MustParseAddr("192.168.1.2")  // the client behind it
	BeyondIPv6 = netip.MustParseAddr("2001:db8:b::2")
)

// The interfaces on which a test or the demo configures something.
const (
	Uplink    = "wan0" // of server: towards the IPv4 Internet
	Core      = "core0"
	LAN       = "lan0" // of natted: towards lan
	LANClient = "eth0" // of lan
)

// Internet is the whole of it: hosts, cables and a scratch folder.
type Internet struct {
	Internet, Server, Beyond, Router, Natted, Open, LAN *Host

	Dir string // scratch; gone with Close

	prefix string
	hosts  []*Host
	lock   *os.File
}

// Raise makes the small Internet. All names begin with prefix; one at a time can stand under one prefix, another Raise
// waits for its end for as long as patience lasts. What a killed predecessor left is removed first.
func Raise(prefix string, patience time.Duration) (*Internet, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	lock, err := acquire("/run/lock/ddtb-"+prefix, patience)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(os.TempDir(), "ddtb-"+prefix)
	sweep(prefix, dir)
	internet := &Internet{Dir: dir, prefix: prefix, lock: lock}
	if err := errors.Join(internet.mount(), shareNamespaces(), internet.populate()); err != nil {
		internet.Close()
		return nil, err
	}
	if err := errors.Join(internet.cable(), internet.address(), internet.behave()); err != nil {
		internet.Close()
		return nil, err
	}
	return internet, nil
}

// acquire holds a file locked, so that the names below a prefix have one owner.
func acquire(name string, patience time.Duration) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = Await(patience, func() error { return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: another run holds it: %w", name, err), file.Close())
	}
	return file, nil
}

// sweep removes what a predecessor that was killed left behind. There may well be nothing.
func sweep(prefix, dir string) {
	left, _ := filepath.Glob(namespaceDir + "/" + prefix + "-*")
	for _, name := range left {
		_ = netns.DeleteNamed(filepath.Base(name))
	}
	unmount(dir)
	_ = os.RemoveAll(dir)
}

func unmount(dir string) {
	for unix.Unmount(filepath.Join(dir, "bpf"), unix.MNT_DETACH) == nil {
		continue // as often as it was mounted
	}
}

// mount makes the scratch folder with an eBPF file system of its own.
func (i *Internet) mount() error {
	if err := os.MkdirAll(i.BPF(), 0o700); err != nil {
		return err
	}
	if err := unix.Mount("bpf", i.BPF(), "bpf", 0, ""); err != nil {
		return fmt.Errorf("mount bpf on %s: %w", i.BPF(), err)
	}
	return nil
}

// BPF is where the eBPF file system of this Internet is mounted.
func (i *Internet) BPF() string { return filepath.Join(i.Dir, "bpf") }

// Pinned lists what programs pinned there. (The kernel's own maps.debug and progs.debug are always there.)
func (i *Internet) Pinned() []string {
	names, _ := filepath.Glob(filepath.Join(i.BPF(), "*")) // the pattern is well formed
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, ".debug") })
}

func (i *Internet) populate() error {
	for _, entry := range []struct {
		name string
		host **Host
	}{
		{"internet", &i.Internet},
		{"server", &i.Server},
		{"beyond", &i.Beyond},
		{"router", &i.Router},
		{"natted", &i.Natted},
		{"open", &i.Open},
		{"lan", &i.LAN},
	} {
		host, err := newHost(i.prefix, entry.name)
		if err != nil {
			return err
		}
		*entry.host = host
		i.hosts = append(i.hosts, host)
	}
	return nil
}

// Add makes one more host, which has no cable yet.
func (i *Internet) Add(name string) (*Host, error) {
	host, err := newHost(i.prefix, name)
	if err == nil {
		i.hosts = append(i.hosts, host)
	}
	return host, err
}

func (i *Internet) cable() error {
	return errors.Join(
		i.Server.Connect(Uplink, i.Internet, "server"),
		i.Server.Connect(Core, i.Beyond, "eth0"),
		i.Open.Connect("eth0", i.Internet, "open"),
		i.Router.Connect("wan0", i.Internet, "router"),
		i.Natted.Connect("eth0", i.Router, "home0"),
		i.LAN.Connect(LANClient, i.Natted, LAN),
	)
}

func (i *Internet) address() error {
	return errors.Join(
		i.Internet.Address("server", "198.51.100.254/24"),
		i.Internet.Address("open", "203.0.113.254/24"),
		i.Internet.Address("router", "192.0.2.254/24"),

		i.Server.Address(Uplink, ServerIPv4.String()+"/24"),
		i.Server.Route("0.0.0.0/0", "198.51.100.254"),
		i.Server.Address(Core, "2001:db8:b::1/64"),

		i.Beyond.Address("eth0", BeyondIPv6.String()+"/64"),
		i.Beyond.Route("::/0", "2001:db8:b::1"),

		i.Open.Address("eth0", OpenIPv4.String()+"/24"),
		i.Open.Route("0.0.0.0/0", "203.0.113.254"),

		i.Router.Address("wan0", RouterIPv4.String()+"/24"),
		i.Router.Route("0.0.0.0/0", "192.0.2.254"),
		i.Router.Address("home0", "192.168.1.1/24"),

		i.Natted.Address("eth0", NattedIPv4.String()+"/24"),
		i.Natted.Route("0.0.0.0/0", "192.168.1.1"),
	)
}

// behave makes routers of some hosts, and the home router a NAT that looks like most.
func (i *Internet) behave() error {
	err := errors.Join(
		i.Internet.Sysctl("net.ipv4.ip_forward=1"),
		i.Router.Sysctl("net.ipv4.ip_forward=1"),
		i.Server.Sysctl("net.ipv6.conf.all.forwarding=1"),
		i.LAN.Sysctl("net.ipv6.conf.eth0.accept_ra=1"),
	)
	if err != nil {
		return err
	}
	_, err = i.Router.Run(context.Background(), "nft", `
		table ip nat {
			chain postrouting {
				type nat hook postrouting priority srcnat
				oifname "wan0" masquerade
			}
		}
		table ip filter {
			chain forward {
				type filter hook forward priority filter; policy drop
				iifname "home0" accept
				ct state established,related accept
			}
		}`)
	return err
}

// Left lists what Close, or a crash, left behind.
func (i *Internet) Left() []string {
	var left []string
	for _, pattern := range []string{namespaceDir + "/" + i.prefix + "-*", i.Dir} {
		found, _ := filepath.Glob(pattern) // the pattern is well formed
		left = append(left, found...)
	}
	return left
}

// Close removes everything. The processes on the hosts are killed if they still run.
func (i *Internet) Close() {
	for _, host := range i.hosts {
		host.close()
	}
	i.hosts = nil // closed again, there is nothing left to do
	unmount(i.Dir)
	_ = os.RemoveAll(i.Dir)
	_ = i.lock.Close()
}
