// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"ddtb/cmd/ddtb/e2e"
)

type address = netip.Addr

const password = "correct horse"

// play plays the scenes in their order, until one fails.
func (s *stage) play() error {
	return s.scenesOf([]scene{
		{"A small Internet", s.internet},
		{"The tunnel server", s.server},
		{"Two subscribers", s.subscribers},
		{"Alice logs in, from behind a NAT", s.alice},
		{"Ping and TCP through the tunnel", s.traffic},
		{"The computers behind Alice", s.lan},
		{"Bob logs in, without a NAT", s.bob},
		{"A wrong password", s.mallory},
		{"What the operator sees", s.operator},
		{"The daemon restarts, and no packet is lost", s.restart},
		{"A clean end", s.end},
	})
}

func (s *stage) internet() error {
	s.say(`Seven network namespaces are seven machines:

    lan ── natted ── router ──┐
           Alice     NAT      ├── internet ── server ── beyond
           open ──────────────┘   IPv4 only   ddtb      IPv6 only
           Bob

The Internet in the middle carries IPv4 only; "beyond" is some host of the IPv6 Internet. So far they cannot meet:
`)
	if err := s.run(s.isp.Natted, "ping", "-c", "1", "-W", "1", e2e.ServerIPv4.String()); err != nil {
		return err
	}
	if err := s.run(s.isp.Natted, "ping", "-c", "1", "-W", "1", e2e.BeyondIPv6.String()); err == nil {
		return errors.New("there is IPv6 before there is a tunnel")
	}
	return nil
}

func (s *stage) server() error {
	s.say("The operator writes a configuration (`ddtb reference` explains every key), checks it and starts the daemon.\n")
	if err := s.file(s.isp.Server, s.isp.ConfigFile()); err != nil {
		return err
	}
	if err := s.run(s.isp.Server, s.isp.Program("ddtb"), "check", "-c", s.isp.ConfigFile()); err != nil {
		return err
	}
	s.prompt(s.isp.Server, "ddtb", "-c", s.isp.ConfigFile(), "&")
	if err := s.isp.Start(); err != nil {
		return err
	}
	s.print(s.isp.Daemon().Output())
	return s.ctl("status")
}

func (s *stage) subscribers() error {
	s.say("Each has an account with a password. Accounts can be made and changed while the daemon runs.\n")
	for _, name := range []string{"alice", "bob"} {
		s.prompt(s.isp.Server, "ddtbctl", "user", "add", name, "--cram", "--password-stdin")
		if err := s.isp.AddUser(name, password); err != nil {
			return err
		}
	}
	fmt.Fprintln(s.out)
	return s.ctl("user", "list")
}

func (s *stage) alice() error {
	s.say("She asks for a tunnel of whatever kind works and for a prefix. The server sees the NAT and chooses IPv6 in UDP.\n")
	var err error
	s.natted, s.nattedIP6, err = s.subscribe(s.isp.Natted, "alice", "[router]\nenable = true\nlan = [\""+e2e.LAN+"\"]\n")
	if err != nil {
		return err
	}
	session, err := s.isp.Session("alice")
	if err != nil {
		return err
	}
	if session.Encap != "v6udpv4" || session.Prefix == nil {
		return fmt.Errorf("expected a v6udpv4 tunnel with a prefix, the session is %+v", session)
	}
	return s.run(s.isp.Natted, "ip", "-6", "address", "show", "dev", e2e.Device)
}

// subscribe starts a client and shows what it says.
func (s *stage) subscribe(host *e2e.Host, user, lines string) (*e2e.Subscriber, address, error) {
	client, err := s.isp.Subscribe(host, user, password, lines)
	if err != nil {
		return nil, address{}, err
	}
	if err := s.file(host, s.isp.ClientFile(host)); err != nil {
		return nil, address{}, err
	}
	s.prompt(host, "tspc", "-c", s.isp.ClientFile(host), "&")
	got, err := client.Up()
	s.print(client.Process.Output())
	return client, got, err
}

func (s *stage) traffic() error {
	if err := s.run(s.isp.Natted, "ping", "-c", "3", "-i", "0.2", e2e.BeyondIPv6.String()); err != nil {
		return err
	}
	s.say("It works from the other side as well: the NAT is no obstacle to who has a tunnel.\n")
	if err := s.run(s.isp.Beyond, "ping", "-c", "3", "-i", "0.2", s.nattedIP6.String()); err != nil {
		return err
	}
	if err := s.tcp("Alice to beyond", s.isp.Natted, s.isp.Beyond, e2e.BeyondIPv6); err != nil {
		return err
	}
	return s.tcp("beyond to Alice", s.isp.Beyond, s.isp.Natted, s.nattedIP6)
}

// tcp copies some megabytes and tells how it went.
func (s *stage) tcp(what string, from, to *e2e.Host, address netip.Addr) error {
	const size = 32 << 20
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	took, err := e2e.Transfer(ctx, from, to, address, size)
	if err != nil {
		return err
	}
	s.say("TCP, %s: %d MB in %.2f s (%.0f Mbit/s), every octet as it was sent.", what, size>>20, took.Seconds(), 8*size/took.Seconds()/1e6)
	return nil
}

func (s *stage) lan() error {
	s.say("Her tspc took a subnet of the prefix for the LAN and announces it there; the computer on it needs no configuration.\n")
	session, err := s.isp.Session("alice")
	if err != nil {
		return err
	}
	own, err := s.isp.LAN.AddressWithin(e2e.LANClient, *session.Prefix)
	if err != nil {
		return err
	}
	if err := s.run(s.isp.LAN, "ping", "-c", "3", "-i", "0.2", e2e.BeyondIPv6.String()); err != nil {
		return err
	}
	return s.run(s.isp.Beyond, "ping", "-c", "3", "-i", "0.2", own.String())
}

func (s *stage) bob() error {
	s.say("He asks the same. There is no NAT, so the server chooses plain IPv6 in IPv4 (protocol 41), which costs 8 octets less.\n")
	var err error
	if s.open, s.openIP6, err = s.subscribe(s.isp.Open, "bob", ""); err != nil {
		return err
	}
	session, err := s.isp.Session("bob")
	if err != nil {
		return err
	}
	if session.Encap != "v6v4" {
		return fmt.Errorf("expected a v6v4 tunnel, the session is %+v", session)
	}
	if err := s.run(s.isp.Open, "ping", "-c", "3", "-i", "0.2", e2e.BeyondIPv6.String()); err != nil {
		return err
	}
	s.say("Bob and Alice reach each other too, through the server:\n")
	return s.run(s.isp.Open, "ping", "-c", "3", "-i", "0.2", s.nattedIP6.String())
}

func (s *stage) mallory() error {
	s.say("Somebody on the router tries Bob's account.\n")
	file := s.isp.ClientFile(s.isp.Router)
	if err := s.isp.Configure(s.isp.Router, "bob", "a guess", ""); err != nil {
		return err
	}
	if err := s.run(s.isp.Router, s.isp.Program("tspc"), "-c", file, "--once"); err == nil {
		return errors.New("a wrong password was good enough")
	}
	if addresses, err := s.isp.Router.Addresses(e2e.Device); err == nil && len(addresses) > 0 {
		return fmt.Errorf("the router has addresses %v", addresses)
	}
	return nil
}

func (s *stage) operator() error {
	// The counters are read from the kernel once a second; the operator waits for those of the last pings.
	err := e2e.Await(10*time.Second, func() error {
		session, err := s.isp.Session("bob")
		if err == nil && session.Traffic.RxPackets < 6 {
			err = fmt.Errorf("only %d packets of bob are counted", session.Traffic.RxPackets)
		}
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(
		s.ctl("session", "list"),
		s.ctl("session", "show", "alice"),
		s.ctl("pool", "list"),
		s.ctl("drop", "list"),
	)
}

func (s *stage) restart() error {
	s.say("The kernel forwards by itself. While Alice and Bob each exchange 1,000 packets a second with beyond, the daemon stops ...\n")
	up, err := e2e.StartFlow(s.isp.Natted, s.nattedIP6, s.isp.Beyond, e2e.BeyondIPv6)
	if err != nil {
		return err
	}
	down, err := e2e.StartFlow(s.isp.Beyond, e2e.BeyondIPv6, s.isp.Open, s.openIP6)
	if err != nil {
		return err
	}
	s.stop(s.isp.Server, s.isp.Daemon())
	if err := s.isp.Stop(); err != nil {
		return err
	}
	if err := s.ctl("status"); err == nil {
		return errors.New("the daemon still answers")
	}
	if err := up.Await(500, 10*time.Second); err != nil {
		return fmt.Errorf("without the daemon: %w", err)
	}
	s.say("... 500 packets later it starts again, finds the tunnels in the kernel and goes on ...\n")
	s.prompt(s.isp.Server, "ddtb", "-c", s.isp.ConfigFile(), "&")
	if err := s.isp.Start(); err != nil {
		return err
	}
	s.print(s.isp.Daemon().Output())
	if err := up.Await(500, 10*time.Second); err != nil {
		return fmt.Errorf("after the start: %w", err)
	}
	if err := errors.Join(s.count("Alice", up), s.count("Bob", down)); err != nil {
		return err
	}
	fmt.Fprintln(s.out)
	return s.ctl("session", "list")
}

// count stops a flow and tells what it lost.
func (s *stage) count(who string, flow *e2e.Flow) error {
	sent, lost, err := flow.Stop()
	s.say("%s: %d packets sent, %d came back, %d lost.", who, sent, sent-uint64(len(lost)), len(lost))
	if err == nil && len(lost) > 0 {
		err = fmt.Errorf("packets were lost: numbers %v", lost[:min(len(lost), 20)])
	}
	return err
}

func (s *stage) end() error {
	s.say("The clients log out and take their interfaces with them.\n")
	for _, client := range []*e2e.Subscriber{s.natted, s.open} {
		s.stop(client.Host, client.Process)
		if err := client.Stop(); err != nil {
			return err
		}
		if _, err := client.Host.Addresses(e2e.Device); err == nil {
			return fmt.Errorf("%s still has %s", client.Host.Name, e2e.Device)
		}
	}
	fmt.Fprintln(s.out)
	if err := s.isp.Empty(); err != nil {
		return err
	}
	if err := errors.Join(s.ctl("session", "list"), s.ctl("lease", "list")); err != nil {
		return err
	}
	s.say("Their leases rest: who comes back gets the same address and prefix. Now the daemon ends.\n")
	s.stop(s.isp.Server, s.isp.Daemon())
	if err := s.isp.Stop(); err != nil {
		return err
	}
	s.say("\nA stopped daemon leaves programs and tables in the kernel for the next one. Nobody comes: they go too.\n")
	if err := s.run(s.isp.Server, s.isp.Program("ddtb"), "remove", "-c", s.isp.ConfigFile()); err != nil {
		return err
	}
	if pinned := s.isp.Pinned(); len(pinned) > 0 {
		return fmt.Errorf("still pinned: %v", pinned)
	}
	return nil
}
